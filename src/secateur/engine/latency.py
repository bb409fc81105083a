"""The latency of a subject under a keep: the only cost that must be measured, on a copy that is really cut."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from secateur.core import Choice, Keep, Space, Structure
from secateur.runtime import compare_latency


class MeasuredLatency:
    """Forward passes of a cut copy against the model as it was given, in interleaved pairs; 1 is the whole model.

    Args:
        model: as it was given; it is copied.
        structure: with an example to run on.
        example: inputs of the passes.
        call: how an example becomes a call.
    """

    def __init__(self, model: nn.Module, structure: Structure, example: Any, call: Any) -> None:
        self._dense, self._structure = copy.deepcopy(model).eval(), structure
        self._example, self._call = example, call
        self._known: dict[bytes, float] = {}

    def of(self, space: Space, model: nn.Module) -> Space:
        """The space with latency among its costs; the keeps are of this model, which may have been cut already."""
        return replace(space, totals={**space.totals, "latency": lambda keep: self._measured(model, keep)})

    def _measured(self, model: nn.Module, keep: Mapping[str, Tensor]) -> float:
        key = b"".join(name.encode() + mask.cpu().numpy().tobytes() for name, mask in sorted(keep.items()))
        key += str(sum(p.numel() for p in model.parameters())).encode()
        if key not in self._known:
            twin = copy.deepcopy(model).eval()
            if keep:
                self._structure.apply_(twin, Choice(Keep(keep)))
            ratio = compare_latency(self._dense, twin, self._example, call=self._call).ratio
            self._known[key] = ratio
        return self._known[key]
