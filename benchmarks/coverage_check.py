"""What a model must pass in `coverage.py`, one step after another; the first that fails ends it."""

import copy
import logging
import re
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import secateur as sc
from secateur.core import BudgetError, first_call
from secateur.graph.capture import still, tensors_in
from secateur.graph.coupling import Coupling, Gone
from secateur.graph.find import couple
from structured_cases import Case
from structured_sides import first_line, parameters

CLOSE, WIDE = 0.01, 0.55
_OUTPUTS, _RESULT = "outputs.safetensors", "result"


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
    row: dict[str, Any] = {}
    begin = time.process_time()
    steps = _Steps(case, folder, row)
    for step in ("build", "find", "prune", "forward", "backward", "save"):
        try:
            getattr(steps, step)()
        except Exception as error:  # whatever a model does: it is a finding
            row |= {"failed": step, "error": _told(error), "where": _where(error)}
            break
    return row | {"cpu_s": round(time.process_time() - begin, 2)}


def loaded(case: Case, folder: Path) -> dict[str, Any]:
    """In a process that never had the model: loaded as one loads such a model, it gives the same to the last bit."""
    begin = time.process_time()
    try:
        model = _load(case, folder / _RESULT)
        found = _outputs(model, case)
        wanted = load_file(folder / _OUTPUTS)
        gaps = [float((a - wanted[n]).abs().max()) for n, a in found.items() if not _same(a, wanted[n])]
        if gaps or found.keys() != wanted.keys():
            raise Failed(f"{len(gaps)} of {len(wanted)} outputs differ, by up to {max(gaps, default=0):.2e}")
    except Exception as error:  # whatever a model does: it is a finding
        return {"failed": "load", "error": _told(error), "where": _where(error)}
    return {"load_s": round(time.process_time() - begin, 2)}


def _load(case: Case, folder: Path) -> nn.Module:
    if case.zoo == "transformers":
        from secateur.transformers import from_pretrained

        model = from_pretrained(folder)
    else:
        model = sc.load(folder, factory=case.build)
    assert isinstance(model, nn.Module)
    return model


class _Steps:
    """The steps, which hand the model on."""

    def __init__(self, case: Case, folder: Path, row: dict[str, Any]) -> None:
        self.case, self.folder, self.row = case, folder, row

    def build(self) -> None:
        self.model = self.case.model()
        self.example = given(self.case)
        self.row["parameters"] = parameters(self.model)
        with still(self.model):
            first_call(self.model, self.example)

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
        gone = halves(self.coupling)
        self.row["half"] = 1 - lost(self.coupling, self.model, gone) / self.row["parameters"]
        if self.row["half"] > WIDE:
            self.row["held"] = held(self.coupling, self.model, gone)
        if not self.coupling.families:
            raise Failed("no families")

    def prune(self) -> None:
        self.trained = trained(self.model, self.example)
        with _listening() as told:
            self.result = self._half_the_macs()
        keep = self.result.keep
        assert keep is not None
        left = self.coupling.macs(self.coupling.gone(keep.masks)) / self.coupling.macs()
        self.row |= {"macs": left, "parameters_left": parameters(self.model) / self.row["parameters"]}
        measured = self.result.before.get("macs"), self.result.after.get("macs")
        self.row["macs_measured"] = measured[1] / measured[0] if measured[0] else None
        named = [m for m in told if "nearest that whole units allow" in m]
        asked = self.row.get("least", 0.5)
        if named:
            self.row["nearest"] = named[0]
        elif abs(left / asked - 1) > CLOSE:
            raise Failed(f"MACs of {left:.4f} instead of {asked}, and no word of it")
        if not self.row["parameters_left"] < 1:
            raise Failed("no parameter fewer")

    def _half_the_macs(self) -> sc.Result:
        asked = {"structure": "channels", "example": self.example}
        try:
            return sc.prune(self.model, "magnitude", macs=0.5, **asked)
        except BudgetError as error:
            least = re.search(r"macs=([0-9.]+) or more", str(error))
            if least is None:
                raise
            self.row["least"] = float(least[1]) + 0.001
            return sc.prune(self.model, "magnitude", macs=self.row["least"], **asked)

    def forward(self) -> None:
        found = _outputs(self.model, self.case)
        if not found:
            raise Failed("no outputs")
        save_file(found, self.folder / _OUTPUTS)

    def backward(self) -> None:
        now = trained(self.model, self.example)
        missing = sorted(self.trained - now)
        if missing:
            raise Failed(f"{len(missing)} parameters have no gradient any more, such as {missing[0]}")

    def save(self) -> None:
        self.result.save(self.folder / _RESULT)


def given(case: Case) -> Any:
    """The example, the same in every process."""
    torch.manual_seed(0)
    return case.example()


def halves(coupling: Coupling) -> Gone:
    """Half the units of every family go; of an odd number, the smaller half."""
    keep = {f.name: torch.arange(f.size) < (f.size + 1) // 2 for f in coupling.families}
    return coupling.gone(keep)


def lost(coupling: Coupling, model: nn.Module, gone: Gone) -> int:
    """How many parameters go."""
    names = {name for name, _ in model.named_parameters()}
    return sum(n for name, n in coupling.lost(gone).items() if name in names)


def held(coupling: Coupling, model: nn.Module, gone: Gone) -> list[dict[str, Any]]:
    """Why more than half stays: parameters that stay nearly whole, by the engine's reasons, most parameters first."""
    less = coupling.lost(gone)
    why: dict[str, set[str]] = {}
    for site, reason in coupling.frozen.items():
        name, _, dim = site.rpartition(", dimension ")
        why.setdefault(name, set()).add(f"dim {dim}: {re.sub(r'[.][0-9]+', '.*', reason)}")
    found: dict[str, dict[str, Any]] = {}
    for name, tensor in model.named_parameters():
        stay = tensor.numel() - less.get(name, 0)
        if stay > WIDE * tensor.numel():
            reason = " | ".join(sorted(why.get(name, {"no operation meets it, or it is a single unit"})))
            entry = found.setdefault(reason, {"reason": reason, "parameters": 0, "such_as": name})
            entry["parameters"] += stay
    return sorted(found.values(), key=lambda e: -e["parameters"])[:5]


def trained(model: nn.Module, example: Any) -> set[str]:
    """The parameters that a backward pass of a copy reaches; in eval mode where its forward in train mode wants more."""
    twin = copy.deepcopy(model)
    for training in (True, False):
        twin.train(training)
        twin.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        try:
            outputs = first_call(twin, example)
        except Exception:
            if training:
                continue
            raise
        break
    floats = [t for t in tensors_in(outputs) if t.requires_grad]
    torch.stack([t.float().sum() for t in floats]).sum().backward()
    return {name for name, p in twin.named_parameters() if p.grad is not None}


def _outputs(model: nn.Module, case: Case) -> dict[str, Tensor]:
    example = given(case)
    with still(model):
        torch.manual_seed(1)
        return {str(i): t.contiguous().clone() for i, t in enumerate(tensors_in(first_call(model, example)))}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


@contextmanager
def _listening():
    """What the library warns of, while it lasts."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("secateur")
    log.addHandler(handler)
    try:
        yield told
    finally:
        log.removeHandler(handler)


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {first_line(error)}"


def _where(error: BaseException) -> str:
    """The last frame of ours, and the last of all."""
    seen: list[str] = []
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "secateur" in f.filename]
        seen += [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (*ours[-1:], *frames[-1:])]
        error = error.__cause__  # type: ignore[assignment]
    return " < ".join(dict.fromkeys(seen))
