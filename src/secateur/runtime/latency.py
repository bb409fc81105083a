"""Latency of one model against another: interleaved pairs, process CPU time, medians.

Wall-clock time on a busy machine is noise. A pair runs both models back to back, and the ratio of each pair cancels
what slows both.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from secateur.core import device_of, to_device
from secateur.core.task import first_call, in_eval_mode

Call = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Comparison:
    """Medians over pairs: `ratio` is the second model's time over the first's, below 1 = faster."""

    ratio: float
    first_ms: float
    second_ms: float
    pairs: int


def compare_latency(
    first: nn.Module, second: nn.Module, example: Any, pairs: int = 21, repeats: int = 5, call: Call = first_call
) -> Comparison:
    """Forward passes in eval mode, in interleaved pairs after a warm-up.

    Args:
        example: a batch, or inputs alone.
        call: how a batch becomes a model call, as in `Task`.
        pairs: how many pairs; the medians are over these.
        repeats: forward passes in each half of a pair.
    """
    runs = [_runner(m, example, repeats, call) for m in (first, second)]
    with torch.no_grad(), in_eval_mode(first), in_eval_mode(second):
        for run in runs:
            run()
        times = [(runs[0](), runs[1]()) for _ in range(pairs)]
    return Comparison(
        ratio=statistics.median(b / a for a, b in times),
        first_ms=statistics.median(a for a, _ in times) * 1e3,
        second_ms=statistics.median(b for _, b in times) * 1e3,
        pairs=pairs,
    )


def _runner(model: nn.Module, example: Any, repeats: int, call: Call) -> Callable[[], float]:
    device = device_of(model)
    batch = to_device(example, device)
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time  # CPU time says nothing about a GPU

    def run() -> float:
        if cuda:
            torch.cuda.synchronize(device)
        start = clock()
        for _ in range(repeats):
            call(model, batch)
        if cuda:
            torch.cuda.synchronize(device)
        return max(clock() - start, 1e-9) / repeats

    return run
