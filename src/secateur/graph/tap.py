"""Sees every operation of a forward pass, composite ones whole: a linear layer, an attention, an LSTM is one operation.

Two modes of torch work together. A function mode catches the composites of `COMPOSITES` before they fall apart; a
dispatch mode sees everything else in the few hundred operations of aten, whatever Python spelling was used. No tracing,
no guards: Python runs as it is. `torch.export` gives a similar graph and costs about ten times as much.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.core.attention import cut_attention

COMPOSITES: dict[Any, str] = {
    F.linear: "linear",
    torch.conv1d: "conv",
    torch.conv2d: "conv",
    torch.conv3d: "conv",
    torch.conv_transpose1d: "conv_transpose",
    torch.conv_transpose2d: "conv_transpose",
    torch.conv_transpose3d: "conv_transpose",
    F.batch_norm: "batch_norm",
    torch.batch_norm: "batch_norm",
    F.instance_norm: "instance_norm",
    F.layer_norm: "layer_norm",
    torch.layer_norm: "layer_norm",
    F.group_norm: "group_norm",
    torch.group_norm: "group_norm",
    F.rms_norm: "rms_norm",
    F.embedding: "embedding",
    torch.matmul: "matmul",
    Tensor.matmul: "matmul",
    F.scaled_dot_product_attention: "attention",
    F.multi_head_attention_forward: "multi_head_attention",
    cut_attention: "multi_head_attention",
    F.pixel_shuffle: "pixel_shuffle",
    F.pixel_unshuffle: "pixel_unshuffle",
    torch.prelu: "prelu",
    torch._weight_norm: "weight_norm",
    torch.lstm: "lstm",
    torch.gru: "gru",
    torch.rnn_tanh: "rnn",
    torch.rnn_relu: "rnn",
    torch.dropout: "dropout",
    F.dropout: "dropout",
}
_SILENT = frozenset({"device", "sym_size", "sym_numel", "sym_stride", "_local_scalar_dense", "is_same_size"})


class Tap:
    """A pass over a model, operation by operation; `operation` is what a subclass overrides.

    Args:
        model: whose modules are named.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(module): name for name, module in reversed(list(model.named_modules(remove_duplicate=False)))}
        self._stack: list[str] = [""]
        self._inside = False

    @property
    def module(self) -> str:
        """Dotted path of the module that runs now."""
        return self._stack[-1]

    def operation(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation; gives its result."""
        raise NotImplementedError

    def whole(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`operation`, without being told of what it consists of."""
        if self._inside:
            return func(*args, **kwargs)
        self._inside = True
        try:
            return self.operation(op, func, args, kwargs)
        finally:
            self._inside = False

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """While it lasts, operations are nobody's."""
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before

    @contextmanager
    def open(self, *, only_composites: bool = False) -> Iterator[None]:
        """While it lasts, every operation of this thread comes by, or only the composites, which costs a fifth."""
        entered = hooks.register_module_forward_pre_hook(self._enter)
        left = hooks.register_module_forward_hook(self._leave, with_kwargs=True)
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with nullcontext() if only_composites else _Aten(self), _Composites(self):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            entered.remove()
            left.remove()
            hooks._global_forward_hooks_with_kwargs.pop(left.id, None)  # torch leaves that behind

    def _enter(self, module: nn.Module, _args: Any) -> None:
        self._stack.append(self._paths.get(id(module), self._stack[-1]))

    def _leave(self, _module: nn.Module, _args: Any, _kwargs: Any, _output: Any) -> None:
        if len(self._stack) > 1:
            self._stack.pop()


class _Composites(TorchFunctionMode):
    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        op = COMPOSITES.get(func)
        if op is None:
            return func(*args, **(kwargs or {}))
        if op == "batch_norm" and args and _is_hollow(args[0]):
            func = _normed
        return self._tap.whole(op, func, args, kwargs or {})


def _is_hollow(tensor: Any) -> bool:
    """Whether it has a shape and no data."""
    return isinstance(tensor, FakeTensor) or (isinstance(tensor, Tensor) and tensor.is_meta)


def _normed(source: Tensor, *others: Any, **named: Any) -> Tensor:
    """A batch norm of tensors without data: torch takes it apart, which costs milliseconds and gives the same shape."""
    for other in (*others, *named.values()):
        if isinstance(other, Tensor) and other.shape != source.shape[1:2]:
            raise RuntimeError(f"a batch norm of {tuple(other.shape)} does not fit {source.shape[1]} channels")
    return torch.empty_like(source)


class _Aten(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, tap: Tap) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tap = tap

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        op = func.overloadpacket.__name__
        if op in _SILENT:
            return func(*args, **(kwargs or {}))
        return self._tap.whole(op, func, args, kwargs or {})
