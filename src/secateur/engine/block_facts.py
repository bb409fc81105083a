"""What is told of a block: how much of its layers' outputs is lost, time, memory."""

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.core import Choice, InputGram, InputNorm, Space

_ROWS = 64
_MOMENTS = (InputGram(), InputGram(precise=False), InputNorm())


@torch.no_grad()
def errors(space: Space, choice: Choice, evidence: Mapping[Any, Tensor]) -> dict[str, float]:
    """Relative squared error of the layers' outputs, before and after repair, from second moments of their inputs.

    Of matrices only, on up to 64 rows of each, evenly spaced. Where only norms of inputs are known, inputs count as
    uncorrelated.
    """
    whole = before = after = 0.0
    for group in space:
        moments = next((evidence[group.name, s] for s in _MOMENTS if (group.name, s) in evidence), None)
        if moments is None or group.site is None or group.name not in choice.keep:
            continue
        W = group.weight
        if moments.shape[0] != W.shape[1] or group.site.tensor.dim() > 2:
            continue
        rows = torch.arange(0, len(W), max(len(W) // _ROWS, 1))[:_ROWS]
        old, stays = W[rows].double(), group.site.unfold(group.site.spread(choice.keep[group.name]))[rows]
        new = choice.values.get(group.name)
        new = old if new is None else group.site.unfold(new)[rows].double()
        whole += _energy(old, moments)
        before += _energy(old.masked_fill(stays, 0), moments)
        after += _energy(old - new.masked_fill(~stays, 0), moments)
    return {"error_before": before / whole, "error": after / whole} if whole else {}


def _energy(W: Tensor, moments: Tensor) -> float:
    W = W.to(moments.dtype)
    return float((W @ moments * W).sum() if moments.dim() == 2 else (W.square() @ moments).sum())


class Clock:
    """Time and memory of one block after another."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap, and the high-water mark of memory so far."""
        wall, cpu = time.monotonic(), time.process_time()
        told = {"wall_s": round(wall - self._wall, 3), "cpu_s": round(cpu - self._cpu, 3)}
        self._wall, self._cpu = wall, cpu
        unit = 1 if sys.platform == "darwin" else 1024
        return told | {"peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)}
