"""New random weights at the sizes that there are, by every module's own initialiser; nothing old is left."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from secateur.core import Keep, Space
from secateur.core.strands import as_units, reordered


@torch.no_grad()
def reset_(model: nn.Module) -> list[str]:
    """Initialise a model anew from the global generator, in place, by the `reset_parameters` of its modules.

    Inner modules come first, so that a model's own `reset_parameters` has the last word. Models of transformers know
    how to initialise each module (`_init_weights`). All is NaN before that, so what nobody resets is found.

    Returns:
        The names of parameters that nothing resets; they keep their values.
    """
    learnt = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    before = {n: p.detach().clone() for n, p in learnt.items()}
    for parameter in learnt.values():
        parameter.fill_(torch.nan)
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # transformers leaves alone what it loaded
    for module in reversed(list(model.modules())):
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
    initialise = getattr(model, "_init_weights", None)
    if callable(initialise):
        for module in reversed(list(model.modules())):
            initialise(module)
    left = [n for n, p in learnt.items() if bool(p.isnan().any())]
    for name in left:
        learnt[name].copy_(before[name])
    return left


def cut_alike(tensors: dict[str, Tensor], space: Space, keep: Keep) -> dict[str, Tensor]:
    """Of a dense model's tensors, the positions that stay where coupled units were cut.

    Args:
        tensors: by name, in dense shapes.
        space: of the dense model.
        keep: what stays of it.
    """
    found = dict(tensors)
    units: dict[str, Tensor] = {}
    for group in (g for g in space if g.name in keep):
        units[group.name], order = as_units(group.name, group.size, keep[group.name], group.strands)
        for m in group.members:
            if order is not None and m.group.name in found:
                found[m.group.name] = reordered(found[m.group.name], m, order)
    for (name, dim), stays in _positions(space, units).items():
        if name in found:
            found[name] = found[name].index_select(dim, stays.nonzero().flatten().to(found[name].device))
    return found


def _positions(
    space: Space, keep: Mapping[str, Bool[Tensor, " units"]]
) -> dict[tuple[str, int], Bool[Tensor, " positions"]]:
    """What stays along each dimension of each tensor; a position goes with any of its units."""
    found: dict[tuple[str, int], Tensor] = {}
    for group in (g for g in space if g.name in keep):
        for m in group.members:
            size, lanes = m.site.shape
            stays = found.setdefault((m.group.name, m.dim), torch.ones(size, dtype=torch.bool))
            stays[m.index.cpu()[~keep[group.name]].flatten() // lanes] = False
    return found
