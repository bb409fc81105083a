"""Tied parameters: one tensor, several names. It is pruned once and reported once."""

from torch import Tensor, nn


def names_by_tensor(model: nn.Module) -> list[tuple[Tensor, tuple[str, ...]]]:
    """Every parameter once, with all the names it goes by, in the order of first appearance."""
    seen: dict[int, tuple[Tensor, list[str]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        seen.setdefault(id(parameter), (parameter, []))[1].append(name)
    return [(tensor, tuple(names)) for tensor, names in seen.values()]
