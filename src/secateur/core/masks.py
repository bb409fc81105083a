"""Masks on weights: boolean buffers beside the parameter, applied in place after every optimizer step.

No product `w * m` enters the graph, so forward and backward cost nothing extra and the gradient stays dense for the
methods that regrow. The mask is a buffer `<parameter>_secateur_mask` of the module that owns the parameter: it goes
through `deepcopy`, `state_dict` and device moves like any buffer, and `remove_masks_` leaves the plain model behind.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.optimizer import register_optimizer_step_post_hook

from .errors import SubjectError

MASK_SUFFIX = "_secateur_mask"


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that owns a dotted tensor name, and the last part of the name. Raises AttributeError."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    getattr(module, leaf)
    return module, leaf


def attach_mask_(model: nn.Module, name: str, mask: Bool[Tensor, "..."]) -> None:
    """Mask a parameter, or change its mask, in place: what goes is exactly zero, what returns starts at zero.

    Args:
        name: dotted name of the parameter.
        mask: of the parameter's shape, True where weights stay.

    Raises:
        SubjectError: the shapes differ.
    """
    module, leaf = owner_of(model, name)
    parameter = getattr(module, leaf)
    if mask.shape != parameter.shape:
        raise SubjectError(
            f"a mask of shape {tuple(mask.shape)} cannot cover a weight of shape {tuple(parameter.shape)}",
            where=f"parameter {name!r}",
            mend="use the keep that was made for this architecture",
        )
    mask = mask.to(parameter.device)
    old = getattr(module, leaf + MASK_SUFFIX, None)
    if old is None:
        module.register_buffer(leaf + MASK_SUFFIX, mask.clone())
    else:
        old.copy_(mask)
    if not parameter.is_meta:
        with torch.no_grad():
            _zero_(parameter, mask)


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """The live masks by parameter name, in the order of the modules; also after `deepcopy` or `load_state_dict`."""
    found = {}
    for path, module in model.named_modules():
        for leaf, buffer in module._buffers.items():
            if leaf.endswith(MASK_SUFFIX) and buffer is not None:
                name = leaf.removesuffix(MASK_SUFFIX)
                found[f"{path}.{name}" if path else name] = buffer
    return found


def remove_masks_(model: nn.Module) -> None:
    """Fold the masks in: zeros stay in the weights, the buffers go, the state dict fits the plain class again."""
    apply_masks_(model)
    for name in masks_of(model):
        module, leaf = owner_of(model, name)
        delattr(module, leaf + MASK_SUFFIX)


def detach_mask_(model: nn.Module, name: str) -> Tensor:
    """Take the mask of a parameter away, whose zeros stay; gives the mask."""
    module, leaf = owner_of(model, name)
    mask: Tensor = getattr(module, leaf + MASK_SUFFIX)
    delattr(module, leaf + MASK_SUFFIX)
    return mask


def apply_masks_(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Zero the pruned weights again, and their moments in the optimizer, in place."""
    for name, mask in masks_of(model).items():
        module, leaf = owner_of(model, name)
        _apply_one_(getattr(module, leaf), mask, optimizer)


_BITS_AS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _zero_(tensor: Tensor, mask: Tensor) -> None:
    """What goes becomes +0.0, whatever it was: the bits are multiplied, so that neither NaN nor a sign survives.

    It is also faster than a product or a fill, which convert the mask to the tensor's type or invert it first.
    """
    tensor.detach().view(_BITS_AS[tensor.element_size()]).mul_(mask)


@torch.no_grad()
def _apply_one_(parameter: Tensor, mask: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    _zero_(parameter, mask)
    if optimizer is not None:
        for moment in optimizer.state.get(parameter, {}).values():
            if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                _zero_(moment, mask)


class MaskKeeper:
    """Keeps the masks of one model in force in any training loop, whichever optimizers come and go.

    After each step of *any* optimizer that holds a masked parameter, the pruned weights and their moments are
    exactly zero again: through gradient accumulation, `GradScaler`, `torch.compile` and re-created optimizers,
    because the hook sits on the step and not on the model. Use it as a context, or call `close`.

    Args:
        model: plain or wrapped; the masks that it has now and gets later are kept.
        mask_gradients: also zero the pruned entries of gradients as they arrive, so that they do not count in
            gradient clipping. Off for methods that regrow by the dense gradient.
    """

    def __init__(self, model: nn.Module, *, mask_gradients: bool = True) -> None:
        self._model = weakref.ref(model)
        self.mask_gradients = mask_gradients
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}
        self._hooks: list[Any] = []
        self._step_hook = register_optimizer_step_post_hook(_step_hook(weakref.ref(self)))
        weakref.finalize(self, self._step_hook.remove)  # a keeper that is never closed leaves no hook behind
        self.refresh()

    def refresh(self) -> None:
        """Look again which parameters are masked; call it after masks were attached or removed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._pairs.clear()
        model = self._model()
        if model is None:
            return
        for name, mask in masks_of(model).items():
            module, leaf = owner_of(model, name)
            parameter = getattr(module, leaf)
            self._pairs[id(parameter)] = (parameter, mask)
            if self.mask_gradients and parameter.requires_grad:
                self._hooks.append(parameter.register_post_accumulate_grad_hook(_gradient_hook(mask)))

    def enforce_(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero the pruned weights that this optimizer holds, and their moments."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in self._pairs:
                    _apply_one_(parameter, self._pairs[id(parameter)][1], optimizer)

    def close(self) -> None:
        """Stop keeping; the masks themselves stay on the model."""
        self._step_hook.remove()
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "MaskKeeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _step_hook(keeper: "weakref.ref[MaskKeeper]") -> Callable[..., None]:
    def after_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
        alive = keeper()
        if alive is not None:
            alive.enforce_(optimizer)

    return after_step


@torch.no_grad()
def _zero_gradient_(parameter: Tensor, mask: Tensor) -> None:
    if parameter.grad is not None:
        _zero_(parameter.grad, mask)


def _gradient_hook(mask: Tensor) -> Callable[[Tensor], None]:
    return lambda parameter: _zero_gradient_(parameter, mask)


class SoftMask(nn.Module):
    """A differentiable mask as a parametrization: the weight becomes `w * mask`, and the mask can be trained."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = nn.Parameter(mask)

    def forward(self, weight: Tensor) -> Tensor:
        """`weight * mask`, in the weight's dtype."""
        return weight * self.mask.to(weight.dtype)


def attach_soft_mask_(model: nn.Module, name: str, mask: Tensor) -> SoftMask:
    """Parametrize a weight by a trainable mask of its shape, in place; gives the mask's module."""
    module, leaf = owner_of(model, name)
    soft = SoftMask(mask.detach().clone())
    parametrize.register_parametrization(module, leaf, soft)
    return soft


def remove_soft_mask_(model: nn.Module, name: str) -> None:
    """Fold a soft mask into its weight, in place."""
    module, leaf = owner_of(model, name)
    parametrize.remove_parametrizations(module, leaf, leave_parametrized=True)


def adopt_torch_masks_(model: nn.Module) -> dict[str, Tensor]:
    """Turn the masks of `torch.nn.utils.prune` into ours, in place.

    Returns:
        The adopted masks by parameter name; empty when there were none.
    """
    from torch.nn.utils import prune

    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        leaves = [n.removesuffix("_orig") for n in module._parameters if n.endswith("_orig")]
        for leaf in leaves:
            mask = module._buffers.get(leaf + "_mask")
            if mask is None:
                continue
            name = f"{path}.{leaf}" if path else leaf
            found[name] = mask != 0
            prune.remove(module, leaf)  # type: ignore[no-untyped-call]
    for name, mask in found.items():
        attach_mask_(model, name, mask)
    return found
