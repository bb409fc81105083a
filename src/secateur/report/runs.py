"""One run of a report: a row of a comparison, or a saved result by itself, both as the same record."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from secateur.core.files import shape_of

from .read import mapping, number, plain, text

DENSE, SMALL = "dense", "small-dense"
COSTS = {
    "nonzero": ("non-zero parameters", ""),
    "params": ("parameters", ""),
    "macs_nonzero": ("MACs non-zero", "per sample"),
    "macs": ("MACs", "per sample"),
    "bytes_on_disk": ("bytes on disk", "B"),
    "latency_ms": ("latency", "ms"),
    "latency_ratio": ("latency ratio", "dense = 1"),
}
_MOST_GROUPS = 2000
_TENSORS = ("model.safetensors", "keep.safetensors", "probe.safetensors")


@dataclass(frozen=True)
class Run:
    """What the report knows of a run.

    Attributes:
        source: where it comes from: the number of a comparison, or that of the loose results.
        costs: by the keys of `COSTS`; unknown ones are missing.
        facts: other figures of the row: real sparsity, training steps, processor time.
        folder: the saved result, where there is one.
        layers: share removed by group, in the order of the network.
        masks: number of weights or units by name of a stored keep.
        masks_in: file in the folder that holds its bits, and the name in it of those of a group `{}`.
        curve: steps and training losses.
        about: recipe, settings, versions: shown in the details.
    """

    source: int
    name: str
    method: str
    label: str
    sparsity: float | None
    structure: str
    recovery: str
    seed: int
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    facts: Mapping[str, float]
    tuned: str = ""
    command: str | None = None
    error: str = ""
    folder: Path | None = None
    layers: Mapping[str, float] = field(default_factory=dict)
    masks: Mapping[str, int] = field(default_factory=dict)
    masks_in: tuple[str, str] = ("", "")
    curve: tuple[list[float], list[float]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


_FACTS = (
    "real_sparsity",
    "sparsity_all",
    "train_steps",
    "train_steps_before",
    "train_macs",
    "train_macs_before",
    "cpu_seconds",
)


def run_of_row(row: Mapping[str, Any], source: int, name: str) -> Run:
    """The record of a `row.json`, or of an `error.json`."""
    sparsity = number(row.get("sparsity"))
    command = row.get("command")
    method = text(row.get("method")) or "unnamed"
    return Run(
        source=source,
        name=name,
        method=method,
        label=text(row.get("label")) or method,
        sparsity=None if method == DENSE else sparsity,
        structure=text(row.get("structure")),
        recovery=text(row.get("recovery")) or "none",
        seed=int(number(row.get("seed")) or 0),
        metrics=_figures(mapping(row.get("metrics"))),
        costs=_figures({key: row.get(key) for key in COSTS}),
        facts=_figures({key: row.get(key) for key in _FACTS}),
        tuned=text(row.get("tuned")),
        command=text(command, 4000) if isinstance(command, str) else None,
        error=text(row.get("error"), 4000),
        about={"settings": plain(row.get("settings") or {})},
    )


def run_of_result(manifest: Mapping[str, Any], folder: Path, source: int, name: str) -> Run:
    """The record of a saved result that belongs to no comparison."""
    made = mapping(manifest.get("provenance"))
    report = mapping(manifest.get("sparsity"))
    recipe = mapping(made.get("recipe"))
    target = number(made.get("sparsity"))
    structure = recipe.get("structure")
    row: dict[str, Any] = {
        "method": made.get("method") or "own recipe",
        "sparsity": number(report.get("sparsity")) if target is None else target,
        "structure": "+".join(structure) if isinstance(structure, dict) else structure,
        "recovery": _recovery(recipe.get("recovery")),
        "seed": made.get("seed"),
        "real_sparsity": report.get("sparsity"),
        "sparsity_all": report.get("sparsity_all"),
        "train_steps": made.get("train_steps"),
        **_measures(mapping(manifest.get("after"))),
    }
    weights = folder / "model.safetensors"
    if weights.is_file():
        row["bytes_on_disk"] = weights.stat().st_size
    return with_result(run_of_row(row, source, name), folder, manifest)


def run_before(run: Run, manifest: Mapping[str, Any]) -> Run | None:
    """The dense start of a loose result, where its measures are known."""
    before = _measures(mapping(manifest.get("before")))
    if not before["metrics"]:
        return None
    row = {"method": DENSE, "seed": run.seed, "recovery": "none", **before}
    return run_of_row(row, run.source, f"{run.name}: before")


def with_result(run: Run, folder: Path, manifest: Mapping[str, Any]) -> Run:
    """The record together with what only the saved result knows."""
    from secateur.engine.manifest import keep_place

    made = mapping(manifest.get("provenance"))
    groups = _figures(mapping(mapping(manifest.get("sparsity")).get("per_group")))
    about = {
        "recipe": plain(made.get("recipe")),
        "training": plain(made.get("training")),
        "versions": plain(mapping(made.get("versions"))),
        "date": text(made.get("date")),
        **run.about,
    }
    return replace(
        run,
        folder=folder,
        layers=dict(list(groups.items())[:_MOST_GROUPS]),
        masks=_sizes(mapping(manifest.get("keep"))),
        masks_in=keep_place(manifest),
        curve=_curve(mapping(manifest.get("curve"))),
        about=about,
    )


def read_result(folder: Path) -> dict[str, Any]:
    """`secateur.json`, checked. The tensors are not hashed, because a report wants few of them.

    Raises:
        CheckpointError: it is damaged, too new or edited.
    """
    from secateur.engine.manifest import read_manifest

    return read_manifest(folder, later=_TENSORS)


def _measures(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"metrics": mapping(found.get("metrics")), **{key: found.get(key) for key in COSTS}}


def _figures(found: Mapping[str, Any]) -> dict[str, float]:
    return {text(k): n for k, v in found.items() if (n := number(v)) is not None}


def _recovery(parts: Any) -> str:
    parts = parts if isinstance(parts, list) else []
    return "+".join(text(next(iter(p), "")) if isinstance(p, dict) else text(p) for p in parts)


def _sizes(keep: Mapping[str, Any]) -> dict[str, int]:
    sizes = {}
    for name, shape in keep.items():
        with suppress(ValueError):
            sizes[name] = prod(shape_of(shape))
    return sizes


def _curve(found: Mapping[str, Any]) -> tuple[list[float], list[float]] | None:
    steps, losses = found.get("step"), found.get("loss")
    if not isinstance(steps, list) or not isinstance(losses, list):
        return None
    pairs = [(number(step), number(loss)) for step, loss in zip(steps, losses, strict=False)]
    known = [(step, loss) for step, loss in pairs if step is not None and loss is not None]
    return ([step for step, _ in known], [loss for _, loss in known]) if len(known) > 1 else None
