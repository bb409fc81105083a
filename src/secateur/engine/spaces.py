"""A pruning space under study: samples of one cost, measured one after another, kept as soon as they are there."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from secateur.analysis import nearest_third, rank_test
from secateur.budgets.bands import Drawn, drawn, top_units
from secateur.budgets.q_constrained import best_ratio
from secateur.core import (
    CheckpointError,
    Choice,
    RecipeError,
    Score,
    Space,
    Stats,
    Task,
    device_of,
    samples_for,
    to_device,
)
from secateur.core.draws import generator_of
from secateur.core.progress import report
from secateur.recovery import recalibrate_bn_
from secateur.scores import Coupled, Magnitude, of_units
from secateur.structures import Channels

from .jsonfile import read_json, write_json
from .tensors import tensor_hash
from .training import Device, train_
from .trial import unproven

FILE = "samples.json"


@dataclass(frozen=True)
class Sample:
    """A member of a pruning space: units that stay, costs of the cut model, and its error after the cheap protocol."""

    index: int
    counts: Mapping[str, int]
    macs: float
    params: float
    ratio: float
    error: float


@dataclass(frozen=True)
class PruningSpace:
    """A population of width configurations that cost the same.

    Attributes:
        samples: in the order in which they were drawn.
        protocol: cost, share, and how samples were measured.
        dense: ratio q_0 and error of the whole model.
        width: of the refined space around the best ratio.
    """

    samples: tuple[Sample, ...]
    protocol: Mapping[str, Any]
    dense: Mapping[str, float]
    width: float = 0.1

    @property
    def best_ratio(self) -> float:
        """q*: where a parabola through errors over log q is lowest."""
        return best_ratio([s.ratio for s in self.samples], [s.error for s in self.samples])

    @property
    def refined(self) -> tuple[Sample, ...]:
        """The samples whose ratio is near the best one."""
        return tuple(s for s in self.samples if abs(s.ratio / self.best_ratio - 1) <= self.width)

    def summary(self) -> dict[str, Any]:
        """q*, q_0, medians of the errors, and whether the third nearest to q* has lower errors than the others.

        q* is fitted to these very samples, so that p is a description, and no test of a prediction.
        """
        errors, best = [s.error for s in self.samples], self.best_ratio
        near = nearest_third([s.ratio for s in self.samples], best)
        inside, outside = ([e for e, n in zip(errors, near, strict=True) if n is which] for which in (True, False))
        return {
            "samples": len(errors),
            "best_ratio": best,
            "dense_ratio": self.dense["ratio"],
            "dense_error": self.dense["error"],
            "lowest_error": min(errors),
            "median_error": median(errors),
            "refined": len(self.refined),
            "refined_median_error": median([s.error for s in self.refined]) if self.refined else None,
            "p_nearest_third": rank_test(inside, outside) if inside and outside else None,
        }

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        rows = [{**asdict(s), "counts": dict(s.counts)} for s in self.samples]
        return {"protocol": dict(self.protocol), "dense": dict(self.dense), "samples": rows}


def pruning_space(
    model: nn.Module,
    task: Task,
    *,
    share: float = 0.5,
    cost: str = "macs",
    samples: int = 60,
    steps: int = 60,
    recalibrate: int = 4,
    least: float = 0.1,
    structure: Channels | None = None,
    score: Score | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    device: str | None = None,
) -> PruningSpace:
    """Sample width configurations of one cost and measure each by the same cheap protocol; the model stays whole.

    A sample keeps the filters of largest L1 norm, has its batch norms measured anew, trains for a few steps as the task
    says, and is measured on the task's "valid" data where it has some, else on its test data.

    Args:
        share: of the cost that stays, met within 1 %.
        cost: "macs", "params" or "bytes".
        samples: how many; 50 to 500 for a study.
        steps: of training for each; 0 for none.
        recalibrate: training batches on which batch norms are measured; 0 for none.
        least: share of each family that stays at least.
        folder: where samples are kept as soon as they are measured; the same call goes on with those that are missing.
        device: "cpu" or "cuda", for training.

    Raises:
        RecipeError: too few samples.
        BudgetError: no configuration costs that; gives the interval that can be reached.
        CheckpointError: the folder holds another study.
    """
    if samples < 3 or steps < 0 or recalibrate < 0:
        raise RecipeError(
            f"samples is {samples}, steps {steps}, recalibrate {recalibrate}",
            where="pruning_space(...)",
            mend="3 samples or more, and no negative numbers",
        )
    study = _Study(model, task.fork(seed), structure or Channels(), score or _l1(), seed, device)
    protocol = {"cost": cost, "share": share, "steps": steps, "recalibrate": recalibrate, "least": least, "seed": seed}
    key = {**protocol, "task": task.name, "training": repr(task.training), "weights": study.weights}
    file = None if folder is None else Path(folder) / FILE
    known = _read(file, key) if file is not None else {"dense": None, "samples": []}
    dense = known["dense"] or study.whole()
    rows = [Sample(**row) for row in known["samples"]][:samples]
    for index in range(len(rows), samples):
        report("pruning space", index, samples)
        sample = drawn(study.space, cost, share, study.rng(index), least=least)
        rows.append(study.measured(index, sample, steps, recalibrate))
        if file is not None:
            made = PruningSpace(tuple(rows), protocol, dense).to_json()
            write_json(file, {"key": key, "dense": dense, "samples": made["samples"]})
    report("pruning space", samples, samples)
    return PruningSpace(tuple(rows), protocol, dense)


def _l1() -> Score:
    return Coupled(Magnitude(), over="sum", normalize="none", roles=("producer",))


class _Study:
    """A model, its families, and the protocol by which samples are measured."""

    def __init__(
        self, model: nn.Module, task: Task, structure: Channels, score: Score, seed: int, device: str | None
    ) -> None:
        self._model, self._task, self._seed, self._device = model, task, seed, device
        example = to_device(samples_for(model, next(iter(task.batches("test", shuffle=False))), 2), device_of(model))
        self._structure = unproven(structure.seeing(lambda m: task.call(m, example)))
        self.space: Space = self._structure.find(model)
        if score.needs:
            raise RecipeError(
                f"{type(score).__name__} reads data", where="pruning_space(score=...)", mend="use a score of weights"
            )
        with torch.no_grad():
            self._scores: dict[str, Tensor] = {g.name: of_units(score, g)(g, Stats(seed=seed)) for g in self.space}
        self.weights = tensor_hash(model.state_dict())[:16]

    def rng(self, index: int) -> torch.Generator:
        """The same draw for a sample whichever run it is drawn in."""
        return generator_of(f"pruning space/{self._seed}/{index}")

    def whole(self) -> dict[str, float]:
        """Ratio and error of the model as it is."""
        costs = self.space.totals
        return {"ratio": costs["macs"]({}) / max(costs["params"]({}), 1.0), "error": self._error(self._model)}

    def measured(self, index: int, sample: Drawn, steps: int, recalibrate: int) -> Sample:
        """Cut a copy, measure its norms, train it a little, measure its error."""
        twin, task = copy.deepcopy(self._model), self._task
        self._structure._sight.adopt(self._model, twin)  # type: ignore[attr-defined]
        keep = top_units(self.space, sample.counts, self._scores)
        with torch.no_grad():
            twin, _ = self._structure.apply_(twin, Choice(keep))
        if recalibrate:
            recalibrate_bn_(twin, islice(task.batches("train", epoch=0), recalibrate), task)
        if steps:
            training = replace(task.training, epochs=steps / task.epoch_steps())
            train_(twin, replace(task, training=training), seed=self._seed, device=Device(self._device))
        return Sample(index, dict(sample.counts), sample.macs, sample.params, sample.ratio, self._error(twin))

    def _error(self, model: nn.Module) -> float:
        """1 - the first metric where more is better, else the metric itself."""
        task = self._task
        found = task.evaluate(model, "test" if task.valid is None else "valid")
        first = next(iter(task.metrics), "loss")
        return found[first] if first in task.lower_is_better else 1 - found[first]


def _read(file: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier call left; a damaged file counts as none. Raises `CheckpointError` for another study's."""
    found = read_json(file)
    if not isinstance(found, dict) or not isinstance(found.get("samples"), list):
        return {"dense": None, "samples": []}
    if found.get("key") != key:
        raise CheckpointError(
            "it holds another study: another model, task, cost or protocol",
            where=str(file),
            mend="choose another folder, or delete the file",
        )
    return found
