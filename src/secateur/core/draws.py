"""Random draws that depend on what they are for, and on no order in which they are made."""

import hashlib

import torch


def seed_of(purpose: str) -> int:
    """A seed that every process makes of the same words."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big") >> 1


def generator_of(purpose: str) -> torch.Generator:
    """A generator with that seed, on the CPU, so that it draws the same for every device."""
    return torch.Generator().manual_seed(seed_of(purpose))
