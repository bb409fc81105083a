"""Relevance, sent back from the outputs of a model as it is: every operation of the pass brings its rule along.

A function mode of torch sees the operations of the forward pass, whatever modules or functions made them, and gives
each one a backward pass of relevance instead of gradients. Batch norms are folded into the layer before them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from secateur.core import Rules, SubjectError

from .operations import AVERAGES, LOSSES, PASSED_ON, PRODUCTS, ROUTES, SUMS, WEIGHTED
from .ruled import added, attended, averaged, contracted, multiplied, passed_on, ruled, softmaxed
from .rules import Linear, alpha_beta_rule, epsilon_rule


@dataclass(frozen=True, eq=False)
class _Weighed:
    """A layer of the pass: `linear(x, weight) + bias`, whose outputs lie in dimension `out` of the weight."""

    x: Tensor
    owner: Tensor
    weight: Tensor
    bias: Tensor | None
    linear: Linear
    conv: bool
    out: int


class RelevancePass(TorchFunctionMode):
    """While it is on, what is computed carries relevance back.

    Args:
        rules: of the layers.
        told: is given (weight, relevance of its outputs `[..., out]`) of every layer that relevance reaches.
    """

    def __init__(self, rules: Rules, told: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self._rules, self._told = rules, told
        self.anchor = torch.zeros((), requires_grad=True)  # relevance reaches layers that read raw inputs, too
        self._layers: dict[int, tuple[Tensor, _Weighed]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.strip("_")
        if name in WEIGHTED:
            return self._weigh(func, name, *args, **kwargs)
        if name in ROUTES or not any(_carries(t) for t in _tensors((args, kwargs))):
            return func(*args, **kwargs)
        if name in LOSSES:
            with torch.no_grad():
                return func(*args, **kwargs)
        if name == "batch_norm":
            return self._norm(func, *args, **kwargs)
        if name in PASSED_ON:
            return passed_on(lambda v: func(v, *args[1:], **kwargs), args[0])
        if name in AVERAGES:
            return averaged(lambda v: func(v, *args[1:], **kwargs), args[0])
        if name in SUMS and not kwargs:
            return added(args[0], args[1], SUMS[name])
        if name in PRODUCTS and not kwargs:
            return multiplied(PRODUCTS[name], args[0], args[1])
        if name in ("matmul", "bmm") and all(_carries(t) for t in args[:2]):
            return contracted(args[0], args[1])
        if name == "softmax":
            return softmaxed(args[0], kwargs.get("dim", args[1] if len(args) > 1 else -1))
        if name == "scaled_dot_product_attention" and kwargs.keys() <= {"attn_mask", "is_causal", "dropout_p", "scale"}:
            mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
            q, k, v = args[:3]
            return attended(q, k, v, mask, kwargs.get("is_causal", False), kwargs.get("scale"))
        raise SubjectError(
            f"relevance has no rule for the operation {resolve_name(func) or name!r}",
            where="the relevance pass",
            mend="add it to a set of secateur.calibration.operations, or use another score, such as Taylor",
        )

    def _weigh(self, func: Any, name: str, *args: Any, **kwargs: Any) -> Tensor:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        x, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
        rest = args[3:]

        def linear(v: Tensor, w: Tensor) -> Tensor:
            found: Tensor = func(v, w, None, *rest, **given)
            return found

        return self._layer(_Weighed(x, weight, weight, bias, linear, name != "linear", int("transpose" in name)))

    def _layer(self, layer: _Weighed) -> Tensor:
        held, weight, linear = layer.x.detach(), layer.weight.detach(), layer.linear
        with torch.no_grad():
            z = linear(held, weight)
            if layer.bias is not None:
                z = z + (
                    layer.bias.detach().reshape(-1, *[1] * (weight.dim() - 2)) if layer.conv else layer.bias.detach()
                )
        rule = self._rules.conv if layer.conv else self._rules.linear

        def back(r: Tensor) -> tuple[Tensor | None, ...]:
            self._told(layer.owner, r.movedim(1 - weight.dim(), -1) if layer.conv else r)
            if not layer.x.requires_grad:
                return None, None
            if rule == "epsilon":
                return epsilon_rule(held, weight, z, r, linear, self._rules.epsilon), None
            return alpha_beta_rule(held, weight, r, linear, 1.0 if rule == "z+" else self._rules.alpha), None

        out = ruled(z, back, layer.x, self.anchor)
        self._layers[id(out)] = (out, layer)
        return out

    def _norm(self, func: Any, x: Tensor, mean: Any, variance: Any, *args: Any, **kwargs: Any) -> Tensor:
        given = dict(zip(("weight", "bias", "training", "momentum", "eps"), args, strict=False)) | kwargs
        _, layer = self._layers.get(id(x), (x, None))
        grouped = layer is not None and layer.out == 1 and layer.weight.shape[1] != len(mean)
        if layer is None or mean is None or given.get("training") or grouped:
            return passed_on(lambda v: func(v, mean, variance, *args, **kwargs), x)
        with torch.no_grad():
            scale = (variance + given.get("eps", 1e-5)).rsqrt()
            scale = scale if given.get("weight") is None else scale * given["weight"]
            shift = -mean if layer.bias is None else layer.bias - mean
            shift = shift * scale + (0 if given.get("bias") is None else given["bias"])
            shape = [-1 if d == layer.out else 1 for d in range(layer.weight.dim())]
            weight = layer.weight * scale.reshape(shape)
        return self._layer(_Weighed(layer.x, layer.owner, weight, shift, layer.linear, layer.conv, layer.out))


def _carries(tensor: Tensor) -> bool:
    """Whether relevance may come back through it: it was computed, or the pass says so."""
    return tensor.requires_grad and not isinstance(tensor, nn.Parameter)


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))
