"""Learned linear maps from what a smaller model gives to what a larger one gave, with an optimizer of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Projections:
    """One map without bias for each place; a place whose widths change begins anew.

    Attributes:
        lr: of Adam, which does not mind that a loss may be scaled.
        seed: of how they begin.
    """

    lr: float
    seed: int
    _learners: dict[str, torch.optim.Adam] = field(default_factory=dict)
    _saved: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def at(self, name: str, wide: int, narrow: int, device: torch.device) -> Tensor:
        """The map `[wide, narrow]` of a place."""
        if name in self._learners and self._weight(name).shape == (wide, narrow):
            return self._weight(name)
        saved = {key: tensor.to(device) for key, tensor in self._saved.pop(name, {}).items()}
        weight = saved.pop("weight", None)
        if weight is None or weight.shape != (wide, narrow):
            weight, saved = torch.empty(wide, narrow), {}
            rng = torch.Generator().manual_seed(self.seed)
            nn.init.kaiming_uniform_(weight, a=5**0.5, generator=rng)  # as `nn.Linear` begins
        self._learners[name] = torch.optim.Adam([nn.Parameter(weight.to(device))], lr=self.lr)
        if saved:
            self._learners[name].state[self._weight(name)] = saved
        return self._weight(name)

    def step_(self) -> None:
        """One step of each; gradients that are not finite (fp16) are left out."""
        for name, learner in self._learners.items():
            grad = self._weight(name).grad
            if grad is not None and bool(grad.isfinite().all()):
                learner.step()
            learner.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Every map and what its optimizer remembers, by `place/what`."""
        found: dict[str, Tensor] = {}
        for name, learner in self._learners.items():
            weight = self._weight(name)
            found |= {f"{name}/{k}": v for k, v in {"weight": weight.detach(), **learner.state[weight]}.items()}
        return found | {f"{name}/{k}": v for name, saved in self._saved.items() for k, v in saved.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave; each map is built where it is first asked for."""
        self._learners.clear()
        self._saved.clear()
        for key, tensor in state.items():
            name, _, what = key.rpartition("/")
            self._saved.setdefault(name, {})[what] = tensor.clone()

    def _weight(self, name: str) -> Tensor:
        found: Tensor = self._learners[name].param_groups[0]["params"][0]
        return found
