"""Operators that work element by element."""

from collections.abc import Callable
from functools import reduce as fold
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import operator

_ONE: dict[str, Callable[[Any], Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: F.softplus(x, threshold=80),
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
for _name, _function in _ONE.items():
    operator(_name)(lambda at, x, _function=_function: _function(x))


def _div(a: Any, b: Any) -> Any:
    whole = [isinstance(v, int) or (isinstance(v, Tensor) and not v.is_floating_point()) for v in (a, b)]
    return torch.div(a, b, rounding_mode="trunc") if all(whole) else torch.div(a, b)


def _shift_left(a: Tensor, b: Any) -> Tensor:
    return (a.long() << b.long()).to(a.dtype)


_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
}
for _name, _pair in _TWO.items():
    # in the first opsets the shapes were aligned by attributes
    operator(_name, since=7, scalars=not _name.endswith(("And", "Or", "Xor")))(
        lambda at, a, b, _pair=_pair: _pair(a, b)
    )


@operator("Div", since=7, scalars=True)
def div(at: Any, a: Any, b: Any) -> Tensor:
    """Whole numbers are cut off towards zero."""
    return _div(a if isinstance(a, Tensor) else torch.as_tensor(a, dtype=b.dtype, device=b.device), b)


@operator("Pow", since=7, scalars=True)
def power(at: Any, a: Any, b: Any) -> Tensor:
    """The type is that of the base."""
    made = torch.pow(a, b)
    return made.to(a.dtype) if isinstance(a, Tensor) and made.dtype != a.dtype else made


@operator("Mod")
def mod(at: Any, a: Tensor, b: Tensor) -> Tensor:
    """As Python has it, or as C has it."""
    return torch.fmod(a, b) if at.fmod else torch.remainder(a, b)


@operator("BitShift")
def shift(at: Any, a: Tensor, b: Tensor) -> Tensor:
    """Bits to the left or right."""
    if at.direction == "LEFT":
        return _shift_left(a, b)
    return (a.long() >> b.long()).to(a.dtype)


@operator("Max", "Min", "Sum", "Mean")
def several(at: Any, *inputs: Tensor) -> Tensor:
    """Of any number of tensors."""
    if at.op in ("Max", "Min"):
        return fold(torch.maximum if at.op == "Max" else torch.minimum, inputs)
    total = fold(torch.add, inputs)
    return total / len(inputs) if at.op == "Mean" else total


@operator("Clip", since=6)
def clip_by_attributes(at: Any, x: Tensor) -> Tensor:
    """Between two constants."""
    return torch.clamp(x, at.min, at.max)


@operator("Clip", since=11, scalars=True)
def clip(at: Any, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Between two values, of which each may be absent; the upper one wins."""
    if low is None and high is None:
        return x
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return torch.clamp(x, low, high)


@operator("LeakyRelu")
def leaky_relu(at: Any, x: Tensor) -> Tensor:
    """x, or alpha x below 0."""
    return F.leaky_relu(x, at.alpha)


@operator("PRelu", since=7)
def prelu(at: Any, x: Tensor, slope: Tensor) -> Tensor:
    """A slope below 0 for each channel, or of any shape that repeats to that of x."""
    channels = slope.numel() == x.shape[1] if x.dim() > 1 else slope.numel() == 1
    by_channel = slope.dim() == x.dim() - 1 and channels and slope.shape[0] == slope.numel()
    if by_channel or slope.numel() == 1:
        return torch.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


@operator("Elu")
def elu(at: Any, x: Tensor) -> Tensor:
    """alpha (e^x - 1) below 0."""
    return F.elu(x, at.alpha)


@operator("Celu")
def celu(at: Any, x: Tensor) -> Tensor:
    """alpha (e^(x / alpha) - 1) below 0."""
    return F.celu(x, at.alpha)


_ALPHA, _GAMMA = 1.6732632423543772, 1.0507009873554805


@operator("Selu")
def selu(at: Any, x: Tensor) -> Tensor:
    """A scaled elu."""
    if abs(at.alpha - _ALPHA) < 1e-6 and abs(at.gamma - _GAMMA) < 1e-6:
        return F.selu(x)
    return at.gamma * F.elu(x, at.alpha)


@operator("ThresholdedRelu")
def thresholded(at: Any, x: Tensor) -> Tensor:
    """x above alpha, else 0."""
    return F.threshold(x, at.alpha, 0.0)


@operator("HardSigmoid")
def hard_sigmoid(at: Any, x: Tensor) -> Tensor:
    """max(0, min(1, alpha x + beta))."""
    return torch.clamp(x * at.alpha + at.beta, 0, 1)


@operator("Gelu")
def gelu(at: Any, x: Tensor) -> Tensor:
    """x times the share of a normal distribution below x."""
    return F.gelu(x, approximate=at.approximate)


@operator("Swish")
def swish(at: Any, x: Tensor) -> Tensor:
    """x sigmoid(alpha x)."""
    return F.silu(x) if at.alpha == 1 else x * torch.sigmoid(x * at.alpha)


@operator("Shrink")
def shrink(at: Any, x: Tensor) -> Tensor:
    """Nearer to 0 by a bias; 0 where |x| is at most lambda."""
    zero = torch.zeros_like(x)
    return torch.where(x > at.lambd, x - at.bias, torch.where(x < -at.lambd, x + at.bias, zero))


@operator("IsInf")
def is_inf(at: Any, x: Tensor) -> Tensor:
    """Infinite, of either sign or of one."""
    found = torch.zeros_like(x, dtype=torch.bool)
    found = found | torch.isposinf(x) if at.detect_positive else found
    return found | torch.isneginf(x) if at.detect_negative else found


@operator("Where", scalars=True)
def where(at: Any, condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, else y."""
    if not isinstance(condition, Tensor):
        other = x if isinstance(x, Tensor) else y
        condition = torch.as_tensor(condition, device=other.device)
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        kind = torch.float32 if isinstance(x, float) else torch.int64
        x = torch.as_tensor(x, dtype=torch.bool if isinstance(x, bool) else kind, device=condition.device)
    return torch.where(condition, x, y)


def _flat(x: Tensor, axis: int) -> tuple[Tensor, int]:
    """Before opset 13, all dimensions from the axis on were one."""
    axis %= max(x.dim(), 1)
    return (x, axis) if axis == x.dim() - 1 else (x.flatten(axis), axis)


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax_flat(at: Any, x: Tensor) -> Tensor:
    """Over all dimensions from the axis on."""
    flat, axis = _flat(x, at.axis)
    return _shares(at.op, flat, axis).reshape(x.shape)


@operator("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax(at: Any, x: Tensor) -> Tensor:
    """Over one dimension."""
    return _shares(at.op, x, at.axis)


def _shares(op: str, x: Tensor, axis: int) -> Tensor:
    if op == "Hardmax":
        return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)
    return torch.softmax(x, axis) if op == "Softmax" else torch.log_softmax(x, axis)


@operator("LpNormalization")
def lp_normalization(at: Any, x: Tensor) -> Tensor:
    """Divided by the norm along an axis; 0 stays 0."""
    norm = torch.linalg.vector_norm(x, at.p, at.axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@operator("MeanVarianceNormalization")
def mean_variance(at: Any, x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over some axes."""
    axes = list(at.axes)
    middle = x - x.mean(axes, keepdim=True)
    return middle / (middle * middle).mean(axes, keepdim=True).clamp(min=1e-18).sqrt()


@operator("FastGelu", domain="com.microsoft")
def fast_gelu(at: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu by its tanh, of onnxruntime."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("Gelu", "BiasGelu", domain="com.microsoft")
def contributed_gelu(at: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu, of onnxruntime."""
    return F.gelu(x if bias is None else x + bias)


@operator("QuickGelu", domain="com.microsoft")
def quick_gelu(at: Any, x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), of onnxruntime."""
    return x * torch.sigmoid(x * at.get("alpha", 1.702))
