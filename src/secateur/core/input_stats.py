"""Statistics of what layers are given: second moments, norms, means and variances of input columns."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import RecipeError
from .space import Group
from .stats import Forward, State, Statistic, summed

_STRIPS = 4
_CACHED = 1 << 17
"""Numbers that are at work at once: half a megabyte, or one in float64."""


@dataclass(frozen=True)
class InputGram(Statistic):
    """Sum of x x^T over all input tokens, divided by their number: `[in, in]`.

    Attributes:
        precise: in float64; else in float32, twice as fast.
    """

    precise: bool = True

    on = Forward
    of_inputs = True

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "tokens": torch.zeros(())}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, Forward)
        x = event.inputs.detach()
        x = x.double() if self.precise else x.float()
        total = state["sum"] if state["sum"].dim() else x.new_zeros(x.shape[1], x.shape[1])
        return {"sum": _add_gram_(total, x), "tokens": state["tokens"] + len(x)}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        upper = state["sum"].triu()
        return upper.add_(upper.triu(1).T).div_(state["tokens"].to(upper.device))


def _add_gram_(total: Float[Tensor, "in in"], x: Float[Tensor, "tokens in"]) -> Float[Tensor, "in in"]:
    """Add x^T x in place, above the diagonal alone: strips of columns save three eighths of the work."""
    width = -(-x.shape[1] // _STRIPS)
    for at in range(0, x.shape[1], width):
        total[at : at + width, at:].addmm_(x[:, at : at + width].T, x[:, at:])
    return total


@dataclass(frozen=True)
class InputTokens(Statistic):
    """How many tokens a layer was given: a scalar."""

    on = Forward
    of_inputs = True

    def zero(self, group: Group) -> State:
        return {"tokens": torch.zeros(1)}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, Forward)
        return {"tokens": state["tokens"] + len(event.inputs)}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["tokens"][0]


@dataclass(frozen=True)
class InputNorm(Statistic):
    """The sum of squares of each input column over a sequence, as its mean over sequences: `[in]`, float64.

        n_j = 1/N sum_n sum_t x_ntj^2

    Its root is the norm of Wanda (Sun et al., 2023). It grows with the length of a sequence and not with their number.
    A sequence is an entry of the first dimension of what the layer gives.
    """

    on = Forward
    of_inputs = True

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "samples": torch.zeros(())}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, Forward)
        squares = _squares(event.inputs.detach()).double()  # of one batch; batches add up in float64
        return {"sum": state["sum"].to(squares.device) + squares, "samples": state["samples"] + event.samples}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"] / state["samples"].to(state["sum"].device)


def _squares(x: Float[Tensor, "tokens in"]) -> Float[Tensor, " in"]:
    """Sums of squares of the columns, in float32."""
    pieces = _pieces(x)
    if len(pieces) == 1:
        return x.float().square().sum(0)
    held = torch.empty_like(pieces[0], dtype=torch.float32)
    return torch.stack([torch.square(p.float(), out=held[: len(p)]).sum(0) for p in pieces]).sum(0)


def _pieces(x: Float[Tensor, "tokens in"]) -> tuple[Tensor, ...]:
    """Tokens in pieces of which what is worked out stays in a CPU's cache; elsewhere all at once."""
    return torch.split(x, max(_CACHED // x.shape[1], 1) if x.device.type == "cpu" else max(len(x), 1))


def chan_merge(
    first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and M2 = sum (x - mean)^2 of two sets together (Chan, Golub & LeVeque, 1979); either may be empty."""
    (n, mean, m2), (k, other, other_m2) = first, second
    total = n + k
    share = k / total.clamp_min(1)
    apart = other - mean
    return total, mean + apart * share, m2 + other_m2 + apart.square() * n * share


def _moments(x: Float[Tensor, "tokens in"]) -> tuple[Float[Tensor, " in"], Float[Tensor, " in"]]:
    """Mean and M2 of each column, in float64."""
    pieces = _pieces(x)
    held = torch.empty_like(pieces[0], dtype=torch.float64)
    n, mean, m2 = (x.new_zeros((), dtype=torch.float64) for _ in range(3))
    for piece in pieces:
        wide = held[: len(piece)].copy_(piece)
        own = wide.mean(0)
        n, mean, m2 = chan_merge((n, mean, m2), (n.new_tensor(len(piece)), own, wide.sub_(own).square_().sum(0)))
    return mean, m2


@dataclass(frozen=True)
class InputMoments(Statistic):
    """Mean and variance of each input column over all tokens: `[2, in]`, float64.

    The variance is M2 divided by the number of tokens, and NaN where there were fewer than two sequences.
    """

    on = Forward
    of_inputs = True

    def zero(self, group: Group) -> State:
        zero = torch.zeros((), dtype=torch.float64)
        return {"tokens": zero, "mean": zero, "m2": zero, "samples": zero}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, Forward)
        x = event.inputs.detach()
        if not len(x):  # an expert that no token was sent to
            return state
        mean, m2 = _moments(x)
        new = {"tokens": mean.new_tensor(len(x)), "mean": mean, "m2": m2, "samples": mean.new_tensor(event.samples)}
        return self.merge({name: value.to(x.device) for name, value in state.items()}, new)

    def merge(self, a: State, b: State) -> State:
        one, two = ((s["tokens"], s["mean"], s["m2"]) for s in (a, b))
        tokens, mean, m2 = chan_merge(one, two)
        return {"tokens": tokens, "mean": mean, "m2": m2, "samples": a["samples"] + b["samples"]}

    def value(self, state: State) -> Tensor:
        variance = state["m2"] / state["tokens"]
        return torch.stack((state["mean"], variance if state["samples"] >= 2 else variance * torch.nan))


@dataclass(frozen=True)
class RunningMoments(Statistic):
    """Mean and fluctuation of each input column as FLAP's released code updates them, sequence by sequence: `[2, in]`.

        m <- (n m + mean_t x) / (n + 1),     v <- (n - 1)/n v + 1/(n + 1) sum_t (x_t - m)^2

    with the m that is already updated, and v = 0 after the first sequence. It depends on the order of sequences, so it
    does not merge.
    """

    on = Forward
    of_inputs = True

    def zero(self, group: Group) -> State:
        zero = torch.zeros((), dtype=torch.float64)
        return {"samples": zero, "mean": zero, "v": zero}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, Forward)
        rows = event.inputs.detach()
        if not len(rows):
            return state
        if len(rows) % event.samples:
            raise RecipeError(
                "sequences of unequal lengths have no running mean over sequences",
                where="RunningMoments",
                mend="calibrate on whole windows, or use InputMoments",
            )
        mean, v, n = state["mean"].to(rows.device), state["v"].to(rows.device), int(state["samples"])
        for x in rows.reshape(event.samples, -1, rows.shape[-1]):
            own, m2 = _moments(x)
            mean = (n * mean + own) / (n + 1)
            around = m2 + len(x) * (own - mean).square()  # sum_t (x_t - mean)^2
            v = torch.zeros_like(mean) if n == 0 else (n - 1) / n * v + around / (n + 1)
            n += 1
        return {"samples": mean.new_tensor(n), "mean": mean, "v": v}

    def merge(self, a: State, b: State) -> State:
        if int(a["samples"]) and int(b["samples"]):
            raise RecipeError(
                "it depends on the order of sequences, so two workers cannot share the pass",
                where="RunningMoments",
                mend="collect in one process, or use InputMoments, which merges exactly",
            )
        return a if int(a["samples"]) else b

    def value(self, state: State) -> Tensor:
        v: Float[Tensor, " in"] = state["v"]
        return torch.stack((state["mean"], v if state["samples"] >= 2 else v * torch.nan))
