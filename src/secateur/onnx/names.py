"""Names of modules for the nodes of a graph: legal, unique, and nested where the names of the file are."""

import ast
import re
from collections.abc import Sequence

from torch import nn

import onnx

_TAKEN = frozenset(dir(nn.Module())) | {"op", "title", "wanted"}


def paths_of(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """A dotted path for each node; no path begins with all of another one.

    Exporters write the modules that a node comes from into its name, with slashes, or beside it.
    """
    parts = [_parts(node, number) for number, node in enumerate(nodes)]
    scopes = {tuple(p[:n]) for p in parts for n in range(1, len(p))}
    taken: set[tuple[str, ...]] = set()
    found = []
    for own in parts:
        path, extra = tuple(own), 1
        while path in scopes or path in taken:
            extra += 1
            path = (*own[:-1], f"{own[-1]}_{extra}")
        taken.add(path)
        found.append(".".join(path))
    return found


def _parts(node: onnx.NodeProto, number: int) -> list[str]:
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), None)
    name = node.name or f"{node.op_type}_{number}"
    if scopes is not None:
        try:
            told = [str(s) for s in ast.literal_eval(scopes)]
        except (ValueError, SyntaxError):
            told = []
        inside = told[-2] if len(told) > 1 else ""
        return [*map(legal, filter(None, inside.split("."))), legal(name)]
    found: list[str] = []
    before = ""
    for part in name.strip("/").split("/"):
        inner = part.removeprefix(f"{before}.") if before else part
        found += [legal(p) for p in inner.split(".") if p]
        before = part
    return found or [f"{node.op_type}_{number}"]


def legal(name: str) -> str:
    """A name that a module may have."""
    name = re.sub(r"\W", "_", name) or "_"
    return f"{name}_" if name in _TAKEN else name
