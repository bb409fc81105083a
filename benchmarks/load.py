"""`sc.load` of a model of 25 million parameters against plain safetensors into the same architecture.

Two peers. *Mapped*: built on the meta device, `load_file`, `load_state_dict(assign=True)`; it maps the file, so almost
nothing is read while it loads; so does `sc.load`, which also verifies every byte. *Owned*: the same with the tensors
copied, verifying nothing. The masked model has 90 % of its weights pruned; its peer
loads the dense tensors of the pruned model. Memory is the peak above the process before loading, in fresh processes.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import nn

import secateur as sc
from harness import cpu_s, paired, parser, tell


def resnet50() -> nn.Module:
    """The layers of a ResNet-50, batch norms included: 25.5 million parameters in 267 tensors and their counters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False), nn.BatchNorm2d(64)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        layers += [nn.Conv2d(inputs, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)]
        for _ in range(blocks):
            for i, o, k in ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1)):
                layers += [nn.Conv2d(i, o, k, bias=False), nn.BatchNorm2d(o)]
            inputs = 4 * width
    return nn.Sequential(*layers, nn.Linear(2048, 1000))


def plain(file: Path, own: bool) -> nn.Module:
    """What one writes without this library."""
    with torch.device("meta"):
        model = resnet50()
    tensors = load_file(file)
    model.load_state_dict({n: t.clone() for n, t in tensors.items()} if own else tensors, assign=True)
    return model.eval()


def digests(file: Path) -> dict[str, float]:
    """Milliseconds of each digest over the file's bytes, which lie in memory."""
    content = file.read_bytes()
    makers = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b, "sha1": hashlib.sha1, "xxh3_128": xxhash.xxh3_128}
    return {n: round(1e3 * min(cpu_s(lambda m=m: m(content).digest()) for _ in range(3)), 1) for n, m in makers.items()}


def peak_bytes(what: str, folder: Path) -> int:
    """Peak memory of loading, above the process before it."""
    done = subprocess.run([sys.executable, __file__, "--peak", what, str(folder)], capture_output=True, check=True)
    return int(done.stdout)


def tell_peak(what: str, folder: Path) -> None:
    """In a process of its own; a first load of something small makes torch's own buffers."""
    small = folder.parent / "small"
    sc.load(small)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = high_water()
    model = sc.load(folder) if what == "ours" else plain(folder.parent / f"{folder.name}.safetensors", what == "owned")
    sum(float(p.detach().flatten()[::1024].sum()) for p in model.parameters())
    print(high_water() - before)


def high_water() -> int:
    """Peak of the resident memory; unlike `ru_maxrss` it is not the parent's."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def measured(place: Path, kind: str, result: sc.Result, pairs: int) -> dict[str, Any]:
    """All figures of one model."""
    folder, file = result.save(place / kind), place / f"{kind}.safetensors"
    save_file(result.subject.state_dict(), file)
    figures: dict[str, Any] = {"file_bytes": (folder / "model.safetensors").stat().st_size}
    for verify in ("xxh3", "sha256"):
        for peer, own in (("mapped", False), ("owned", True)):
            ours = lambda verify=verify: sc.load(folder, verify=verify)  # noqa: E731
            figures[f"{verify} against {peer}"] = paired(ours, lambda own=own: plain(file, own), pairs)
    figures["peak_bytes"] = {what: peak_bytes(what, folder) for what in ("ours", "owned", "mapped")}
    figures["model_bytes"] = sum(t.nbytes for t in result.subject.state_dict().values())
    return figures


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=15)
    options.add_argument("--peak", nargs=2, metavar=("WHAT", "FOLDER"), help="used by the benchmark itself")
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        tell_peak(given.peak[0], Path(given.peak[1]))
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sc.prune(nn.Linear(4, 4), "magnitude", sparsity=0.5).save(place / "small")
        model = resnet50()
        dense = sc.Result(model, sc.core.Plan(), None)
        figures = {"dense": measured(place, "dense", dense, given.pairs)}
        figures["masked"] = measured(place, "masked", sc.prune(model, "magnitude", sparsity=0.9), given.pairs)
        figures["digests_ms"] = {"bytes": figures["dense"]["file_bytes"], **digests(place / "dense.safetensors")}
    tell("load", json.loads(json.dumps(figures)), given.json)


if __name__ == "__main__":
    main()
