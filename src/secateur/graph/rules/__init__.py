"""One rule for each operation: what it does to the labels of what it takes. What has no rule freezes all of that."""

from collections.abc import Callable

from ..flow import Flow
from ..ir import Node
from . import attention, contraction, norm, numbered, pointwise, recurrent, reduce, shape, unknown

Rule = Callable[[Flow, Node], None]

RULES: dict[str, Rule] = {}
for _module in (unknown, pointwise, shape, reduce, numbered, norm, contraction, attention, recurrent):
    RULES.update(_module.RULES)

__all__ = ["RULES", "Rule"]
