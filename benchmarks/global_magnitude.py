"""Global magnitude pruning to 90 % against `torch.nn.utils.prune.global_unstructured`: processor time and memory.

Two models of layers in the shapes of a ResNet-50 and of a small Llama. Both sides end with the masks applied to the
weights: ours is `Pruner(...)` and `finalize()`, which leaves plain weights with zeros; the peer leaves its masks and
the original weights beside the pruned ones. `sc.prune` measures the model before and after as well, which the peer does
not; that is not timed here. Memory is the peak above the model, each side in fresh processes of its own.
"""

import json
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune

import secateur as sc
from harness import paired, parser, tell

SPARSITY = 0.9


def drawn_(model: nn.Module) -> nn.Module:
    """Weights as of a trained network: normal, of similar scale everywhere, so that no layer is emptied. In place."""
    torch.manual_seed(0)
    for i, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.02 + 0.002 * (i % 7))
    return model


def resnet50() -> nn.Module:
    """The convolutions and the classifier of a ResNet-50: 25.5 million weights."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        layers.append(nn.Conv2d(inputs, 4 * width, 1, bias=False))
        for _ in range(blocks):
            layers += [nn.Conv2d(inputs, width, 1, bias=False), nn.Conv2d(width, width, 3, bias=False)]
            layers.append(nn.Conv2d(width, 4 * width, 1, bias=False))
            inputs = 4 * width
    return drawn_(nn.Sequential(*layers, nn.Linear(2048, 1000, bias=False)))


def llama() -> nn.Module:
    """The embedding, which stays dense, and the linear layers of a Llama with 58 million parameters."""
    hidden, inner = 512, 1376
    layers: list[nn.Module] = [nn.Embedding(32000, hidden)]
    for _ in range(8):
        layers += [nn.Linear(hidden, hidden, bias=False) for _ in range(4)]
        layers += [nn.Linear(hidden, inner, bias=False), nn.Linear(hidden, inner, bias=False)]
        layers.append(nn.Linear(inner, hidden, bias=False))
    return drawn_(nn.Sequential(*layers, nn.Linear(hidden, 32000, bias=False)))


SHAPES: dict[str, Callable[[], nn.Module]] = {"resnet50": resnet50, "llama": llama}


def ours(model: nn.Module) -> None:
    """Prune in place with Secateur."""
    recipe = sc.Recipe(sc.structures.Weights(), sc.scores.Magnitude(), budget=sc.budgets.Global())
    sc.Pruner(model, recipe, total_steps=0, sparsity=SPARSITY).finalize()


def theirs(model: nn.Module) -> None:
    """Prune in place with torch."""
    parameters = [(m, "weight") for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    prune.global_unstructured(parameters, pruning_method=prune.L1Unstructured, amount=SPARSITY)


SIDES: dict[str, Callable[[nn.Module], None]] = {"ours": ours, "theirs": theirs, "model": lambda _: None}


def peak_kib() -> int:
    """The peak memory of this process. Linux tells it per program; `ru_maxrss` would start at the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak(shape: str, side: str) -> int:
    """The peak memory of a fresh process that builds the model and prunes it, in KiB."""
    command = [sys.executable, __file__, "--peak", shape, side]
    return int(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def memory(shape: str, times: int) -> dict[str, float]:
    """MiB above the model and the imports, medians over fresh processes."""
    peaks = {side: statistics.median(peak(shape, side) for _ in range(times)) for side in SIDES}
    extra = {side: (peaks[side] - peaks["model"]) / 1024 for side in ("ours", "theirs")}
    return {"ours_mib": extra["ours"], "theirs_mib": extra["theirs"], "ratio": extra["ours"] / extra["theirs"]}


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=7)
    options.add_argument("--processes", type=int, default=3, help="for memory, of each side")
    options.add_argument("--peak", nargs=2, metavar=("SHAPE", "SIDE"), help="for one process of the memory side")
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        shape, side = given.peak
        SIDES[side](SHAPES[shape]())
        print(peak_kib())
        return
    figures = {}
    for shape, build in SHAPES.items():
        model = build()
        pruned = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
        figures[shape] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "prunable": pruned,
            "cpu": paired(ours, theirs, given.pairs, lambda build=build: (build(),)) | {"target": 0.5},
            "memory": memory(shape, given.processes) | {"target": 0.5},
        }
    tell("global_magnitude", figures, given.json)


if __name__ == "__main__":
    main()
