"""Gradient flow of a few samples of each class: the gradient of their loss, and its product with the Hessian."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.core import (
    Balanced,
    Flow,
    Group,
    RecipeError,
    Space,
    SubjectError,
    Task,
    batch_length,
    check_loss,
    joined_batches,
    picked_samples,
)


class SampleFlow:
    """Gathers samples batch by batch, and differentiates their mean loss at the end.

    Args:
        samples: which, and how their loss is taken.
        twice: whether the product with the Hessian is wanted as well.
    """

    def __init__(self, model: nn.Module, space: Space, task: Task, samples: Balanced, twice: bool) -> None:
        self._model, self._task, self._samples, self._twice = model, task, samples, twice
        self._groups = [g for g in space if g.site is not None]
        self._seen: Counter[int] = Counter()
        self._parts: list[Any] = []

    def take(self, batch: Any) -> None:
        """Keep what is still needed of a batch.

        Raises:
            SubjectError: samples of each class are wanted, and the targets are no classes.
        """
        if self._samples.per_class is None:
            self._parts.append(batch)
            return
        target = self._task.target(batch)
        if not isinstance(target, Tensor) or target.dim() != 1 or target.is_floating_point():
            raise SubjectError(
                "samples of each class are wanted, and the targets are no classes",
                where=f"task {self._task.name!r}",
                mend="Balanced(per_class=None, temperature=1.0) takes whole batches, whatever the targets",
            )
        chosen = []
        for place, label in enumerate(target.tolist()):
            if self._seen[label] < self._samples.per_class:
                self._seen[label] += 1
                chosen.append(place)
        if chosen:
            self._parts.append(picked_samples(batch, torch.tensor(chosen)))

    def run(self, listen: Callable[[Group, Flow], None]) -> None:
        """Tell every group whose tensor has a gradient.

        Raises:
            RecipeError: one sample alone is to be normalised by its batch.
            NumericsError: the loss is not finite.
            SubjectError: logits are to be divided, and the model gives none.
        """
        chunks = self._chunks()
        total = sum(n for _, n in chunks)
        matrices: list[Tensor] = [p for p in self._model.parameters() if p.dim() > 1 and p.requires_grad]
        own = [g.site.tensor for g in self._groups if g.site is not None]
        with torch.enable_grad(), _norms(self._model, self._samples, min(n for _, n in chunks)):
            asked = list(dict.fromkeys([*matrices, *own]))
            first: list[Tensor | None] = [None] * len(asked)
            for chunk, n in chunks:
                first = _added(first, torch.autograd.grad(self._loss(chunk), asked, allow_unused=True), n / total)
            gradients = dict(zip(asked, first, strict=True))
            products: dict[Tensor, Tensor | None] = {}
            if self._twice:
                second: list[Tensor | None] = [None] * len(own)
                with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be differentiated twice
                    for chunk, n in chunks:
                        second = _added(second, self._along(chunk, matrices, own, gradients), n / total)
                products = dict(zip(own, second, strict=True))
        for group, tensor in zip(self._groups, own, strict=True):
            gradient = gradients[tensor]
            if gradient is not None:
                product = products.get(tensor)
                zero = torch.zeros_like(gradient) if self._twice else None
                listen(group, Flow(gradient, zero if product is None else product, total))

    def _along(
        self, chunk: Any, matrices: list[Tensor], own: list[Tensor], g: dict[Tensor, Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """d/dw of <g, dL/dW> with g held fixed: H g."""
        found = torch.autograd.grad(self._loss(chunk), matrices, create_graph=True, allow_unused=True)
        inner = [
            (g[m].to(d) * d).sum()  # type: ignore[union-attr]
            for m, d in zip(matrices, found, strict=True)
            if d is not None and d.requires_grad
        ]
        if not inner:
            return (None,) * len(own)
        return torch.autograd.grad(torch.stack(inner).sum(), own, allow_unused=True)

    def _loss(self, chunk: Any) -> Tensor:
        outputs = _cooled(self._task.call(self._model, chunk), self._samples.temperature, self._task.name)
        loss = self._task.loss(outputs, chunk)
        check_loss(loss, f"task {self._task.name!r}, while scores collect gradients")
        return loss

    def _chunks(self) -> list[tuple[Any, int]]:
        """Batches to run, no larger than the task's, and how many samples are in each."""
        if self._samples.per_class is None:
            return [(part, batch_length(part)) for part in self._parts]
        whole, total = joined_batches(self._parts), sum(self._seen.values())
        pieces = torch.arange(total).tensor_split(-(-total // self._task.batch_size))
        return [(picked_samples(whole, piece), len(piece)) for piece in pieces]


def _added(sums: list[Tensor | None], more: tuple[Tensor | None, ...], share: float) -> list[Tensor | None]:
    """Sums in at least float32; what was in no graph stays None."""
    found: list[Tensor | None] = []
    for old, new in zip(sums, more, strict=True):
        part = None if new is None else new.detach().to(torch.promote_types(new.dtype, torch.float32)) * share
        found.append(part if old is None else old if part is None else old + part)
    return found


def _cooled(outputs: Any, temperature: float, task: str) -> Any:
    """Outputs whose logits are divided by the temperature."""
    if temperature == 1:
        return outputs
    logits = getattr(outputs, "logits", outputs)
    if isinstance(outputs, Tensor):
        return outputs / temperature
    if isinstance(logits, Tensor) and logits.dim() == 2:
        return SimpleNamespace(logits=logits / temperature, loss=None)
    raise SubjectError(
        f"logits are to be divided by {temperature:g}, and the model gives no row of them for each sample",
        where=f"task {task!r}",
        mend="Balanced(temperature=1.0) takes the loss as it is",
    )


@contextmanager
def _norms(model: nn.Module, samples: Balanced, fewest: int) -> Iterator[None]:
    """Batch norms as in training, but with the buffers of before afterwards."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if samples.norms == "batch" else []
    if norms and fewest < 2:
        raise RecipeError(
            "one sample alone has no spread to be normalised by",
            where='Balanced(norms="batch")',
            mend='more samples of each class, a larger batch_size of the task, or norms="running"',
        )
    before = [(b, b.clone()) for m in norms for b in m.buffers(recurse=False)]
    modes = [m.training for m in norms]
    try:
        for norm in norms:
            norm.training = True
        yield
    finally:
        for norm, mode in zip(norms, modes, strict=True):
            norm.training = mode
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
