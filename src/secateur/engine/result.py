"""Result: the pruned subject, what was done, what stays, before and after, and how to do it again."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from secateur._version import __version__
from secateur.core import Keep, Plan, Recipe

from .base import as_saved, describe, save_base
from .checkpoint import save_keep, save_tensors, write_folder, write_manifest
from .environment import versions


@dataclass(repr=False)
class Result:
    """What pruning gives back.

    Attributes:
        subject: the pruned model (masks folded in: a plain module with zeros), or the subset of samples.
        plan: what was done, replayable.
        keep: what stays, per group in units.
        masks: for weights, what stays in each tensor's own shape.
        before, after: measures of the subject.
        sparsity: the report: share removed among prunable units and among all parameters, per group, collapsed
            groups, what was skipped and why.
        history: one entry for each pruning.
        provenance: recipe, target, seed, versions, date, training steps.
        curve: the training loss, `step` and `loss`, at most 200 points; empty where nothing trained.
        example: inputs that a saved result is verified with.
        base: how to build the architecture that was pruned; by default that of the subject.
    """

    subject: Any
    plan: Plan
    keep: Keep | None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    sparsity: Mapping[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    curve: Mapping[str, Any] = field(default_factory=dict)
    example: Any | None = None
    base: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """What it is and what changed, in a line."""
        told = [f"method={self.provenance.get('method')}", f"sparsity={self.sparsity.get('sparsity', 0):.4g}"]
        for name in ("params", "nonzero", "macs"):
            was, now = self.before.get(name), self.after.get(name)
            if was is not None and now is not None and was != now:
                told.append(f"{name}={was:,} -> {now:,}")
        told += [f"{name}={value:.4g}" for name, value in self.metrics.items()]
        return f"Result({type(self.subject).__name__}, {', '.join(told)})"

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics after pruning; empty without a task."""
        return dict(self.after.get("metrics", {}))

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write a folder of safetensors and JSON, or one ONNX file where the name ends in ".onnx"; whole or not at all.

        An ONNX file is compared with the model in onnxruntime first: see `secateur.onnx.export`.

        Raises:
            CheckpointError: it is there already, or cannot be written; what was there is still whole.
        """
        if Path(folder).suffix.lower() == ".onnx":
            from secateur.onnx import export

            return export(self, folder, overwrite=overwrite).file
        return write_folder(folder, self._fill, overwrite)

    def _fill(self, folder: Path) -> None:
        manifest: dict[str, Any] = {
            "secateur": __version__,
            "plan": self.plan.to_json(),
            "before": self.before,
            "after": self.after,
            "sparsity": self.sparsity,
            "history": self.history,
            "provenance": self.provenance,
            "curve": self.curve,
        }
        if isinstance(self.subject, nn.Module):
            base = describe(self.subject) if self.base is None else as_saved(self.base, self.subject)
            manifest |= {"subject": "module", "base": base}
            manifest["aliases"] = save_tensors(folder, self.subject, self.masks)
            manifest["keep"] = {name: list(mask.shape) for name, mask in self.masks.items()}
            if self.keep is not None and not self.masks:
                manifest["keep"] = {name: list(mask.shape) for name, mask in self.keep.masks.items()}
                save_keep(folder, self.keep)
            save_base(self.subject, folder)
            self._fill_probe(folder)
        else:
            assert self.keep is not None
            manifest |= {"subject": "samples", "keep": {n: list(m.shape) for n, m in self.keep.masks.items()}}
            save_keep(folder, self.keep)
        write_manifest(folder, manifest)

    def _fill_probe(self, folder: Path) -> None:
        """One small input and its output, so that a loaded folder can prove itself."""
        if not isinstance(self.example, Tensor):
            return
        inputs = self.example.detach()[:4]
        outputs = probe_outputs(self.subject, inputs)
        if outputs is not None and outputs.numel() < 1 << 20:
            tensors = {"inputs": inputs.cpu().contiguous(), "outputs": outputs.cpu().contiguous()}
            (folder / "probe.safetensors").write_bytes(save(tensors))


@torch.no_grad()
def probe_outputs(model: nn.Module, inputs: Tensor) -> Tensor | None:
    """The model's output tensor in eval mode; None where it gives no single tensor."""
    was_training = model.training
    outputs = model.eval()(inputs.to(next(model.parameters()).device))
    model.train(was_training)
    outputs = getattr(outputs, "logits", outputs)
    return outputs if isinstance(outputs, Tensor) else None


def provenance(recipe: Recipe | None, method: str | None, **facts: Any) -> dict[str, Any]:
    """Recipe, versions and date, beside the given facts."""
    return {
        "method": method,
        "recipe": None if recipe is None else recipe.to_json(),
        **facts,
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
