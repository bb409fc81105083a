"""What the matrices of `nn.MultiheadAttention` project: a function uses them, and no module of theirs is called."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secateur.core.attention import cut_attention

Listener = Callable[[Tensor, Tensor], None]
_SIGNATURES = {func: inspect.signature(func) for func in (F.multi_head_attention_forward, cut_attention)}
_SEPARATE = (("query", "q_proj_weight"), ("key", "k_proj_weight"), ("value", "v_proj_weight"))


def projects(model: nn.Module, name: str) -> bool:
    """Whether a tensor is a matrix of an `nn.MultiheadAttention`.

    Args:
        name: dotted name of the tensor.
    """
    path, _, leaf = name.rpartition(".")
    around, _, own = path.rpartition(".")
    if isinstance(model.get_submodule(path), nn.MultiheadAttention):
        return leaf.endswith("proj_weight")
    return leaf == "weight" and own == "out_proj" and isinstance(model.get_submodule(around), nn.MultiheadAttention)


class Projections(TorchFunctionMode):
    """While it is active, listeners are told `[batch, time, in]` and `[batch, time, out]` of each projection.

    Where keys come from elsewhere than queries, a matrix that projects both is told both, one after the other.

    Args:
        listeners: by the `id` of the matrix.
    """

    def __init__(self, listeners: Mapping[int, Listener]) -> None:
        super().__init__()
        self._listeners = listeners

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        signature = _SIGNATURES.get(func)
        if signature is None:
            return func(*args, **(kwargs or {}))
        call = signature.bind(*args, **(kwargs or {}))
        given = {**call.arguments, **call.arguments.get("options", {})}
        for source, weight, bias in _inputs(given):
            if id(weight) in self._listeners:
                source = _batch_first(source)
                self._listeners[id(weight)](source, F.linear(source, weight, bias))
        outer = given["out_proj_weight"]
        if id(outer) not in self._listeners:
            return func(*args, **(kwargs or {}))
        # projected by the identity, which changes no bit, and by the matrix afterwards
        identity = torch.eye(outer.shape[1], dtype=outer.dtype, device=outer.device)
        call.arguments |= {"out_proj_weight": identity, "out_proj_bias": None}
        mixed, shares = func(*call.args, **call.kwargs)
        output = F.linear(mixed, outer, given["out_proj_bias"])
        self._listeners[id(outer)](_batch_first(mixed), _batch_first(output))
        return output, shares


def _inputs(given: Mapping[str, Any]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """What is projected, by which matrix, and the bias."""
    bias, packed = given.get("in_proj_bias"), given["in_proj_weight"]
    if packed is not None:
        sources = {id(given[name]): given[name] for name, _ in _SEPARATE}
        yield from ((source, packed, bias) for source in sources.values())
        return
    biases = (None, None, None) if bias is None else bias.chunk(3)
    for (name, weight), own in zip(_SEPARATE, biases, strict=True):
        yield given[name], given[weight], own


def _batch_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1) if x.dim() == 3 else x[None]
