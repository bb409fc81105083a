"""Gradients and Hessians of the loss with respect to a few weights of one layer, sample by sample."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from secateur.core import Group, RecipeError, Task, View, owner_of, token_view
from secateur.core.second_moments import along_inputs
from secateur.core.task import batch_length, check_loss, picked_samples

_AT_ONCE = 1 << 23


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient meanwhile."""
    wanted = {p: p.requires_grad for p in model.parameters()}
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in wanted.items():
            parameter.requires_grad_(before)


class Slopes:
    """Gradients of the loss of one batch with respect to the weight of one layer, whose parameters are all frozen.

    One pass back gives them for Linear layers, those of GPT-2, and convolutions without groups, whose outputs have a
    row for each sample: a sample's gradient is a product of what the layer was given and of what came back. Others take
    a pass for each sample.

    Attributes:
        mean: of the loss, as the site's matrix.
        used: whether the loss depends on the layer: an expert that no token is sent to does not run.
    """

    def __init__(self, model: nn.Module, task: Task, batch: Any, group: Group) -> None:
        assert group.site is not None
        self._model, self._task, self._batch, self._site = model, task, batch, group.site
        self.samples = batch_length(batch)
        module, leaf = owner_of(model, group.site.name)
        shared = sum(p is group.site.tensor for m in model.modules() for p in m._parameters.values()) > 1
        view = None if shared or leaf != "weight" or group.site.tensor.dim() < 2 else token_view(module)
        self._calls: list[tuple[Tensor, Tensor]] | None = None
        if view is not None:
            self._calls = self._heard(module, view)
        self.used = self._calls is not None
        if self._calls is None:
            self.mean = self._gradient(batch)
            return
        self._order = group.site.unfold(along_inputs(group, torch.arange(self._calls[0][0].shape[2])))[0]
        total = sum(torch.einsum("bto,bti->oi", back, given) for given, back in self._calls)
        assert isinstance(total, Tensor)
        self.mean = total[:, self._order.to(total.device)] / self.samples

    def of(self, entries: Int[Tensor, " n"]) -> Float[Tensor, "samples n"]:
        """The gradient of each sample's loss with respect to these entries of the site's matrix."""
        if not self.used:
            return torch.zeros(self.samples, len(entries), device=self.mean.device)
        if self._calls is None:
            one = torch.arange(self.samples)
            parts = [self._gradient(picked_samples(self._batch, one[i : i + 1])).flatten() for i in one]
            return torch.stack([part[entries.to(part.device)] for part in parts])
        rows, columns = entries // self.mean.shape[1], self._order[entries.cpu() % self.mean.shape[1]]
        found = torch.zeros(self.samples, len(entries), device=self.mean.device)
        for given, back in self._calls:
            some = max(1, _AT_ONCE // (given.shape[1] * len(entries)))
            for at in range(0, self.samples, some):
                part = slice(at, at + some)
                found[part] += (given[part][:, :, columns] * back[part][:, :, rows]).sum(1)
        return found

    def _heard(self, module: nn.Module, view: View) -> list[tuple[Tensor, Tensor]] | None:
        """Inputs and what comes back, `[samples, tokens, ...]`, of each call; None where samples lie otherwise."""
        given: list[Tensor] = []
        outputs: list[Tensor] = []

        def listen(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            given.extend(x.detach().clone() for x in args[:1])  # none where it is called by keyword
            outputs.append(output.clone() if output.requires_grad else output.detach().requires_grad_())
            return outputs[-1].clone()  # which may be changed in place

        handle = module.register_forward_hook(listen)
        try:
            loss = self._loss(self._batch)
        finally:
            handle.remove()
        if not outputs or len(given) < len(outputs) or any(len(y) != self.samples for y in outputs):
            return None
        backs = torch.autograd.grad(loss, outputs, allow_unused=True)
        found = []
        for x, y, back in zip(given, outputs, backs, strict=True):
            back = torch.zeros_like(y) if back is None else back * self.samples
            found.append((_by_sample(view.inputs(x)), _by_sample(view.outputs(back))))
        return found

    def _loss(self, batch: Any) -> Tensor:
        with torch.enable_grad():
            loss = self._task.loss(self._task.call(self._model, batch), batch)
        check_loss(loss, f"task {self._task.name!r}")
        return loss

    def _gradient(self, batch: Any) -> Tensor:
        tensor = self._site.tensor
        tensor.requires_grad_()
        try:
            loss = self._loss(batch)
            found = torch.autograd.grad(loss, tensor, allow_unused=True)[0] if loss.requires_grad else None
        finally:
            tensor.requires_grad_(False)
        self.used = self.used or found is not None
        return self._site.unfold(torch.zeros_like(tensor) if found is None else found).float()


def _by_sample(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1, x.shape[-1]).float()


def hessian(
    model: nn.Module, task: Task, batch: Any, group: Group, entries: Int[Tensor, " n"], piece: int | None = None
) -> Float[Tensor, "n n"]:
    """The exact Hessian of a batch's loss with respect to some entries of the site's matrix.

    Args:
        piece: rows that are differentiated at once; None for all.

    Raises:
        RecipeError: an operation of the model cannot be differentiated twice.
    """
    site = group.site
    assert site is not None
    where = site.unfold(torch.arange(prod(site.tensor.shape)).reshape(site.tensor.shape)).flatten()[entries.cpu()]
    where = where.to(site.tensor.device)
    moving = site.tensor.detach().flatten()[where].requires_grad_()
    try:
        with torch.enable_grad():
            weight = site.tensor.detach().flatten().index_put((where,), moving).reshape(site.tensor.shape)
            loss = torch.func.functional_call(_Loss(model, task), {f"model.{site.name}": weight}, (batch,))
            (slope,) = torch.autograd.grad(loss, moving, create_graph=True)
        rows = []
        eye, some = torch.eye(len(where), dtype=slope.dtype, device=slope.device), piece or len(where)
        for at in range(0, len(where), some):
            (found,) = torch.autograd.grad(slope, moving, eye[at : at + some], retain_graph=True, is_grads_batched=True)
            rows.append(found)
    except (RuntimeError, NotImplementedError) as error:
        raise RecipeError(
            f"the loss cannot be differentiated twice: {str(error).partition(chr(10))[0]}",
            where=f"tensor {group.name!r}",
            mend='curvature="gradient_per_sample", or torch.nn.attention.sdpa_kernel(SDPBackend.MATH) around the call',
        ) from error
    return torch.cat(rows).float()


class _Loss(nn.Module):
    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model, self._task = model, task

    def forward(self, batch: Any) -> Tensor:
        return self._task.loss(self._task.call(self.model, batch), batch)
