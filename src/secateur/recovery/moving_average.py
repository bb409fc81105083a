r"""A running mean of the weights, taken for the weights in the end (Polyak & Juditsky, 1992; usual for small networks).

    a_t = d_t a_{t-1} + (1 - d_t) w_t,     d_t = min(d, (1 + t) / (10 + t))

so that a short training is not dominated by where it began.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secateur.core import Healing, RecipeError, Recovery, Task, apply_masks_

_STEPS = "/steps"  # no tensor of a model is called so


def averaged(mean: Float[Tensor, "*n"], value: Float[Tensor, "*n"], step: int, decay: float) -> Float[Tensor, "*n"]:
    """The mean after one more value, the `step`-th from 0; the first is taken as it is."""
    kept = min(decay, (1 + step) / (10 + step)) if step else 0.0
    return kept * mean + (1 - kept) * value


@dataclass(frozen=True)
class MovingAverage(Recovery):
    """The model ends with the running mean of its weights and statistics. Each cut begins a new mean.

    Attributes:
        decay: of the mean, 0 to 1; nearer to 1 remembers longer.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise RecipeError(f"decay is {self.decay}", where="MovingAverage(decay=...)", mend="0.999; below 1")

    @property
    def needs_training(self) -> bool:
        return True

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """Nothing is averaged before the first step."""
        return _Averaging(self.decay, model)


class _Averaging(Healing):
    def __init__(self, decay: float, model: nn.Module) -> None:
        self._decay, self._model = decay, model
        self._means: dict[str, Tensor] = {}
        self._steps = 0

    def _live(self) -> dict[str, Tensor]:
        return {n: t for n, t in self._model.state_dict().items() if t.is_floating_point()}

    @torch.no_grad()
    def after_step_(self) -> None:
        live = self._live()
        if {n: t.shape for n, t in live.items()} != {n: t.shape for n, t in self._means.items()}:
            self._means, self._steps = {}, 0
        for name, value in live.items():
            exact = value.double() if value.dtype == torch.float64 else value.float()
            mean = self._means.get(name, exact).to(exact.device)
            self._means[name] = averaged(mean, exact, self._steps, self._decay)
        self._steps += 1

    @torch.no_grad()
    def finish_(self) -> None:
        live = self._live()
        if {n: t.shape for n, t in live.items()} == {n: t.shape for n, t in self._means.items()}:
            for name, value in live.items():
                value.copy_(self._means[name])
            apply_masks_(self._model)

    def state(self) -> dict[str, Tensor]:
        return {**self._means, _STEPS: torch.tensor(self._steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._means = {n: t for n, t in state.items() if n != _STEPS}
        self._steps = int(state[_STEPS])
