"""Operations without a rule, and those that only make tensors."""

from ..flow import Flow, tensors
from ..ir import Node


def unknown(flow: Flow, node: Node) -> None:
    """Freeze everything that it takes."""
    flow.notes.unknown[flow.index] = node.op
    for value in tensors(node):
        flow.freeze(flow.all(value), f"no rule for {node.op!r}")
    plain(flow, node)


def plain(flow: Flow, node: Node) -> None:
    """What it gives has positions that never vanish, whatever it takes."""
    for value in node.outs:
        if value not in tensors(node):
            flow.set(value, [None] * len(flow.shape(value)))


def filled(flow: Flow, node: Node) -> None:
    """All positions alike, so they may become fewer, if the size that made them does."""
    for value in node.outs:
        flow.set(value, [flow.fresh(size, (value, d)) for d, size in enumerate(flow.shape(value))])


_NUMBERED = """arange randint linspace eye scalar_tensor tril_indices triu_indices normal lift_fresh_copy
_assert_tensor_metadata _assert_async empty_strided new_empty_strided"""
_ALIKE = "zeros ones empty full rand randn new_zeros new_ones new_empty new_full"

RULES = {"unknown": unknown} | dict.fromkeys(_NUMBERED.split(), plain) | dict.fromkeys(_ALIKE.split(), filled)
