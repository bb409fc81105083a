"""What may go: units, in groups that compete, in the ordered space that a structure finds on a subject."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from .errors import SubjectError
from .layers import Layer


@dataclass(frozen=True, eq=False)
class Site:
    """Where the units of a group live in one tensor: a matrix view of it, cut into equal tiles.

    The view puts `rows` of the permuted axes first, so that a Linear, a convolution and an N:M group all read as
    `[out, in]`. A unit is one tile: 1x1 is a weight, RxC a block, 1xC a row.

    Attributes:
        name: the tensor's dotted name in the subject.
        tensor: the live tensor; the site never changes it.
        axes: the permutation that makes the matrix view; empty means as stored.
        rows: how many of the permuted axes form the rows.
        tile: height and width of a unit in the matrix.
    """

    name: str
    tensor: Tensor
    axes: tuple[int, ...] = ()
    rows: int = 1
    tile: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        height, width = self._matrix_shape()
        if height % self.tile[0] or width % self.tile[1]:
            raise SubjectError(
                f"units of {self.tile[0]}x{self.tile[1]} do not divide a matrix of {height}x{width}",
                where=f"tensor {self.name!r} of shape {tuple(self.tensor.shape)}",
                mend="choose a size that divides both, or leave the tensor out with exclude=[...]",
            )

    def _permuted_shape(self) -> list[int]:
        return [self.tensor.shape[a] for a in (self.axes or range(self.tensor.dim()))]

    def _matrix_shape(self) -> tuple[int, int]:
        shape = self._permuted_shape()
        return math.prod(shape[: self.rows]), math.prod(shape[self.rows :])

    @property
    def shape(self) -> tuple[int, int]:
        """Units per column and per row of the matrix."""
        height, width = self._matrix_shape()
        return height // self.tile[0], width // self.tile[1]

    def unfold(self, tensor: Tensor) -> Shaped[Tensor, "out in"]:
        """A tensor of this site's shape (the weight, its gradient) as the matrix."""
        view = tensor.permute(self.axes) if self.axes else tensor
        return view.reshape(self._matrix_shape())

    def fold(self, matrix: Tensor) -> Tensor:
        """The inverse of `unfold`."""
        view = matrix.reshape(self._permuted_shape())
        if not self.axes:
            return view
        return view.permute([self.axes.index(d) for d in range(len(self.axes))]).contiguous()

    def pool(self, elements: Float[Tensor, "out in"]) -> Float[Tensor, "units_out units_in"]:
        """One value per unit: the sum over its tile."""
        if self.tile == (1, 1):
            return elements
        (a, b), (r, c) = self.shape, self.tile
        return elements.reshape(a, r, b, c).sum((1, 3))

    def gathered(self, mask: Bool[Tensor, "..."]) -> Bool[Tensor, "units_out units_in"]:
        """A mask of the tensor's own shape as a keep per unit: a unit stays if any of it does. Undoes `spread`."""
        return self.pool(self.unfold(mask).float()) > 0

    def tiles(self, tensor: Tensor) -> Shaped[Tensor, "units elements"]:
        """The units of this site, each a row of its elements; tiles are as high as one row of the matrix."""
        assert self.tile[0] == 1, self.tile
        return self.unfold(tensor).reshape(math.prod(self.shape), -1)

    def untiled(self, tiles: Shaped[Tensor, "units elements"]) -> Tensor:
        """The inverse of `tiles`."""
        return self.fold(tiles.reshape(self._matrix_shape()))

    def spread(self, keep: Shaped[Tensor, "units_out units_in"]) -> Tensor:
        """A value per unit, such as whether it stays, at each of its elements, in the tensor's own shape."""
        if self.tile != (1, 1):
            keep = keep.repeat_interleave(self.tile[0], 0).repeat_interleave(self.tile[1], 1)
        return self.fold(keep)


@dataclass(frozen=True, eq=False)
class Member:
    """Where the units of a coupled group lie in one dimension of one tensor.

    Attributes:
        group: the positions along that dimension as units, one row of the site each; scores of weights apply to it.
            Where another dimension tells strands apart, each row is cut into as many units as there are lanes.
        dim: which dimension.
        index: positions of each unit of the coupled group, as flat numbers of the site's units: `[units, positions]`.
        roles: what the dimension does: "producer", "consumer", "carrier".
        layer: what stands around the tensor, where it is the weight of a layer that runs once.
    """

    group: "Group"
    dim: int
    index: Tensor
    roles: frozenset[str]
    layer: Layer | None = None

    @property
    def tensor(self) -> Tensor:
        """The live tensor, which the member never changes."""
        return self.site.tensor

    @property
    def site(self) -> Site:
        """Where its positions are."""
        assert self.group.site is not None
        return self.group.site

    def along(self, values: Shaped[Tensor, " positions"]) -> Shaped[Tensor, "..."]:
        """One value for each of the site's units, in a shape that multiplies the tensor."""
        if self.site.shape[1] > 1:
            return self.site.spread(values.reshape(self.site.shape))
        return values.reshape([-1 if d == self.dim else 1 for d in range(self.tensor.dim())])

    @property
    def is_parameter(self) -> bool:
        """Whether it is learnt: a parameter, not a buffer."""
        return isinstance(self.tensor, nn.Parameter)

    @property
    def is_bias(self) -> bool:
        """Whether it is added to what comes in: one number for each position, called a bias."""
        return self.tensor.dim() == 1 and "bias" in self.group.name.rpartition(".")[2]


@dataclass(frozen=True, eq=False)
class Group:
    """Units that compete with each other and are removed the same way: a matrix, a family of channels, a class.

    Attributes:
        name: unique in the space; for weights the tensor's dotted name.
        shape: of one keep or score tensor; its product is the number of units.
        lanes: the units fall into this many equal, consecutive lanes, each cut to the same count (1: all compete;
            rows for "per row"; `size / M` for N:M; one per sequence for tokens).
        floor: fewest units that stay in a lane.
        exact: the structure itself fixes how many stay in a lane (the N of N:M).
        multiple: the count that stays in a lane is a multiple of this.
        costs: of keeping one unit, by name: params, bytes, macs, samples, ...
        site: where the units live in a tensor of the subject, if they do.
        runtime: the units exist only while the model runs (tokens): counts are decided here, a `Route` picks there.
        labels: one integer per unit (the class of a sample, of a module), if there are any.
        members: where the units lie, if they are slices of several tensors that go together (channels, heads).
        inside: for units that are whole modules (layers), the tensors of each as groups of weights,
        names: their paths, and
        without: for each a context in which the subject runs as if it were not there,
        within: the path of the block that it lies in, or that it is, and
        passing: for those that pass a stream on, a context in which a function is told the stream before and after it.
        kind: what the units are, in a word: "channels", "heads", "blocks"; empty where the structure says it.
        strands: coupled units consist of this many interchangeable parts, equal consecutive runs of their positions: in
            each of these lanes, any order of the parts makes units of the same function (1: they are what they are).
        lanes_of: the group whose units are those lanes, where the space has it.
        section: the part of the subject that its units lie in, where the structure tells: a stage, a kind of block.
        parent: the group of the unrefined space that this one is a part of, and
        index: which of the parent's units (flat) these are.
    """

    name: str
    shape: tuple[int, ...]
    lanes: int = 1
    floor: int = 0
    exact: int | None = None
    multiple: int = 1
    costs: Mapping[str, float] = field(default_factory=dict)
    site: Site | None = None
    runtime: bool = False
    labels: Tensor | None = None
    members: tuple[Member, ...] = ()
    inside: tuple[tuple["Group", ...], ...] = ()
    names: tuple[str, ...] = ()
    without: tuple[Callable[[nn.Module], AbstractContextManager[None]], ...] = ()
    within: tuple[str, ...] = ()
    passing: tuple[Callable[[nn.Module, Callable[[Tensor, Tensor], None]], AbstractContextManager[None]], ...] = ()
    kind: str = ""
    strands: int = 1
    lanes_of: str = ""
    section: str = ""
    parent: str | None = None
    index: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of units."""
        return math.prod(self.shape)

    @property
    def lane(self) -> int:
        """Number of units in a lane."""
        return self.size // self.lanes

    @property
    def leaves(self) -> tuple["Group", ...]:
        """The groups of weights that its units are made of, which may repeat: itself, where it is one."""
        return tuple(m.group for m in self.members) or tuple(leaf for unit in self.inside for leaf in unit) or (self,)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The live tensor as a matrix; convolutions come unfolded. Raises `SubjectError` where there is none."""
        return self._site().unfold(self._site().tensor.detach())

    def pool(self, formula: Callable[..., Tensor], *tensors: Tensor) -> Float[Tensor, "units_out units_in"]:
        """`formula(weight, *tensors)` on elements in at least float32, summed over each unit.

        Args:
            formula: a pure function of matrices `[out, in]`.
            tensors: more arguments of the formula, in the tensor's own shape (a gradient) or as the matrix.
        """
        site = self._site()
        full = [site.unfold(t) if t.shape == site.tensor.shape else t for t in tensors]
        return site.pool(formula(_at_least_float32(self.weight), *map(_at_least_float32, full)))

    def _site(self) -> Site:
        if self.site is None:
            raise SubjectError(
                "a score of weights was asked for units that are not weights",
                where=f"group {self.name!r}",
                mend="pair this structure with a score of its own kind; `secateur methods` lists what goes together",
            )
        return self.site


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@dataclass(frozen=True, eq=False)
class Space:
    """The ordered groups that a structure found on a subject, and what it left out and why.

    Attributes:
        totals: what the whole subject costs when a keep of some groups is carried out, by name of the cost; for
            structures whose costs are no sum over units. Missing groups are whole.
    """

    groups: tuple[Group, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    totals: Mapping[str, Callable[[Mapping[str, Tensor]], float]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str) -> Group:
        return self._by_name()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name()

    def _by_name(self) -> dict[str, Group]:
        return {g.name: g for g in self.groups}

    def leaves(self) -> "Space":
        """The groups with those of several tensors replaced by their parameters: what statistics are collected of."""
        found: dict[str, Group] = {}
        for group in self.groups:
            if group.without:  # whole layers are heard as such, too
                found.setdefault(group.name, group)
            for leaf in group.leaves:
                if leaf is group or (leaf.site is not None and isinstance(leaf.site.tensor, nn.Parameter)):
                    found.setdefault(leaf.name, leaf)
        return Space(tuple(found.values()), self.skipped)

    @property
    def size(self) -> int:
        """Number of units in all groups."""
        return sum(g.size for g in self.groups)

    def replaced(self, **changes: Mapping[str, object]) -> "Space":
        """The same space with some fields of some groups changed: `space.replaced(floor={"conv1.weight": 8})`."""
        groups = []
        for group in self.groups:
            mine = {f: values[group.name] for f, values in changes.items() if group.name in values}
            groups.append(replace(group, **mine))  # type: ignore[arg-type]
        return Space(tuple(groups), self.skipped, self.totals)

    def refined(self, parts: Mapping[str, Mapping[str, Tensor]]) -> "Space":
        """A finer space: each named group becomes the given parts of it (strata, clusters, classes).

        Args:
            parts: for each group to split, the flat indices of its units in each new part. Units that appear in
                no part are in no group of the new space: they are removed.
        """
        groups: list[Group] = []
        for group in self.groups:
            if group.name not in parts:
                groups.append(group)
                continue
            for name, index in parts[group.name].items():
                labels = None if group.labels is None else group.labels.flatten()[index]
                part = Group(
                    f"{group.name}/{name}",
                    (len(index),),
                    costs=group.costs,
                    labels=labels,
                    parent=group.name,
                    index=index,
                )
                groups.append(part)
        return Space(tuple(groups), self.skipped, self.totals)
