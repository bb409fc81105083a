"""`sc.prune`: one call from a subject and a method to a result."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secateur.core import (
    Recipe,
    Recovery,
    Structure,
    Target,
    Task,
    registry,
)
from secateur.recovery import FineTune

from .job import Job
from .methods import adapted, as_recipe, one_target
from .result import Result
from .runfolder import RunFolder
from .scratch import check_scratch, equal_shares, scratch_of, searching
from .sources import model_from
from .training import Device, is_main_process


def prune(
    subject: Any,
    method: str | Recipe,
    *,
    sparsity: float | None = None,
    keep: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    bytes: float | None = None,
    latency: float | None = None,
    task: Task | None = None,
    structure: Structure | str | None = None,
    heal: float | FineTune | None = None,
    recovery: str | Sequence[Recovery] | None = None,
    example: Any | None = None,
    seed: int = 0,
    device: str | None = None,
    mixed_precision: str = "no",
    batches: int = 16,
    run: str | Path | None = None,
    save_every_s: float = 20.0,
    **settings: Any,
) -> Result:
    """Prune a subject, heal it, measure it.

    Args:
        subject: a module (pruned in place; copy it first if you still need it), a `Delta`, a data set, or the name of
            a model: an ONNX file, a saved folder, "timm:NAME" and so on, as on the command line.
        method: a registered method's id, or a recipe of your own.
        sparsity: share removed of all prunable units; `keep=0.1` is `sparsity=0.9`, as one says it of data.
        macs, params, bytes, latency: instead of a sparsity, the share of the whole subject's cost that remains, for
            structures that cut: `macs=0.5` halves the multiplications of the example. Met within 1 % or as near as
            whole units allow.
        task: data, loss and metrics; needed by everything that trains, measures or looks at data.
        structure: instead of the method's own: an object, or "2:4", "4x4", "channels", "heads", "layers".
        heal: epochs of fine-tuning in each leg, or a `FineTune`; instead of the method's own.
        recovery: instead of the method's own: objects, or a text such as "fine-tune+distill(weight=0.7)", "scratch-b",
            or "none".
        example: a batch or inputs to count MACs with, and on which structures that cut find what is coupled; by
            default the task's first test batch.
        seed: of every random choice. The same seed gives the same result.
        device: "cpu" or "cuda"; by default the best there is when something trains, else where the model is.
        mixed_precision: "no", "bf16" or "fp16", for training.
        batches: how many batches a score that looks at data reads.
        run: a run folder; the same call with the same folder goes on after a kill.
        save_every_s: seconds between two states in the run folder.
        settings: of the method: `sc.prune(model, "gmp", sparsity=0.9, end=0.5)`.

    Returns:
        A `Result`, whose `subject` is the pruned model.

    Raises:
        RecipeError, SubjectError, BudgetError, NumericsError, CheckpointError: with what, where and how to mend it.
            Before any of the first two, nothing was changed.
    """
    if isinstance(subject, str | Path):
        subject = model_from(str(subject))
    costs = {"macs": macs, "params": params, "bytes": bytes, "latency": latency}
    share, cost = one_target(sparsity=sparsity, keep=keep, **costs)
    entry = registry.get(method).entry if isinstance(method, str) else None
    if isinstance(method, str):
        built = registry.get(method).recipe(**settings)
        if not isinstance(built, Recipe):
            result = built.run(subject, task, Target(share or 0.0, cost), run)
            assert isinstance(result, Result)
            return result
        recipe = built
    else:
        recipe = as_recipe(method, **settings)
    recipe = adapted(recipe, structure, heal, recovery)
    check_scratch(recipe)
    scratch = scratch_of(recipe)
    if scratch is not None and scratch.architecture == "uniform":
        if recipe.structure.cuts:
            found = prune(
                copy.deepcopy(subject),
                searching(recipe),
                sparsity=sparsity,
                keep=keep,
                macs=macs,
                params=params,
                bytes=bytes,
                latency=latency,
                task=task,
                example=example,
                seed=seed,
                device=device,
                mixed_precision=mixed_precision,
                batches=batches,
            )
            share, cost = 1 - found.after["macs"] / found.before["macs"], "macs"
        recipe = equal_shares(recipe)
    job = Job(subject, recipe, entry.id if entry else None, task, example, seed, batches)
    job.prepare(share, cost)
    if run is None:
        return job.run_(Device(device, mixed_precision), None)
    where = {"device": device, "mixed_precision": mixed_precision}
    with RunFolder(run, job.config() | where, every_s=save_every_s, writes=is_main_process()) as folder:
        if folder.finished:
            folder.clear()
            return job.finished(folder)
        result = job.run_(Device(device, mixed_precision), folder)
        if is_main_process():
            result.save(folder.result, overwrite=True)
            folder.clear()
        return result
