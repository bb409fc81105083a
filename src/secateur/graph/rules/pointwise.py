"""Element by element: dimensions are aligned from the right, and those of equal length are one."""

from ..flow import Flow, Role, tensors
from ..ir import Node
from ..labels import Dim


def pointwise(flow: Flow, node: Node) -> None:
    """Equal dimensions become one; dimensions of size 1 are repeated and carry nothing."""
    taken = tensors(node)
    for value in node.outs:
        flow.set(value, [_together(flow, taken, value, d) for d in range(-len(flow.shape(value)), 0)])
    for value in taken:
        for d in range(len(flow.shape(value))):
            flow.role(value, d, Role.CARRIER)


def _together(flow: Flow, taken: list[int], out: int, d: int) -> Dim:
    size = flow.shape(out)[d]
    found: Dim = None
    first = True
    for value in taken:
        shape = flow.shape(value)
        if len(shape) >= -d and shape[d] == size and size > 1:
            labels = flow.dim(value, d)
            found = labels if first else flow.equate(found, labels)
            first = False
    return found


def same(flow: Flow, node: Node) -> None:
    """The first argument again, whatever the others say."""
    first = tensors(node)[0]
    for value in node.outs:
        if flow.shape(value) == flow.shape(first):
            flow.set(value, flow.all(first))
        else:
            flow.set(value, [None] * len(flow.shape(value)))


_SAME = """clone detach alias contiguous lift_fresh _to_copy to dropout native_dropout _conj positive
zeros_like ones_like empty_like rand_like randn_like full_like view_as_real_copy _cast_Float"""
_EACH = """add sub mul div rsub pow where clamp relu relu6 hardtanh leaky_relu elu selu gelu silu mish sigmoid tanh
hardswish hardsigmoid softplus exp log log1p sqrt rsqrt abs neg sin cos masked_fill maximum minimum eq ne lt le gt ge
bitwise_and bitwise_or bitwise_not bitwise_xor logical_and logical_or logical_not addcmul addcdiv lerp copy fill zero
threshold log_sigmoid_forward floor ceil round remainder fmod reciprocal square sign erf isnan isinf atan2 celu"""

RULES = {"pointwise": pointwise} | dict.fromkeys(_EACH.split(), pointwise) | dict.fromkeys(_SAME.split(), same)
