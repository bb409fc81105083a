"""What the hardware likes: by how many channels kernels advance."""

import torch

CONVOLUTION_STEP = 16
"""By how many channels blocked convolutions advance where vectors are longest (AVX-512, onnxruntime's NCHWc)."""


def channel_multiple(device: torch.device | str = "cpu") -> int:
    """The number of channels by which dense kernels advance; counts that are no multiple of it leave lanes idle.

    Tensor cores take eight half-precision channels at a time. Vector units of a CPU hold 8 (AVX2) or 16 (AVX-512)
    32-bit numbers, and oneDNN blocks channels by 8 or 16; 8 serves both.
    """
    kind = torch.device(device).type
    return 8 if kind in ("cpu", "cuda") else 1
