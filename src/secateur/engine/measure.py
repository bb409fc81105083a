"""Measures of a subject: what it can do, and what it costs. Sparsity is always told twice, prunable and all."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from secateur.core import Task, first_call, masks_of, samples_for
from secateur.core.costs import Layer, layers
from secateur.runtime.hardware import CONVOLUTION_STEP


def measure(
    model: nn.Module, task: Task | None, example: Any | None, macs: Mapping[str, int | None] | None = None
) -> tuple[dict[str, Any], list[Layer]]:
    """Metrics on the task's test data, and costs; and the rows that these are summed over.

    Args:
        macs: by parameter, where they are known; else they are counted on the example.

    Returns:
        Metrics by name; `params`, `nonzero`, `bytes` of the dense tensors, `storage` in several formats; with an
        example also, for one sample, `macs` (executed by dense kernels), `macs_nonzero` (those that multiply by a
        weight that is not zero) and `macs_in_steps` (with channels of convolutions rounded up to multiples of 16).
    """
    found: dict[str, Any] = {"metrics": task.evaluate(model) if task is not None else {}}
    rows = _rows(model, task, example, macs)
    found |= {"params": sum(r.params for r in rows), "nonzero": sum(r.nonzero for r in rows)}
    found["storage"] = storage(model, rows)
    found["bytes"] = found["storage"]["dense"]
    return (found if example is None else found | _multiplied(rows)), rows


def multiplications(model: nn.Module, task: Task | None, example: Any) -> dict[str, int]:
    """`macs` and `macs_nonzero` of one sample, as of `measure`."""
    return _multiplied(_rows(model, task, example))


def _rows(
    model: nn.Module, task: Task | None, example: Any | None, macs: Mapping[str, int | None] | None = None
) -> list[Layer]:
    inputs = None if example is None else samples_for(model, example)
    return layers(model, inputs, first_call if task is None else task.call, macs)


def _multiplied(rows: Iterable[Layer]) -> dict[str, int]:
    rows = list(rows)
    nonzero = sum(round((r.macs or 0) * r.nonzero / r.params) for r in rows if r.params)
    steps = sum(in_steps(r) for r in rows)
    return {"macs": sum(r.macs or 0 for r in rows), "macs_nonzero": nonzero, "macs_in_steps": steps}


def in_steps(row: Layer) -> int:
    """The MACs of a convolution whose channels are rounded up to multiples of 16, by which kernels advance.

    Fewer inputs than that (pictures, the one channel of a depthwise filter) have kernels of their own and count as they
    are, and so do all other layers.
    """
    macs = row.macs or 0
    if len(row.shape) < 3 or "Conv" not in row.kind or "Transpose" in row.kind:
        return macs
    made, taken = row.shape[:2]
    taken_share = _rounded_up(taken) / taken if taken >= CONVOLUTION_STEP else 1.0
    return round(macs * taken_share * _rounded_up(made) / max(made, 1))


def _rounded_up(channels: int) -> int:
    return -(-channels // CONVOLUTION_STEP) * CONVOLUTION_STEP


def sparsity_report(
    measured: Mapping[str, Any], kept: Mapping[str, int], sizes: Mapping[str, int], skipped: Mapping[str, str]
) -> dict[str, Any]:
    """Sparsity over the prunable units and over all parameters, per group, and which groups are empty.

    Zeros that were there before pruning count as removed among all parameters, but not among the units.

    Args:
        measured: what `measure` gave afterwards; nothing for a subject without parameters.
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
    if "params" in measured:
        report["sparsity_all"] = 1 - measured["nonzero"] / max(measured["params"], 1)
    return report


def storage(model: nn.Module, rows: Iterable[Layer] | None = None) -> dict[str, int]:
    """Bytes of the weights in several formats, dense layers included: what large-sparse really costs.

    Args:
        rows: of `layers`, where they are there already.

    Returns:
        `dense`; `bitmask` (values and one bit per weight); `csr16` and `csr32` (values, a column index of 16 or 32
        bits each, and row pointers of 32 bits). A matrix wider than 2^16 has no 16-bit index and counts with 32.
    """
    masks = masks_of(model)
    total = dict.fromkeys(("dense", "bitmask", "csr16", "csr32"), 0)
    for row in layers(model) if rows is None else rows:
        size, nonzero, dense = row.bytes // max(row.params, 1), row.nonzero, row.bytes
        sparse = len(row.shape) >= 2 and (row.name in masks or nonzero < row.params)
        high, cols = (row.shape[0], row.params // max(row.shape[0], 1)) if sparse else (0, 0)
        index16 = 2 if cols <= 1 << 16 else 4
        total["dense"] += dense
        total["bitmask"] += nonzero * size + -(-row.params // 8) if sparse else dense
        total["csr16"] += nonzero * (size + index16) + 4 * (high + 1) if sparse else dense
        total["csr32"] += nonzero * (size + 4) + 4 * (high + 1) if sparse else dense
    return total
