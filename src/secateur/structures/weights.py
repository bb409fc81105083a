"""Weights: single ones, N of every M, or blocks of RxC. They are masked in place, and the model keeps its shapes."""

from dataclasses import dataclass

import torch
from torch import nn

from secateur.core import (
    Choice,
    Group,
    Mask,
    Plan,
    RecipeError,
    Site,
    Space,
    Structure,
    SubjectError,
    attach_mask_,
    owner_of,
)

from .matrices import Matrix, input_last, weight_matrices

Patterns = tuple[str, ...]


@dataclass(frozen=True)
class Weights(Structure):
    """Single weights of Linear, convolution and recurrent matrices.

    Attributes:
        include, exclude: shell patterns on tensor or module names.
        embeddings: whether embedding tables are pruned as well.
        floor: fewest weights that stay in each matrix (all of them in a smaller one).
    """

    include: Patterns = ("*",)
    exclude: Patterns = ()
    embeddings: bool = False
    floor: int = 0

    def find(self, subject: object) -> Space:
        """One group per matrix; a tied tensor is one group."""
        matrices, skipped = weight_matrices(subject, self.include, self.exclude, self.embeddings)
        groups = []
        for m in matrices:
            site = Site(m.name, m.tensor, m.axes, m.rows)
            groups.append(
                Group(m.name, site.shape, floor=min(self.floor, m.tensor.numel()), costs=_costs(m), site=site)
            )
        return Space(tuple(groups), skipped)

    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Mask the weights in place."""
        return subject, mask_(subject, self.find(subject), choice)


@dataclass(frozen=True)
class NM(Structure):
    """N of every M consecutive input channels of each output row stay (2:4 keeps two of four).

    Convolutions are grouped along their input channels at each kernel position. A matrix whose input width is not a
    multiple of M is left out and named.

    Raises:
        RecipeError: not 0 < n < m.
    """

    n: int = 2
    m: int = 4
    include: Patterns = ("*",)
    exclude: Patterns = ()

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise RecipeError(
                f"{self.n}:{self.m} is no pattern", where="NM(n, m)", mend="n of every m stay: 0 < n < m, such as 2:4"
            )

    def find(self, subject: object) -> Space:
        """One group per matrix, in lanes of M."""
        matrices, skipped = weight_matrices(subject, self.include, self.exclude, embeddings=False)
        groups = []
        for m in matrices:
            axes = input_last(m)
            channels = m.tensor.shape[axes[-1]] // m.groups
            if channels % self.m:
                skipped[m.name] = f"{self.m} does not divide its {channels} input channels (axis {axes[-1]})"
                continue
            site = Site(m.name, m.tensor, axes, 1)
            lanes = m.tensor.numel() // self.m
            groups.append(Group(m.name, site.shape, lanes=lanes, exact=self.n, costs=_costs(m), site=site))
        if not groups:
            raise SubjectError(
                f"no matrix can be pruned to {self.n}:{self.m}",
                where="; ".join(f"{name}: {why}" for name, why in skipped.items()),
                mend="choose an M that divides the input channels",
            )
        return Space(tuple(groups), skipped)

    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Mask the weights in place."""
        return subject, mask_(subject, self.find(subject), choice)


@dataclass(frozen=True)
class Blocks(Structure):
    """Blocks of `rows` x `cols` neighbouring weights of the matrix `[out, in * kernel]`; they go as a whole.

    A matrix that the block does not divide is left out and named.
    """

    rows: int = 4
    cols: int = 4
    include: Patterns = ("*",)
    exclude: Patterns = ()
    embeddings: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise RecipeError(
                f"a block of {self.rows}x{self.cols} is empty", where="Blocks(rows, cols)", mend="both are 1 or more"
            )

    def find(self, subject: object) -> Space:
        """One group per matrix; a unit is a block."""
        matrices, skipped = weight_matrices(subject, self.include, self.exclude, self.embeddings)
        groups = []
        for m in matrices:
            try:
                site = Site(m.name, m.tensor, m.axes, m.rows, (self.rows, self.cols))
            except SubjectError as error:
                skipped[m.name] = error.what
                continue
            groups.append(Group(m.name, site.shape, costs=_costs(m, self.rows * self.cols), site=site))
        if not groups:
            raise SubjectError(
                f"no matrix can be cut into blocks of {self.rows}x{self.cols}",
                where="; ".join(f"{name}: {why}" for name, why in skipped.items()),
                mend="choose a block that divides the matrices",
            )
        return Space(tuple(groups), skipped)

    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Mask the weights in place."""
        return subject, mask_(subject, self.find(subject), choice)


def _costs(matrix: Matrix, weights: int = 1) -> dict[str, float]:
    return {"params": float(weights), "bytes": float(weights * matrix.tensor.element_size())}


@torch.no_grad()
def mask_(model: nn.Module, space: Space, choice: Choice) -> Plan:
    """Write the choice's new values, then mask what goes, in place. Nothing changes unless all fits."""
    unknown = [name for name in choice.keep if name not in space]
    if unknown:
        raise SubjectError(
            f"the keep speaks of {unknown[0]!r}, which is no group of this model",
            where=type(model).__name__,
            mend="use a keep that the same structure made for this architecture",
        )
    for name, keep in choice.keep.masks.items():
        if tuple(keep.shape) != space[name].shape:
            raise SubjectError(
                f"a keep of shape {tuple(keep.shape)} cannot cover units of shape {space[name].shape}",
                where=f"group {name!r} of {type(model).__name__}",
                mend="use a keep that the same structure made for this architecture",
            )
    for name, value in choice.values.items():
        module, leaf = owner_of(model, name)
        getattr(module, leaf).copy_(value)
    for name in choice.keep:
        site = space[name].site
        assert site is not None
        attach_mask_(model, name, site.spread(choice.keep[name].to(site.tensor.device)))
    return Plan(tuple(Mask(name) for name in choice.keep))
