r"""Scores of units by the columns that read them: o and down projections in language models.

Every unit is read as columns j of a weight W by a layer with inputs x. A formula gives each column a score:

    wifv:  v_j sum_i W_ij^2            wifn:  mean_i |W_ij| ||x_j||
    ifv:   v_j                         norm:  ||W_:j||_2

v is the variance of x_j and ||x_j|| its norm over a sequence. FLAP (An et al., 2024) takes the first three, with
z-scores of the columns of each layer; its baselines Wanda-sp and mag-sp take wifn and norm.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, InputMoments, InputNorm, RecipeError, RunningMoments, Score, Statistic, Stats
from secateur.core.second_moments import as_matrix, reads, width_of

_log = logging.getLogger(__name__)

Formula = Callable[[Float[Tensor, "out in"], Tensor], Float[Tensor, " in"]]
Over = Literal["mean", "sum"]
Columns = Literal["none", "standard"]


def weighted_fluctuation(W: Float[Tensor, "out in"], v: Float[Tensor, " in"]) -> Float[Tensor, " in"]:
    """v_j sum_i W_ij^2: what the outputs vary by when column j is replaced by its mean."""
    return v * W.square().sum(0)


def weighted_norm(W: Float[Tensor, "out in"], norm: Float[Tensor, " in"]) -> Float[Tensor, " in"]:
    """mean_i |W_ij| ||x_j||: Wanda's score, pooled over the outputs."""
    return W.abs().mean(0) * norm


def z_scores(columns: Float[Tensor, " in"], where: str = "") -> Float[Tensor, " in"]:
    """(s - mean) / std, the deviation with n - 1 as in FLAP's code; zeros where all are equal, with a warning."""
    mean = columns.mean()
    std = columns.std() if len(columns) > 1 else columns.new_zeros(())
    if std <= 1e-12 * mean.abs():
        _log.warning("%s: all columns score alike, so each of its units is taken for average", where)
        return torch.zeros_like(columns)
    return (columns - mean) / std


@dataclass(frozen=True)
class Fluctuation(Score):
    """How much the inputs of a unit's readers fluctuate, as z-scores of each reader's columns (FLAP).

    Attributes:
        metric: "wifv", the variance times the squared weights; "ifv", the variance alone; "wifn", Wanda's.
        over: how the columns of a unit (a head has many) become one number.
        columns: "standard" for z-scores, which layers and kinds of units share; "none" leaves scores as they are.
        compat: "release" repeats the released code: its running update of the variance, and scores of attention squared
            before they are standardised.

    Raises:
        RecipeError: the variance is that of fewer than two sequences; nothing that was seen reads a unit.
    """

    metric: Literal["wifv", "ifv", "wifn"] = "wifv"
    over: Over = "mean"
    columns: Columns = "standard"
    compat: Literal["none", "release"] = "none"

    knows_coupled = True

    @property
    def _reads(self) -> Statistic:
        if self.metric == "wifn":
            return InputNorm()
        return RunningMoments() if self.compat == "release" else InputMoments()

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return (self._reads,)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        squared = self.compat == "release" and group.kind in ("heads", "kv-groups")

        def formula(W: Tensor, seen: Tensor) -> Tensor:
            if self.metric == "wifn":
                found = weighted_norm(W, seen.sqrt())
            else:
                v = _known(seen[1], group)
                found = v if self.metric == "ifv" else weighted_fluctuation(W, v)
            return found.square() if squared else found

        return of_columns(group, stats, self._reads, formula, self.over, self.columns)


def _known(variance: Tensor, group: Group) -> Tensor:
    if variance.isnan().all():
        raise RecipeError(
            "it was seen with fewer than two sequences, of which there is no variance",
            where=f"Fluctuation on group {group.name!r}",
            mend="give the task two or more training samples, or raise batches=",
        )
    return variance


@dataclass(frozen=True)
class WandaSP(Score):
    """mean_i |W_ij| ||x_j|| of the columns that read a unit: Wanda for structures (the baseline of FLAP's paper).

    Attributes:
        over, columns: as of `Fluctuation`; the baseline sums over the columns of a head and compares within layers.
    """

    over: Over = "sum"
    columns: Columns = "none"

    knows_coupled = True

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return (InputNorm(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return of_columns(group, stats, InputNorm(), lambda W, n: weighted_norm(W, n.sqrt()), self.over, self.columns)


@dataclass(frozen=True)
class MagSP(Score):
    """||W_:j||_2 of the columns that read a unit, without data.

    Attributes:
        over, columns: as of `WandaSP`.
    """

    over: Over = "sum"
    columns: Columns = "none"

    knows_coupled = True

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return of_columns(group, stats, None, lambda W, _: W.norm(dim=0), self.over, self.columns)


def of_columns(
    group: Group, stats: Stats, statistic: Statistic | None, formula: Formula, over: Over, columns: Columns
) -> Float[Tensor, " units"]:
    """A formula of every reader's columns, put together for each unit; the mean over several readers. In float64.

    Args:
        statistic: of the reader's inputs, given to the formula; None for formulas of weights, which get the weights.

    Raises:
        RecipeError: no layer that was seen reads the units.
    """
    found = []
    for m in group.members:
        if statistic is None:
            heard = m.roles == {"consumer"} and m.is_parameter and m.tensor.dim() > 1
        else:
            heard = reads(m, stats, statistic)
        if not heard:
            continue
        width = width_of(m)
        seen = m.group.weight.double() if statistic is None else stats[m.group, statistic]
        each = formula(as_matrix(m.group, width).to(seen.device), seen)
        if columns == "standard":
            each = z_scores(each, m.group.name)
        mine = each.reshape(-1, width)[m.index.to(each.device)].flatten(1)
        found.append(mine.mean(1) if over == "mean" else mine.sum(1))
    if not found:
        raise RecipeError(
            "no Linear or convolution that was seen reads it, so its columns have no score",
            where=f"group {group.name!r}",
            mend=f"exclude=[{group.name!r}], or a method that scores other weights, such as spa",
        )
    return torch.stack(found).mean(0)
