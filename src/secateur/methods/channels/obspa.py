r"""OBSPA: channels scored and their readers repaired by the optimal brain surgeon (Wang et al., 2024, section 3.3).

A layer that reads a channel as the inputs J loses least when its other weights take over. With H = 2/N sum x x^T over
its inputs x, damped, and W its weight matrix:

    e_J = sum_o W[o,J] ([H^-1]_JJ)^-1 W[o,J]^T                         (what is lost: twice the mean squared error)
    W  <- W - W[:,P] ([H^-1]_PP)^-1 [H^-1]_P,:                         (P: all that goes; the columns P become zero)

A convolution reads a channel as kh x kw inputs, so J is a block. Scores of all readers of a unit are put together as
in SPA. The inputs may be the task's, other data (a task with them), or noise: then no data is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from secateur.budgets import Global
from secateur.calibration import Noise
from secateur.core import (
    Group,
    Healing,
    InputGram,
    Keep,
    Member,
    NumericsError,
    Paper,
    Recipe,
    RecipeError,
    Recovery,
    Score,
    Space,
    Stats,
    Task,
    When,
    method,
)
from secateur.recovery import RecalibrateBN
from secateur.schedules import Stepwise
from secateur.scores.coupled import Normalize, combined, normalized
from secateur.structures import Channels


def damped_inverse(gram: Float[Tensor, "in in"], damping: float, where: str = "") -> Float[Tensor, "in in"]:
    """H^-1, with H = 2 gram + damping * mean(diag) * I; a tenfold damping where that is singular, three times."""
    H = 2 * gram
    mean = H.diagonal().mean()
    eye = torch.eye(len(H), dtype=H.dtype, device=H.device)
    for tenfold in range(4):
        L, failed = torch.linalg.cholesky_ex(H + damping * 10**tenfold * mean * eye)
        if not failed and L.isfinite().all():
            inverse: Tensor = torch.cholesky_inverse(L)
            return inverse
    raise NumericsError(
        "the second moments of its inputs have no inverse, damped or not",
        where=where,
        mend="more calibration samples, other inputs, a larger damping=, or exclude=[...]",
    )


def block_errors(
    W: Float[Tensor, "out in"], inverse: Float[Tensor, "in in"], columns: Int[Tensor, "units width"]
) -> Float[Tensor, " units"]:
    """e_J of every unit; for single columns that is w^2 / [H^-1]_jj, summed over outputs."""
    blocks = inverse[columns[:, :, None], columns[:, None, :]]
    mine = W[:, columns].permute(1, 2, 0)
    solved: Tensor = torch.linalg.solve(blocks, mine)
    errors: Tensor = (mine * solved).sum((1, 2))
    return errors


def refitted(
    W: Float[Tensor, "out in"], inverse: Float[Tensor, "in in"], gone: Bool[Tensor, " in"]
) -> Float[Tensor, "out in"]:
    """The weights with the columns that go at zero and the others making up for them."""
    P = gone.nonzero().flatten()
    new: Tensor = W - W[:, P] @ torch.linalg.solve(inverse[P][:, P], inverse[P])
    return new.masked_fill(gone, 0)


def reads(member: Member, stats: Stats) -> bool:
    """Whether a member's dimension only reads units, in a layer whose inputs were seen."""
    return member.roles == {"consumer"} and (member.group.name, InputGram()) in stats.values


def as_matrix(slices: Group, width: int) -> Float[Tensor, "out in"]:
    """The rows of a group of slices as columns, `width` of them each, in the order of the layer's inputs."""
    rows = slices.weight.double().reshape(slices.size, -1, width)
    return rows.permute(1, 0, 2).reshape(rows.shape[1], -1)


def as_tensor(W: Float[Tensor, "out in"], slices: Group, width: int) -> Tensor:
    """The inverse of `as_matrix`, in the tensor's own shape."""
    rows = W.reshape(len(W), slices.size, width).permute(1, 0, 2).reshape(slices.size, -1)
    assert slices.site is not None
    return slices.site.fold(rows).to(slices.site.tensor.dtype)


@dataclass(frozen=True)
class ObsError(Score):
    """What the readers of a unit lose with it, each scaled by its mean and put together as in SPA."""

    damping: float = 0.01
    over: Literal["sum", "mean", "max", "prod"] = "sum"
    of_members: Normalize = "mean"

    knows_coupled = True

    @property
    def needs(self) -> tuple[InputGram, ...]:
        return (InputGram(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        found = [self._of(m, stats) for m in group.members if reads(m, stats)]
        if not found:
            raise RecipeError(
                "no Linear or convolution reads it, so there is nothing to reconstruct",
                where=f"group {group.name!r}",
                mend=f"exclude=[{group.name!r}], or a method that scores weights, such as spa",
            )
        return normalized(combined(torch.stack(found), self.over), "mean")

    def _of(self, member: Member, stats: Stats) -> Tensor:
        slices, gram = member.group, stats[member.group, InputGram()]
        width = len(gram) // slices.size
        columns = (member.index[:, :, None] * width + torch.arange(width)).flatten(1).to(gram.device)
        W, inverse = as_matrix(slices, width), damped_inverse(gram, self.damping, slices.name)
        return normalized(block_errors(W, inverse, columns).clamp_min(0), self.of_members)


@dataclass(frozen=True)
class ObsUpdate(Recovery):
    """At every cut, the layers that read what goes are refitted to give what they gave."""

    damping: float = 0.01

    @property
    def needs(self) -> tuple[InputGram, ...]:
        return (InputGram(),)

    @property
    def needs_task(self) -> bool:
        return False

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """It acts at the cuts alone."""
        return Healing()

    def repaired(self, space: Space, keep: Keep, stats: Stats) -> Mapping[str, Tensor]:
        gone: dict[str, tuple[Group, Tensor]] = {}
        for group in space:
            for m in group.members:
                if reads(m, stats):
                    _, positions = gone.setdefault(m.group.name, (m.group, torch.zeros(m.group.size, dtype=torch.bool)))
                    positions[m.index[~keep[group.name].cpu()].flatten()] = True
        return {name: self._refitted(slices, stats, p) for name, (slices, p) in gone.items() if p.any()}

    def _refitted(self, slices: Group, stats: Stats, gone: Tensor) -> Tensor:
        gram = stats[slices, InputGram()]
        width = len(gram) // slices.size
        inverse = damped_inverse(gram, self.damping, slices.name)
        columns = gone.repeat_interleave(width).to(gram.device)
        return as_tensor(refitted(as_matrix(slices, width), inverse, columns), slices, width)


@method(
    "obspa",
    paper=Paper(
        "Structurally Prune Anything: Any Architecture, Any Framework, Any Time",
        "Wang, Rachwan, Günnemann & Charpentier",
        2024,
        "https://arxiv.org/abs/2403.18955",
    ),
    structure="channels",
    when=When.AFTER,
    data="a few hundred unlabelled inputs, or none",
    models=["any"],
)
def obspa(
    inputs: Literal["task", "noise"] = "task",
    damping: float = 0.01,
    rounds: int = 5,
    aggregate: Literal["sum", "mean", "max", "prod"] = "sum",
    scale: Literal["none", "mean", "max", "sum"] = "mean",
    batchnorm: float = 0.2,
    kinds: tuple[str, ...] = ("channels", "hidden", "heads", "kv-groups"),
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes channels and refits what read them, without training and, if need be, without data."""
    # batch-norm statistics of noise would destroy those of the data
    norms = (RecalibrateBN(batchnorm),) if batchnorm and inputs == "task" else ()
    return Recipe(
        structure=Channels(include, exclude, kinds),
        score=ObsError(damping, aggregate, scale),
        budget=Global(),
        schedule=Stepwise(rounds),
        recovery=(ObsUpdate(damping), *norms),
        calibration=Noise() if inputs == "noise" else None,
    )
