"""How far a block descent has come: noted now and then, and taken up after a kill."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator

from secateur.core import CheckpointError, Notes
from secateur.core.packed import pack_bits, unpack_bits

from .candidates import Candidates

_WHAT = "block descent"


@dataclass
class Descent:
    """The state of a descent between two of its steps.

    Attributes:
        layers: by group name.
        rng: draws minibatches, and what annealing tries.
        done: steps that are done.
        before: the loss of the keep that it began with.
        used: layers that were asked, and whether the loss depends on them.
    """

    layers: Mapping[str, Candidates]
    rng: Generator
    done: int = 0
    before: float | None = None
    used: dict[str, bool] = field(default_factory=dict)

    def write(self, notes: Notes) -> None:
        """Note it."""
        layers = self.layers.items()
        gone = {name: pack_bits(mine.gone) for name, mine in layers}
        recent = {name: torch.tensor(list(mine.recent), dtype=torch.long) for name, mine in layers}
        told = {"done": self.done, "before": self.before, "used": dict(self.used), "rng": self.rng.get_state()}
        notes.write(_WHAT, told | {"gone": gone, "recent": recent})

    def take_up_(self, notes: Notes) -> None:
        """Go on from what was noted, if anything was.

        Raises:
            CheckpointError: it is of other layers, or of another choice; nothing is taken from it.
        """
        state = notes.read(_WHAT)
        if state is None:
            return
        try:
            gone = {n: unpack_bits(state["gone"][n], tuple(mine.gone.shape)) for n, mine in self.layers.items()}
            recent = {n: state["recent"][n].tolist() for n in self.layers}
            counts = {n: mine.of_each_lane(gone[n]) for n, mine in self.layers.items()}
            if any(not torch.equal(counts[n], mine.of_each_lane(mine.gone)) for n, mine in self.layers.items()):
                raise ValueError("other counts of pruned units")
            rng, done, before, used = state["rng"], int(state["done"]), state["before"], dict(state["used"])
            self.rng.set_state(rng)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"what was noted of the descent does not fit: {error!r}",
                where="BlockDescent",
                mend="delete the run folder to start again",
            ) from error
        self.done, self.before, self.used = done, before, used
        for name, mine in self.layers.items():
            mine.gone = gone[name]
            mine.recent.clear()
            mine.recent.extend(recent[name])
