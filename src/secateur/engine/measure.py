"""Measures of a subject: what it can do, and what it costs. Sparsity is always told twice, prunable and all."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.core import Task, first_call, masks_of, samples_for
from secateur.core.costs import layers, totals


def measure(model: nn.Module, task: Task | None, example: Any | None) -> dict[str, Any]:
    """Metrics on the task's test data, and costs.

    Returns:
        Metrics by name; `params`, `nonzero`, `bytes` of the dense tensors, `storage` in several formats; with an
        example also, for one sample, `macs` (executed by dense kernels) and `macs_nonzero` (those that multiply by a
        weight that is not zero).
    """
    found: dict[str, Any] = {"metrics": task.evaluate(model) if task is not None else {}}
    found |= totals(model)
    found["storage"] = storage(model)
    found["bytes"] = found["storage"]["dense"]
    return found if example is None else found | multiplications(model, task, example)


def multiplications(model: nn.Module, task: Task | None, example: Any) -> dict[str, int]:
    """`macs` and `macs_nonzero` of one sample, as of `measure`."""
    rows = layers(model, samples_for(model, example), first_call if task is None else task.call)
    nonzero = sum(round((r.macs or 0) * r.nonzero / r.params) for r in rows if r.params)
    return {"macs": sum(r.macs or 0 for r in rows), "macs_nonzero": nonzero}


def sparsity_report(
    subject: Any, kept: Mapping[str, int], sizes: Mapping[str, int], skipped: Mapping[str, str]
) -> dict[str, Any]:
    """Sparsity over the prunable units and over all parameters, per group, and which groups are empty.

    Zeros that were there before pruning count as removed among all parameters, but not among the units.

    Args:
        kept, sizes: units that stay, and units there were, per group.
        skipped: what was left out, and why.
    """
    units, stay = sum(sizes.values()), sum(kept.values())
    report: dict[str, Any] = {
        "sparsity": 1 - stay / max(units, 1),
        "units": units,
        "kept": stay,
        "per_group": {name: 1 - kept[name] / max(size, 1) for name, size in sizes.items()},
        "collapsed": [name for name, size in sizes.items() if size and not kept[name]],
        "skipped": dict(skipped),
    }
    if isinstance(subject, nn.Module):
        counted = totals(subject)
        report["sparsity_all"] = 1 - counted["nonzero"] / max(counted["params"], 1)
    return report


def storage(model: nn.Module) -> dict[str, int]:
    """Bytes of the weights in several formats, dense layers included: what large-sparse really costs.

    Returns:
        `dense`; `bitmask` (values and one bit per weight); `csr16` and `csr32` (values, a column index of 16 or 32
        bits each, and row pointers of 32 bits). A matrix wider than 2^16 has no 16-bit index and counts with 32.
    """
    masks = masks_of(model)
    total = dict.fromkeys(("dense", "bitmask", "csr16", "csr32"), 0)
    for name, p in model.named_parameters():
        size, nonzero = p.element_size(), int(torch.count_nonzero(p.detach()))
        dense = p.numel() * size
        sparse = p.dim() >= 2 and (name in masks or nonzero < p.numel())
        rows, cols = (len(p), p.numel() // max(len(p), 1)) if sparse else (0, 0)
        index16 = 2 if cols <= 1 << 16 else 4
        total["dense"] += dense
        total["bitmask"] += nonzero * size + -(-p.numel() // 8) if sparse else dense
        total["csr16"] += nonzero * (size + index16) + 4 * (rows + 1) if sparse else dense
        total["csr32"] += nonzero * (size + 4) + 4 * (rows + 1) if sparse else dense
    return total
