"""Inputs that a graph can run on, made from what the file says of them."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secateur.core import SubjectError

from .model import Input, OnnxModel

_log = logging.getLogger(__name__)
_BATCH, _LENGTH, _SPACE = 2, 8, 64
"""Sizes where the file names none: samples, positions of a sequence, points along a picture."""


def example_of(model: OnnxModel, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs by name, the same for the same seed; masks are ones, numbers of rows lie within their table.

    Raises:
        SubjectError: the file says nothing of the shape of an input.
    """
    sizes: dict[str, int] = {}
    rng = torch.Generator().manual_seed(seed)
    rows = _rows(model)
    found = {i.name: _filled(i, _shape(i, sizes), rows.get(i.name), rng) for i in model.inputs}
    if sizes:
        told = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        _log.warning("sizes that the ONNX file leaves open are taken as %s; give an example for others", told)
    return found


def _shape(value: Input, sizes: dict[str, int]) -> list[int]:
    if value.shape is None:
        raise SubjectError(
            f"the file says nothing of the shape of its input {value.name!r}",
            where=f"graph input {value.name!r}",
            mend="pass example=inputs (by name, where there are several); on the command line, --input 1,3,32,32",
        )
    picture = len(value.shape) > 3 and value.dtype.is_floating_point
    found = []
    for d, size in enumerate(value.shape):
        if isinstance(size, int) and size > 0:
            found.append(size)
            continue
        default = _BATCH if d == 0 else _SPACE if picture and d > 1 else _LENGTH
        found.append(sizes.setdefault(str(size or f"{value.name}[{d}]"), default))
    return found


def _filled(value: Input, shape: list[int], rows: int | None, rng: torch.Generator) -> Tensor:
    if value.dtype.is_floating_point:
        return torch.randn(shape, generator=rng).to(value.dtype)
    if value.dtype == torch.bool or "mask" in value.name.lower():
        return torch.ones(shape, dtype=value.dtype)
    return torch.randint(rows or 2, shape, generator=rng).to(value.dtype)


def _rows(model: OnnxModel) -> Mapping[str, int]:
    """How many rows the table has that an input tells numbers of."""
    found: dict[str, int] = {}
    names = {i.name for i in model.inputs}
    for step in model._steps:
        if isinstance(step.module, nn.Embedding) and step.takes[0] in names:
            found[step.takes[0]] = min(step.module.num_embeddings, found.get(step.takes[0], 1 << 62))
    return found


def given_by_name(model: OnnxModel, example: object) -> dict[str, Tensor]:
    """An example as inputs by name: of a tensor, several in order, or a mapping."""
    if isinstance(example, Mapping):
        return {str(name): value for name, value in example.items()}
    several = list(example) if isinstance(example, tuple | list) else [example]
    return {i.name: value for i, value in zip(model.inputs, several, strict=False) if isinstance(value, Tensor)}
