"""The part of a model that a layer belongs to: what kind of repeated module it lies in, and how coarse its maps are."""

from collections import Counter
from collections.abc import Mapping

from torch import nn

from secateur.core.blocks import block_around
from secateur.graph import Family
from secateur.graph.flow import Flow, arguments, value_of


def repeated_class(modules: Mapping[str, nn.Module], path: str) -> str:
    """The class of the innermost module around a path that its container holds several of; empty where there is none.

    Args:
        modules: all modules by name.
        path: of a module, such as "layer2.0.conv1".
    """
    block = block_around(modules, path)
    return type(modules[block]).__name__ if block else ""


def sections_of(model: nn.Module, flow: Flow) -> dict[str, str]:
    """By the name of its weight, the section of every layer: "Block, stride 4", "Block" where there are no maps."""
    graph, modules = flow.graph, dict(model.named_modules())
    side = max((max(v.shape[2:]) for v in graph.values if v.kind == "input" and len(v.shape) > 2), default=0)
    found: dict[str, str] = {}
    for node in graph.nodes:
        value = value_of(arguments(node, "input weight bias").get("weight")) if node.op in ("conv", "linear") else None
        name = None if value is None else graph.values[value].name
        if name is None:
            continue
        shape = graph.values[node.outs[0]].shape
        stride = f"stride {round(side / max(shape[2:]))}" if node.op == "conv" and side and max(shape[2:]) else ""
        found.setdefault(name, ", ".join(part for part in (repeated_class(modules, node.module), stride) if part))
    return found


def section_of(family: Family, sections: Mapping[str, str]) -> str:
    """The section that most of the layers lie in which make the units; of equally many, the first."""
    makers = [m.name for m in family.members if "producer" in {r.value for r in m.roles} and m.name in sections]
    return Counter(sections[name] for name in makers).most_common(1)[0][0] if makers else ""
