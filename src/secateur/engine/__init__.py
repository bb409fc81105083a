"""Runs a recipe: joins the rooms, drives schedules and hooks, keeps run folders, writes and reads checkpoints."""
