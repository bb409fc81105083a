"""Structured pruning: finding the families of a model and cutting half of each, against Torch-Pruning 1.6.1.

Every model is found and cut in a forked process of its own, capture and trial passes included; the peer builds its
dependency graph and prunes by half with magnitude importance, its last classifier left alone, and is told which heads
there are. Figures are processor seconds; a peer that does not end in its limit is recorded as such. Ours is then held
against the masked reference, on other inputs, in float64 (float32 above 100 million parameters).

Also measured: peak memory above the model (fresh processes), a Llama of 1.2 billion parameters on the meta device, what
a proof costs in dense forward passes, and how time grows with the graph. The peer comes from PYTHONPATH
(`pip install --no-deps --target PLACE torch-pruning==1.6.1`); without it ours is measured alone.
"""

import importlib.util
import json
import math
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness import cpu_s, forked, parser, tell
from load import high_water
from secateur.graph.capture import still
from secateur.graph.find import couple
from secateur.graph.masked import masked_outputs
from secateur.graph.surgery import cut_
from structured_cases import Case, cases, images, llama_1b
from structured_sides import half, ours, parameters, theirs

LARGE = ("vgg16", "densenet201", "convnext_base", "vit_b_16")
PROVEN = ("resnet50", "vit_b_16", "densenet121")
PARTS = ("models", "memory", "proof")
GROWING = ("densenet121", "densenet161", "densenet169", "densenet201")


def both(case: Case, peer: bool, pairs: int, limit_s: int) -> dict[str, Any]:
    """Both sides of one model, in interleaved pairs; a side that fails is not asked again."""
    sides = {"ours": lambda: ours(case), **({"theirs": lambda: theirs(case)} if peer else {})}
    times: dict[str, list[float]] = {side: [] for side in sides}
    told: dict[str, dict[str, Any]] = {}
    for i in range(pairs):
        for side, work in sides.items() if i % 2 else reversed(sides.items()):
            if i and "cpu_s" not in told[side]:
                continue
            found = forked(work, 10 * limit_s if side == "ours" else limit_s)
            told[side] = found if not i else told[side]
            times[side] += [found["cpu_s"]] if "cpu_s" in found else []
    for side, found in told.items():
        if times[side]:
            found["cpu_s"] = statistics.median(times[side])
    return told


def spread(times: list[float]) -> dict[str, float]:
    """Median, ninth decile and worst."""
    ordered = sorted(times)
    return {
        "models": len(ordered),
        "median_s": statistics.median(ordered),
        "p90_s": ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)],
        "worst_s": ordered[-1],
    }


def summary(models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Over the models of torchvision."""
    found: dict[str, Any] = {}
    mine = [m for name, m in models.items() if name.startswith("torchvision/")]
    for side in ("ours", "theirs"):
        times = [m[side]["cpu_s"] for m in mine if "cpu_s" in m.get(side, {})]
        if times:
            found[side] = spread(times)
            found[side]["failed"] = sum("error" in m[side] for m in mine)
    found["equal"] = sum(bool(m["ours"].get("equal")) for m in models.values())
    found["of"] = len(models)
    return found


def exponent(models: dict[str, dict[str, Any]]) -> float | None:
    """Of time over the number of operations, by least squares of the logarithms over the DenseNets."""
    held = [models[f"torchvision/{name}"]["ours"] for name in GROWING if f"torchvision/{name}" in models]
    points = [(math.log(m["nodes"]), math.log(m["cpu_s"])) for m in held if "cpu_s" in m]
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None


def warm() -> None:
    """Imports and torch's own tables, which both sides need once in a process."""
    small, example = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval(), torch.randn(1, 3, 8, 8)
    coupling = couple(small, lambda model: model(example))
    cut_(small, lambda model: model(example), coupling, coupling.gone(half(coupling)))


def peak(what: str) -> dict[str, Any]:
    """Memory of find and cut above the model, in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--peak", what], capture_output=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def tell_peak(what: str) -> None:
    """In a process of its own."""
    warm()
    if what == "llama-1b":
        model, ids = llama_1b(), torch.zeros(1, 16, dtype=torch.long, device="meta")
        call = lambda m: m(input_ids=ids, use_cache=False).logits  # noqa: E731
    else:
        case = cases()[f"torchvision/{what}"]
        model, call = case.model(), case.call()
    told: dict[str, Any] = {"parameters": parameters(model)}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin = high_water(), time.process_time()
    coupling = couple(model, call)
    told |= {"find_s": time.process_time() - begin, "find_bytes": high_water() - before}
    gone = coupling.gone(half(coupling))
    begin = time.process_time()
    cut_(model, call, coupling, gone)
    told |= {"cut_s": time.process_time() - begin, "extra_bytes": high_water() - before}
    told |= {"families": len(coupling.families), "nodes": len(coupling.graph.nodes)}
    told |= {"parameters_left": parameters(model) / told["parameters"], "rung": coupling.graph.rung}
    told |= {"model_bytes": 0 if what == "llama-1b" else 4 * told["parameters"]}
    print(json.dumps(told))


def proof_cost(case: Case, repeats: int = 5) -> dict[str, Any]:
    """Two masked passes, one with garbage, and two of the smaller model, in dense passes of an image of 224."""
    model, call = case.model(), replace(case, example=images(224)).call()
    coupling = couple(model, call)
    gone = coupling.gone(half(coupling))
    times: dict[str, list[float]] = {"dense": [], "masked": [], "garbage": [], "pruned": []}

    def plain() -> None:
        with still(model):
            call(model)

    plain()
    for _ in range(repeats):
        times["dense"].append(cpu_s(plain))
        times["masked"].append(cpu_s(lambda: masked_outputs(model, call, coupling, gone)))
        times["garbage"].append(cpu_s(lambda: masked_outputs(model, call, coupling, gone, garbage=1)))
    cut_(model, call, coupling, gone)
    times["pruned"] = [cpu_s(plain) for _ in range(repeats)]
    found: dict[str, Any] = {f"{name}_s": statistics.median(all_) for name, all_ in times.items()}
    whole = found["masked_s"] + found["garbage_s"] + 2 * found["pruned_s"]
    return found | {
        "proof_in_dense_passes": whole / found["dense_s"],
        "target_in_dense_passes": 3 + found["pruned_s"] / found["dense_s"],
    }


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=1, help="of both sides for each model")
    options.add_argument("--only", default="", help="regular expression over zoo/name; other models in FILE stay")
    options.add_argument("--limit", type=int, default=60, metavar="S", help="processor seconds of the peer")
    options.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="other figures in FILE stay")
    options.add_argument("--peak", metavar="WHAT", help="used by the benchmark itself")
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        tell_peak(given.peak)
        return
    peer = importlib.util.find_spec("torch_pruning") is not None
    if peer:
        import torch_pruning  # noqa: F401  # before the fork, as ours is
    first = cpu_s(warm)
    known = cases()
    stored = given.json is not None and given.json.exists()
    figures: dict[str, Any] = json.loads(given.json.read_text())["figures"] if stored else {}
    figures["first_call_s"] = first
    if "models" in given.parts:
        models = figures.setdefault("models", {})
        for name, case in known.items():
            if re.search(given.only, name):
                models[name] = both(case, peer, given.pairs, given.limit)
                _say(name, models[name])
        figures |= {"summary": summary(models), "exponent": exponent(models)}
    if "memory" in given.parts:
        figures["memory"] = {name: peak(name) for name in LARGE}
        figures["llama_1b"] = peak("llama-1b")
    if "proof" in given.parts:
        figures["proof"] = {n: forked(lambda n=n: proof_cost(known[f"torchvision/{n}"]), 600) for n in PROVEN}
    tell("structured", figures, given.json)


def _say(name: str, told: dict[str, dict[str, Any]]) -> None:
    mine, other = told["ours"], told.get("theirs", {})
    seconds = "  ".join(f"{s.get('cpu_s', math.nan):6.2f}" for s in (mine, other))
    problems = "; ".join(filter(None, (mine.get("error"), "" if mine.get("equal") else "not equal")))
    print(f"{name:45} {seconds}  {problems}  {other.get('error', '')}", file=sys.stderr)


if __name__ == "__main__":
    main()
