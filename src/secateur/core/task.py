"""Task: what good means. Data, how a batch becomes a model call, the loss, the metrics, how to train for it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, default_collate

from .draws import generator_of
from .errors import NumericsError, RecipeError, SubjectError
from .subjects import Described

Batch = Any
Data = Any
"""A map-style data set, a `DataLoader`, or any iterable of batches that can be iterated again."""


@runtime_checkable
class Metric(Protocol):
    """The interface of `torchmetrics`, so that every metric of it fits here; ours are below."""

    def update(self, outputs: Any, target: Any) -> None:
        """Take in one batch."""
        ...

    def compute(self) -> Any:
        """The value over all batches since `reset`."""
        ...

    def reset(self) -> None:
        """Forget all batches."""
        ...


class Accuracy:
    """Share of samples whose highest output is the target's class, 0 to 1."""

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Take in one batch: outputs `[batch, classes]`, targets `[batch]`."""
        self._right += int((outputs.argmax(-1) == target).sum())
        self._seen += target.numel()

    def compute(self) -> float:
        """The share so far."""
        return self._right / max(self._seen, 1)

    def reset(self) -> None:
        """Forget all batches."""
        self._right = self._seen = 0


@dataclass(frozen=True)
class Training:
    """How one leg of training goes.

    Attributes:
        epochs: passes over the training data; fractions are fine.
        optimizer: "sgd" (with momentum), "adam" or "adamw".
        lr: peak learning rate.
        lr_schedule: "constant", "cosine" or "linear" (to 0), or "step" (a tenth at half and at three quarters).
        warmup: share of the leg over which the learning rate rises linearly to its peak.
        clip: largest gradient norm, or None.
    """

    epochs: float = 1.0
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_schedule: str = "cosine"
    warmup: float = 0.0
    clip: float | None = None


def first_call(model: nn.Module, batch: Batch) -> Any:
    """The usual call: `model(**batch)` for a mapping, else `model(inputs)` with the batch's first part."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(batch[0]) if isinstance(batch, tuple | list) else model(batch)


def target_of(batch: Batch) -> Any:
    """The usual target: `labels` of a mapping, else the batch's last part."""
    return batch["labels"] if isinstance(batch, Mapping) else batch[-1]


def cross_entropy(outputs: Any, batch: Batch) -> Tensor:
    """The model's own loss where its output has one (transformers), else cross-entropy against the target."""
    own = getattr(outputs, "loss", None)
    if isinstance(own, Tensor):
        return own
    logits = getattr(outputs, "logits", outputs)
    return nn.functional.cross_entropy(logits, target_of(batch))


@dataclass(frozen=True)
class Task:
    """What good means for a model: data, loss, metrics, and how a batch becomes a model call.

    `sc.Task(train=train_set, test=test_set)` is classification by cross-entropy, measured by accuracy.

    Attributes:
        train: what training, healing and scores read.
        test: what metrics are measured on; never trained on.
        valid: for choices along the way (early stopping), if there is one.
        call: `(model, batch) -> outputs`.
        loss: `(outputs, batch) -> scalar`, the mean over the batch.
        metrics: by name; anything with torchmetrics' interface. The first one is the one that tables sort by.
        lower_is_better: names of the metrics of which less is better.
        training: how to train for this task from scratch.
        model: builds the task's own untrained model, if it has one.
        seed: order of the data, draws of the training.
    """

    train: Data
    test: Data
    valid: Data | None = None
    name: str = "task"
    call: Callable[[nn.Module, Batch], Any] = first_call
    loss: Callable[[Any, Batch], Tensor] = cross_entropy
    target: Callable[[Batch], Any] = target_of
    metrics: Mapping[str, Metric] = field(default_factory=lambda: {"accuracy": Accuracy()})
    lower_is_better: frozenset[str] = frozenset({"loss"})
    training: Training = Training()
    batch_size: int = 64
    model: Callable[[], nn.Module] | None = None
    seed: int = 0

    def fork(self, seed: int) -> "Task":
        """The same task with another order of data and other draws."""
        return replace(self, seed=seed)

    def split(self, name: str) -> Data:
        """The data of "train", "valid" or "test"."""
        data = getattr(self, name, None) if name in ("train", "valid", "test") else None
        if data is None:
            raise RecipeError(
                f"the task {self.name!r} has no {name!r} data",
                where="Task(...)",
                mend=f"build it with {name}=...",
            )
        return data

    def epoch_steps(self) -> int:
        """Batches in one pass over the training data. Raises `RecipeError` if there are none."""
        data, size, _, drop_last = _source(self.train, self.batch_size)
        steps = len(data) if size is None else len(data) // size if drop_last else -(-len(data) // size)
        if steps == 0:
            raise _empty("train", self.name)
        return steps

    def batches(
        self, split: str = "train", epoch: int = 0, start: int = 0, shuffle: bool = True, keep: Tensor | None = None
    ) -> Iterator[Batch]:
        """The batches of one pass, from batch `start` on.

        The order depends on `(seed, epoch)` only, so a resumed run and a second process see the same batches. A
        loader with a sampler of its own, or a plain iterable, keeps its own order.

        Args:
            split: "train", "valid" or "test".
            epoch: which pass.
            start: how many batches to leave out at the beginning.
            shuffle: in training; else the data's own order.
            keep: `[samples]` bool, only these samples take part; needs a map-style data set.
        """
        data, size, collate, drop_last = _source(self.split(split), self.batch_size)
        seen = False
        if size is None:
            if keep is not None:
                raise RecipeError(
                    "samples of an iterable cannot be chosen", where=f"Task.{split}", mend="give a map-style data set"
                )
            for i, batch in enumerate(data):
                if i >= start:
                    seen = True
                    yield batch
        else:
            order = self._order(len(data), epoch) if shuffle and split == "train" else torch.arange(len(data))
            if keep is not None:
                order = order[keep.flatten()[order]]
            end = len(order) // size * size if drop_last else len(order)
            for at in range(start * size, end, size):
                seen = True
                yield collate(_fetch(data, order[at : at + size].tolist()))
        if not seen and start == 0:
            raise _empty(split, self.name)

    def _order(self, n: int, epoch: int) -> Tensor:
        return torch.randperm(n, generator=generator_of(f"{self.seed}/{epoch}"))

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str = "test", device: Any = None) -> dict[str, float]:
        """The metrics and the mean loss over a split, in eval mode; the mode of every module is put back."""
        device = device if device is not None else device_of(model)
        for metric in self.metrics.values():
            metric.reset()
        total, samples = 0.0, 0
        with in_eval_mode(model):
            for raw in self.batches(split, shuffle=False):
                batch = to_device(raw, device)
                outputs = self.call(model, batch)
                size = batch_length(batch)
                total, samples = total + float(self.loss(outputs, batch)) * size, samples + size
                for metric in self.metrics.values():
                    metric.update(getattr(outputs, "logits", outputs), self.target(batch))
        measured = {name: float(metric.compute()) for name, metric in self.metrics.items()}
        return measured | {"loss": total / samples}


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; afterwards every module has its own mode again (a frozen batch norm stays in eval)."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def to_device(batch: Batch, device: Any) -> Batch:
    """Every tensor of a nested batch on the device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {k: to_device(v, device) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [to_device(v, device) for v in batch])
    return batch


def _like(batch: Any, parts: list[Any]) -> Any:
    """The parts as a list, a tuple or a named tuple, as the batch is."""
    return batch._make(parts) if hasattr(batch, "_make") else type(batch)(parts)


def batch_length(batch: Batch) -> int:
    """Samples in a batch: the first dimension of its first tensor, 1 where it has none."""
    first = _first_tensor(batch)
    return len(first) if first is not None and first.dim() else 1


def _first_tensor(batch: Batch) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((t for t in map(_first_tensor, parts) if t is not None), None)


def first_samples(batch: Batch, count: int = 1) -> Batch:
    """The batch cut down to its first samples.

    The size of a batch is the first dimension that most of its tensors have in common. Others, such as positions, stay
    whole. A list of tensors within a batch is one of samples of different sizes.
    """
    return _picked(batch, lambda samples: samples[:count], _size(batch))


def picked_samples(batch: Batch, index: Tensor) -> Batch:
    """The samples of a batch with these numbers; what is no sample stays whole, as in `first_samples`."""

    def pick(samples: Any) -> Any:
        return samples[index.to(samples.device)] if isinstance(samples, Tensor) else [samples[i] for i in index]

    return _picked(batch, pick, _size(batch))


def joined_batches(batches: Sequence[Batch]) -> Batch:
    """Batches of one form as one batch, sample after sample; what is no sample is taken from the first.

    Raises:
        SubjectError: samples of one batch have another shape than those of the next.
    """
    return _joined(list(batches), [_size(batch) for batch in batches])


def _joined(parts: list[Any], sizes: list[int | None], inside: bool = False) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        if not all(p.dim() and len(p) == n for p, n in zip(parts, sizes, strict=True)):
            return first
        if len({p.shape[1:] for p in parts}) > 1:
            shapes = " and ".join(str(tuple(s)) for s in sorted({p.shape[1:] for p in parts})[:2])
            raise SubjectError(
                f"samples of shapes {shapes} make no batch",
                where="the batches of the task",
                mend="pad or crop all samples alike",
            )
        return torch.cat(parts)
    if _is_list_of_samples(first, inside):
        return [sample for part in parts for sample in part]
    if isinstance(first, Mapping):
        return {k: _joined([p[k] for p in parts], sizes, True) for k in first}
    if isinstance(first, tuple | list):
        return _like(first, [_joined(list(items), sizes, True) for items in zip(*parts, strict=True)])
    return first


def _size(batch: Batch) -> int | None:
    """The first dimension that most tensors of a batch have in common; None where it has none."""
    sizes = Counter(_first_dimensions(batch))
    return max(sizes, key=lambda n: sizes[n]) if sizes else None


def samples_for(model: object, batch: Batch, count: int = 1) -> Batch:
    """`first_samples`, but not fewer than a model takes whose batch has a fixed size."""
    least = model.samples if isinstance(model, Described) else None
    return first_samples(batch, max(count, least or 1))


def _first_dimensions(batch: Batch, inside: bool = False) -> Iterator[int]:
    if isinstance(batch, Tensor):
        yield from batch.shape[:1]
    elif _is_list_of_samples(batch, inside):
        yield len(batch)
    elif isinstance(batch, Mapping | tuple | list):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _first_dimensions(item, inside=True)


def _picked(batch: Batch, pick: Callable[[Any], Any], size: int | None, inside: bool = False) -> Batch:
    if isinstance(batch, Tensor):
        return pick(batch) if batch.dim() and len(batch) == size else batch
    if _is_list_of_samples(batch, inside):
        return pick(batch) if len(batch) == size else batch
    if isinstance(batch, Mapping):
        return {k: _picked(v, pick, size, True) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [_picked(v, pick, size, True) for v in batch])
    return batch


def _is_list_of_samples(batch: Batch, inside: bool) -> bool:
    return inside and type(batch) is list and bool(batch) and all(isinstance(v, Tensor | Mapping) for v in batch)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter or buffer lives; the CPU for a model without any."""
    first: Tensor | None = next(model.parameters(), None)
    if first is None:
        first = next(model.buffers(), None)
    return first.device if first is not None else torch.device("cpu")


def check_loss(loss: Tensor, where: str) -> None:
    """Raise `NumericsError` unless the loss is finite."""
    if not torch.isfinite(loss).all():
        raise NumericsError(
            f"the loss is {float(loss.detach())}",
            where=where,
            mend="lower the learning rate, or check the data and the weights",
        )


def _fetch(data: Any, indices: Sequence[int]) -> list[Any]:
    getitems = getattr(data, "__getitems__", None)
    return list(getitems(indices)) if getitems is not None else [data[i] for i in indices]


def _source(data: Data, batch_size: int) -> tuple[Any, int | None, Callable[[Any], Batch], bool]:
    """`(data set, batch size, collate, drop_last)`; the size is None where batches come ready-made."""
    if isinstance(data, DataLoader):
        plain = _is_plain(data.sampler) and data.batch_size is not None
        if plain and not isinstance(data.dataset, IterableDataset):
            return data.dataset, data.batch_size, data.collate_fn, data.drop_last
        return data, None, default_collate, False
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _holds_batches(data):
        return data, batch_size, default_collate, False
    if not isinstance(data, Iterable) or isinstance(data, Iterator) or not hasattr(data, "__len__"):
        raise RecipeError(
            f"{type(data).__name__} cannot be read again and again, or has no length",
            where="Task(...)",
            mend="give a map-style data set, a DataLoader with a length, or a list of batches",
        )
    return data, None, default_collate, False


def _is_plain(sampler: Any) -> bool:
    """Whether a loader's sampler visits every sample once, in order or shuffled."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def _holds_batches(data: Any) -> bool:
    """A plain list is a list of ready-made batches; everything else with indices is a data set of samples."""
    return isinstance(data, list)


def _empty(split: str, task: str) -> RecipeError:
    return RecipeError(
        "there is no batch: 0 samples were read", where=f"{split!r} data of task {task!r}", mend="check the loader"
    )
