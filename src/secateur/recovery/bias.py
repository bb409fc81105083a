r"""Compensation of what goes by biases (An et al., "Fluctuation-based Adaptive Structured Pruning", AAAI 2024).

    b += W[:,R] m[R]

R are the columns of a layer's inputs that go, m their means: the output keeps its mean. A layer without a bias gets
one.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.core import Healing, InputMoments, Keep, Member, Recovery, Space, Stats, Task
from secateur.core.second_moments import as_matrix, lost_positions, width_of

from .values import Values

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BiasCompensation(Recovery):
    """At every cut, the layers that read what goes get its mean into their bias, which is made where there is none.

    Where a batch norm follows a layer without a bias, its running mean is shifted instead. Computed in float64.
    """

    @property
    def needs(self) -> tuple[InputMoments, ...]:
        return (InputMoments(),)

    @property
    def needs_task(self) -> bool:
        return False

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """It acts at the cuts alone."""
        return Healing()

    def repaired(self, space: Space, keep: Keep, stats: Stats) -> Mapping[str, Tensor]:
        new = Values()
        for m, positions in lost_positions(space, keep, stats, InputMoments()).values():
            _compensate(m, positions, stats, new)
        return new.told()


def _compensate(m: Member, gone: Tensor, stats: Stats, new: Values) -> None:
    """Put what the columns that go give on average where it is added to all that the layer gives."""
    mean, width = stats[m.group, InputMoments()][0], width_of(m)
    columns = gone.repeat_interleave(width).to(mean.device)
    shift = as_matrix(m.group, width).to(mean.device)[:, columns] @ mean[columns]
    path, _, leaf = m.group.name.rpartition(".")
    if m.layer is None or leaf != "weight":
        _log.warning("%s does not run once, so what it loses is not compensated by a bias", m.group.name)
    elif m.layer.bias is not None:
        new[m.layer.bias.name] = new.named(m.layer.bias.name, m.layer.bias.tensor) + shift
    elif m.layer.norm is not None:
        old = m.layer.norm.mean
        new[old.name] = new.named(old.name, old.tensor) - shift
    else:
        zeros = torch.zeros(len(shift), dtype=m.tensor.dtype, device=m.tensor.device)
        new[f"{path}.bias"] = new.named(f"{path}.bias", zeros) + shift
