"""What a model must pass in `coverage.py`, one step after another; the first that does not hold ends it."""

import copy
import hashlib
import logging
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import secateur as sc
from coverage_reasons import half_width
from secateur.core import BudgetError, first_call
from secateur.core.strands import as_units
from secateur.graph.capture import still, tensors_in
from secateur.graph.find import couple
from structured_cases import Case
from structured_sides import first_line, parameters

_CLOSE = 0.01
_OUTPUTS, _RESULT, _DIGEST = "outputs.safetensors", "result", "tensors.sha256"


class Failed(Exception):
    """What a model does not pass, in words."""


def warm() -> None:
    """Import what the checks need before they are forked: what torch and we import at first use is nobody's time."""
    tiny = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    sc.prune(tiny, "magnitude", structure="channels", sparsity=0.5, example=torch.ones(2, 4))


def pruned(case: Case, folder: Path) -> dict[str, Any]:
    """Everything but loading: find, cut to half the MACs with proof, run forward and backward, save.

    Args:
        folder: an empty one, for the saved result and what the smaller model gives.

    Returns:
        The row; `failed` names the first step that does not hold.
    """
    begin = time.process_time()
    run = _Run(case, folder)
    for step in (run.build, run.find, run.train, run.prune, run.forward, run.backward, run.save):
        try:
            step()
        except Exception as error:  # whatever a model does: it is a finding
            run.row |= failure(step.__name__, error)
            break
    return run.row | {"cpu_s": round(time.process_time() - begin, 2)}


def loaded(case: Case, folder: Path) -> dict[str, Any]:
    """For a process that never had the model: loaded as one loads such a model, it gives the same to the last bit.

    Vector code rounds by where a tensor lies in memory, so another process may round a few numbers otherwise, and a
    detector, recorded on real tensors, then orders boxes otherwise. Where outputs differ so, every tensor of the model
    must be the same, and the row says it.
    """
    begin = time.process_time()
    try:
        if case.zoo == "transformers":
            from secateur.transformers import from_pretrained

            model = from_pretrained(folder / _RESULT)
        else:
            model = sc.load(folder / _RESULT, factory=case.build)
        found, wanted = outputs(model, case), load_file(folder / _OUTPUTS)
        differ = [name for name in wanted if name not in found or not _same(found[name], wanted[name])]
        rung, was = (folder / _DIGEST).read_text().splitlines()
        near = rung == "real tensors" or all(name in found and _near(found[name], wanted[name]) for name in differ)
        if differ and not (near and digest(model) == was):
            raise Failed(f"{len(differ)} of {len(wanted)} outputs differ")
    except Exception as error:  # whatever a model does: it is a finding
        return failure("load", error)
    return {"load_s": round(time.process_time() - begin, 2)} | ({"rounded": len(differ)} if differ else {})


class _Run:
    """The steps with one model, each of which leaves what the next ones need."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.row: dict[str, Any] = {}

    def build(self) -> None:
        self.model = self.case.model()
        self.row["parameters"] = parameters(self.model)
        self.example = given(self.case)

    def find(self) -> None:
        begin = time.process_time()
        self.coupling = couple(self.model, lambda model: first_call(model, self.example))
        self.row |= {
            "find_s": round(time.process_time() - begin, 2),
            "rung": self.coupling.graph.rung,
            "operations": len(self.coupling.graph.nodes),
            "families": len(self.coupling.families),
            "unknown": sorted(self.coupling.unknown),
        }
        self.row |= half_width(self.coupling, self.model)
        if not self.coupling.families:
            raise Failed("no families")

    def train(self) -> None:
        self.trained = trained(self.model, self.example)

    def prune(self) -> None:
        with warnings_of_ours() as told:
            self.result = self._half_the_macs()
        keep = self.result.keep
        assert keep is not None
        units = {f.name: as_units(f.name, f.size, keep[f.name])[0] for f in self.coupling.families if f.name in keep}
        left = self.coupling.macs(self.coupling.gone(units)) / self.coupling.macs()
        self.row |= {"macs": left, "parameters_left": parameters(self.model) / self.row["parameters"]}
        nearest = next((message for message in told if "nearest that whole units allow" in message), None)
        if nearest is not None:
            self.row["nearest"] = nearest
        elif abs(left / self.row.get("least", 0.5) - 1) > _CLOSE:
            raise Failed(f"its MACs are {left:.4f} of the dense ones, and nothing was said of it")
        if self.row["parameters_left"] >= 1:
            raise Failed("no parameter went")

    def _half_the_macs(self) -> sc.Result:
        """Cut to half, or to the least that the refusal of a half names."""
        asked: dict[str, Any] = {"structure": "channels", "example": self.example}
        try:
            return sc.prune(self.model, "magnitude", macs=0.5, **asked)
        except BudgetError as error:
            least = re.search(r"macs=([0-9.]+) or more", str(error))
            if least is None:
                raise
            self.row["least"] = float(least[1])
        return sc.prune(self.model, "magnitude", macs=min(self.row["least"] + 0.001, 1.0), **asked)

    def forward(self) -> None:
        save_file(outputs(self.model, self.case), self.folder / _OUTPUTS)

    def backward(self) -> None:
        missing = sorted(self.trained - trained(self.model, self.example))
        if missing:
            raise Failed(f"{len(missing)} parameters have no gradient any more, such as {missing[0]}")

    def save(self) -> None:
        self.result.save(self.folder / _RESULT)
        (self.folder / _DIGEST).write_text(f"{self.row['rung']}\n{digest(self.model)}")


def given(case: Case) -> Any:
    """The example, the same in every process."""
    torch.manual_seed(0)
    return case.example()


def outputs(model: nn.Module, case: Case) -> dict[str, Tensor]:
    """Every tensor that a model gives, numbered."""
    example = given(case)
    with still(model):
        found = first_call(model, example)
    return {str(number): tensor.clone().contiguous() for number, tensor in enumerate(tensors_in(found))}


def trained(model: nn.Module, example: Any) -> set[str]:
    """The parameters that a backward pass reaches, on a copy; in eval mode where training asks for more than inputs."""
    twin = copy.deepcopy(model)
    torch.manual_seed(0)
    try:
        found = first_call(twin.train(), example)
    except Exception:  # detectors want targets
        found = first_call(twin.eval(), example)
    sums = [tensor.float().sum() for tensor in tensors_in(found) if tensor.requires_grad]
    if sums:
        torch.stack(sums).sum().backward()
    return {name for name, parameter in twin.named_parameters() if parameter.grad is not None}


@contextmanager
def warnings_of_ours() -> Iterator[list[str]]:
    """What the library warns of, while it lasts."""
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("secateur")
    log.addHandler(handler)
    try:
        yield told
    finally:
        log.removeHandler(handler)


def failure(step: str, error: BaseException) -> dict[str, str]:
    """The step, what went wrong, and in which of our functions and of all functions."""
    told = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {first_line(error)}"
    places: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        ours = [frame for frame in frames if "secateur" in Path(frame.filename).parts]
        places += [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (*ours[-1:], *frames[-1:])]
        cause = cause.__cause__
    return {"failed": step, "error": told, "where": " < ".join(dict.fromkeys(places))}


def _near(a: Tensor, b: Tensor) -> bool:
    """Equal but for the last bits."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=1e-6, atol=1e-7, equal_nan=True)


def digest(model: nn.Module) -> str:
    """Of every tensor that a model holds, and of its name."""
    found = hashlib.sha256()
    for name, tensor in sorted({**model.state_dict(), **dict(model.named_buffers())}.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
