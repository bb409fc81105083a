"""Evidence: what a pass over data collects about each group, and where scores and budgets read it.

A `Statistic` is a frozen description (so it is its own key); its states merge, so that two workers equal one, and a
pass serves every score that asks. Whoever needs a statistic's type takes it from here: rooms do not import rooms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from .draws import generator_of
from .errors import RecipeError, SubjectError
from .keep import Keep
from .space import Group

State = dict[str, Tensor]


@dataclass(frozen=True)
class Forward:
    """A group's module ran: its input tokens, pad tokens left out; sample by sample, equally many of each."""

    inputs: Float[Tensor, "tokens in"]
    outputs: Float[Tensor, "tokens out"]
    samples: int = 1


@dataclass(frozen=True)
class Backward:
    """The loss of one batch was differentiated: the gradient of the group's tensor, in the tensor's own shape."""

    gradient: Float[Tensor, "..."]
    samples: int


@dataclass(frozen=True)
class Relevance:
    """Relevance went back from the outputs: how much of it reached each output of the group's weight, over a batch."""

    outputs: Float[Tensor, " out"]


@dataclass(frozen=True)
class Flow:
    """The loss of a few chosen samples was differentiated, and if asked for twice, with respect to the group's tensor.

    Attributes:
        gradient: g, in the tensor's own shape.
        product: H g, the Hessian times g over all matrices of the model; None where nothing asked for it.
    """

    gradient: Float[Tensor, "..."]
    product: Float[Tensor, "..."] | None
    samples: int


@dataclass(frozen=True)
class Silenced:
    """One batch passed through the whole subject, and again without one unit of a group.

    Attributes:
        unit: which one, of `units`.
        whole, without: logits, classes last.
    """

    unit: int
    units: int
    whole: Float[Tensor, "... classes"]
    without: Float[Tensor, "... classes"]
    samples: int


@dataclass(frozen=True)
class Passed:
    """One batch passed through a whole layer: the residual stream before it and after it, pad tokens left out.

    Attributes:
        unit: which one, of `units`.
    """

    unit: int
    units: int
    before: Float[Tensor, "tokens width"]
    after: Float[Tensor, "tokens width"]


@dataclass(frozen=True)
class Ends:
    """One batch passed through all layers of a group: the stream before and after each, of each sample's last token."""

    before: tuple[Float[Tensor, "samples width"], ...]
    after: tuple[Float[Tensor, "samples width"], ...]


@dataclass(frozen=True)
class Greedy:
    """How whole layers are taken out one after another.

    Attributes:
        samples: how many are looked at, the first that come.
        front: share of the blocks, the first ones, that lose nothing until more than this share of all units is gone.
        most: the share of units whose order is found.
        force: whether the last unit of a class of modules may go while there are others.
    """

    samples: int = 10
    front: float = 0.4
    most: float = 1.0
    force: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 <= self.front < 1 or not 0 < self.most <= 1:
            raise RecipeError(
                f"samples is {self.samples}, front {self.front}, most {self.most}",
                where="Greedy(...)",
                mend="samples is 1 or more, front lies in [0, 1), most in (0, 1]",
            )


@dataclass(frozen=True)
class Ordered:
    """All units of the subject were taken out, one after another: at which step each of a group's went, from 0."""

    steps: Int[Tensor, " units"]


@dataclass(frozen=True)
class Visit:
    """Samples passed through the model in training: outputs and labels, by stable sample id."""

    ids: Int[Tensor, " batch"]
    outputs: Float[Tensor, "batch classes"]
    labels: Int[Tensor, " batch"]
    epoch: int


Event = Forward | Backward | Relevance | Flow | Silenced | Passed | Ends | Ordered | Visit


@runtime_checkable
class Statistic(Protocol):
    """What a pass collects for one group. Frozen and hashable: two scores that ask for equal ones share the pass."""

    @property
    def on(self) -> type:
        """The kind of event it feeds on, such as `Forward` or `Backward`."""
        ...

    @property
    def of_inputs(self) -> bool:
        """Whether it looks at inputs alone: layers that are given the same tensor then share one state."""
        return False

    def zero(self, group: Group) -> State:
        """The state before any event; where `of_inputs`, the same for every group."""
        ...

    def update(self, state: State, event: Event) -> State:
        """The state after one more event."""
        ...

    def merge(self, a: State, b: State) -> State:
        """The state of one worker that saw what two workers saw."""
        ...

    def value(self, state: State) -> Tensor:
        """What a score reads, in float32 or float64."""
        ...


def summed(a: State, b: State) -> State:
    """`merge` of every statistic that is a sum."""
    return {name: a[name] + b[name] for name in a}


@dataclass(frozen=True)
class Gradient(Statistic):
    """The gradient of the mean loss over all batches: signed, so that it can cancel. Shape: the tensor's own."""

    on = Backward

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "samples": torch.zeros(())}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Backward)
        return {
            "sum": state["sum"].to(event.gradient.device) + event.gradient.detach().float() * event.samples,
            "samples": state["samples"] + event.samples,
        }

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"] / state["samples"].to(state["sum"].device)


Rule = Literal["z+", "alpha-beta", "epsilon"]


@dataclass(frozen=True)
class Rules:
    """How relevance goes back through a model.

    Attributes:
        conv, linear: the rule of convolutions and of linear layers.
        alpha: of "alpha-beta", which gives alpha to what speaks for an output and 1 - alpha to what speaks against it.
        epsilon: stabilises the denominator of "epsilon".
        start: relevance of the target's output: its "logit", or "one".
        per_class: how many samples of each class are looked at, the first that come.
    """

    conv: Rule = "z+"
    linear: Rule = "z+"
    alpha: float = 2.0
    epsilon: float = 1e-6
    start: Literal["logit", "one"] = "logit"
    per_class: int = 10

    def __post_init__(self) -> None:
        if self.alpha < 1 or self.epsilon <= 0 or self.per_class < 1:
            raise RecipeError(
                f"alpha is {self.alpha}, epsilon {self.epsilon}, per_class {self.per_class}",
                where="Rules(...)",
                mend="alpha and per_class are 1 or more, epsilon is above 0",
            )


@dataclass(frozen=True)
class UnitRelevance(Statistic):
    """The relevance of each output of a weight, summed over samples and positions: `[out]`."""

    rules: Rules = Rules()

    on = Relevance

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(())}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Relevance)
        return {"sum": state["sum"].to(event.outputs.device) + event.outputs.double()}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"]


Trial = Callable[[Keep], float]
"""How good the subject is when only these units stay: the task's first metric, turned so that higher is better."""


@dataclass(frozen=True)
class Balanced:
    """A few samples, equally many of each class, and how their loss is taken.

    Attributes:
        per_class: how many of each class, the first that come; None takes whole batches, whatever the targets are.
        temperature: logits are divided by it.
        norms: whether batch norms use the statistics of the "batch", as in training, or their "running" ones, which
            mean nothing before training.
    """

    per_class: int | None = 10
    temperature: float = 1.0
    norms: Literal["batch", "running"] = "batch"

    def __post_init__(self) -> None:
        if (self.per_class is not None and self.per_class < 1) or not self.temperature > 0:
            raise RecipeError(
                f"per_class is {self.per_class}, temperature {self.temperature}",
                where="Balanced(...)",
                mend="per_class is 1 or more, or None; temperature is above 0",
            )


@dataclass(frozen=True)
class _OfFlow(Statistic):
    samples: Balanced = Balanced()

    on = Flow

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "samples": torch.zeros(())}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"] / state["samples"].to(state["sum"].device)


@dataclass(frozen=True)
class BalancedGradient(_OfFlow):
    """The gradient of the mean loss over a few samples of each class. Shape: the tensor's own."""

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Flow)
        return _weighed(state, event.gradient, event.samples)


@dataclass(frozen=True)
class HessianGradient(_OfFlow):
    """H g of the mean loss over a few samples of each class: how a step along the gradient changes it.

    g is that over all matrices and convolutions of the model, so nothing depends on which of them are groups. Workers
    that merge each follow their own gradient. Shape: the tensor's own.
    """

    samples: Balanced = Balanced(temperature=200.0)

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Flow) and event.product is not None
        return _weighed(state, event.product, event.samples)


def _weighed(state: State, value: Tensor, samples: int) -> State:
    return {
        "sum": state["sum"].to(value.device) + value.detach() * samples,
        "samples": state["samples"] + samples,
    }


@runtime_checkable
class Notes(Protocol):
    """Where a decision that takes long notes how far it has come, so that a killed run goes on from there."""

    def read(self, what: str) -> Mapping[str, Any] | None:
        """What an earlier process noted last of this decision; None where that is nothing, or of other work."""
        ...

    def due(self) -> bool:
        """Whether it is time to note again."""
        ...

    def write(self, what: str, state: Mapping[str, Any]) -> None:
        """Keep this of some work, tensors and plain data, in place of what was noted before."""
        ...


@dataclass(frozen=True)
class Stats:
    """The evidence of one decision: statistics, scores, the current keep, and the source of randomness.

    Attributes:
        values: finished statistics by (group name, statistic).
        scores: one value per unit by group name, `-inf` for what is already gone; filled before budgets are asked.
        keep: what stays at present, or None before the first decision.
        sizes: units that each group had before anything went; a group that is missing is as large as ever.
        seed: of the run; `rng` derives one generator per group from it.
        step: of the clock. A draw that must differ from move to move puts it into its purpose.
        trial: measures a keep on data that is no test data, for budgets that try; None where there is no task.
        notes: where a decision that takes long notes how far it has come; None where there is no run folder.
    """

    values: Mapping[tuple[str, Statistic], Tensor] = field(default_factory=dict)
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    keep: Keep | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    step: int = 0
    trial: Trial | None = None
    notes: Notes | None = None

    def __getitem__(self, key: tuple[Group, Statistic]) -> Tensor:
        group, statistic = key
        try:
            return self.values[group.name, statistic]
        except KeyError:
            raise SubjectError(
                f"{statistic} was never collected: the layer did not run, or no data was given",
                where=f"group {group.name!r}",
                mend="give a task whose batches reach this layer, or leave it out with exclude=[...]",
            ) from None

    def rng(self, group: Group, purpose: str = "") -> Generator:
        """A generator that depends on the run's seed, the purpose and the group's *name*, never on the order of groups.

        It lives on the CPU, so that the same seed gives the same draw on every device.
        """
        return generator_of(f"{self.seed}/{purpose}/{group.name}")
