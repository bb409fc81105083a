"""What share of a model stays at half the width, and what keeps the rest."""

import re
from typing import Any

import torch
from torch import nn

from secateur.graph.coupling import Coupling, Gone

WIDE = 0.55
"""A share of the parameters that is more than half, beyond rounding and small frozen tensors."""
_MOST_REASONS = 5
_NONE = "no operation meets it, or it is a single unit"


def half_width(coupling: Coupling, model: nn.Module) -> dict[str, Any]:
    """The share of the parameters that stays when every family loses half its units, by the sizes alone.

    Returns:
        `half`, the share; where it is wide also `held`, why.
    """
    gone = coupling.gone({f.name: torch.arange(f.size) < (f.size + 1) // 2 for f in coupling.families})
    lost = coupling.lost(gone)
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters()}
    share = 1 - sum(lost.get(name, 0) for name in sizes) / sum(sizes.values())
    return {"half": share} | ({"held": held(coupling, sizes, gone)} if share > WIDE else {})


def held(coupling: Coupling, sizes: dict[str, int], gone: Gone) -> list[dict[str, Any]]:
    """Why more than half stays: tensors that stay nearly whole, by the engine's reasons, most parameters first.

    Args:
        sizes: of the parameters, by name.
    """
    lost = coupling.lost(gone)
    why: dict[str, list[str]] = {}
    for site, reason in coupling.frozen.items():
        name, _, dim = site.rpartition(", dimension ")
        why.setdefault(name, []).append(f"{dim}: {_alike(reason)}")
    found: dict[str, dict[str, Any]] = {}
    for name, size in sizes.items():
        stays = size - lost.get(name, 0)
        if stays > WIDE * size:
            reason = "; ".join(sorted(why.get(name, [_NONE])))
            entry = found.setdefault(reason, {"reason": reason, "such_as": name, "parameters": 0})
            entry["parameters"] += stays
    return sorted(found.values(), key=lambda entry: -entry["parameters"])[:_MOST_REASONS]


def explained(row: dict[str, Any]) -> bool:
    """Whether the reasons of the engine account for most of what stays beyond half: half of what they hold."""
    beyond = (row["half"] - 0.5) * row["parameters"]
    return sum(entry["parameters"] / 2 for entry in row["held"] if entry["reason"] != _NONE) > beyond / 2


def _alike(reason: str) -> str:
    """The same for every layer of a stack, and for every size."""
    return re.sub(r"\d+", "*", reason)
