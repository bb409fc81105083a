"""Methods for language models; most fit any transformer."""
