"""The command that makes a comparison, or one of its cells, again."""

import shlex
from collections.abc import Sequence
from typing import Any

from secateur.core import spell_call


def compare_command(
    protocol: dict[str, Any],
    methods: Sequence[str],
    sparsities: Sequence[float | None],
    recoveries: Sequence[str],
    seeds: Sequence[int],
    output: str,
) -> str:
    """A line for the shell.

    Args:
        protocol: as `comparison.json` has it.
        methods: as texts, `gmp(end=0.6)`.
        output: the folder to name.
    """
    words = ["secateur", "compare", protocol["model"], "-t", protocol["task"]]
    words += ["-m", ",".join(methods)]
    known = [repr(s) for s in sparsities if s is not None]
    words += ["-s", ",".join(known)] if known else []
    for seed in seeds:
        words += ["--seed", str(seed)]
    words += ["--heal", f"{protocol['epochs']['heal']:g}", "--recoveries", ",".join(recoveries)]
    words += ["--budget", protocol["budget"]]
    words += ["--structure", protocol["structure"]] if protocol["structure"] else []
    if protocol["train"] is not None:
        words.append("--train" if protocol["train"] else "--trained")
    if protocol["small_dense"]:
        words += ["--small-dense"] if protocol["small_dense"] is True else ["--narrow", protocol["small_dense"]]
    words += ["--scratch", ",".join(protocol["scratch"])] if protocol["scratch"] else []
    words += ["--device", protocol["device"]] if protocol["device"] else []
    return shlex.join([*words, "-o", output])


def cell_command(config: dict[str, Any], protocol: dict[str, Any], whole: str | None) -> str | None:
    """The command of one cell; a baseline belongs to the whole comparison's. None where that has none."""
    if whole is None or config["recovery"] is None:
        return whole
    label = spell_call(config["method"], config["settings"])
    alone = {**protocol, "small_dense": False, "scratch": []}
    return compare_command(alone, [label], [config["sparsity"]], [config["recovery"]], [config["seed"]], "runs/again")
