"""Memory: a checkpoint pruned from disk to disk by Wanda, and how the peak grows with depth.

A Llama shape with random weights in bfloat16 is written shard by shard, so that it never is in memory as a whole
either. It is then pruned in a fresh process, whose high-water mark is the figure. By default 2.0 billion parameters (4
GB on disk, twice), 8 windows of 128 tokens; 8 against 32 blocks of a small shape, where the peak should not grow; and 3
blocks of the large shape that are healed one by one, by adapters and norms and by all of their weights, where the peak
should stay within what was reckoned. `above_mib` is the anonymous memory above that before the call, looked at every
few milliseconds: it does not hide below what imports took for a moment.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from harness import parser, tell

LARGE = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16, "num_key_value_heads": 8}
SMALL = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 2}
PARTS = ("large", "depth", "healed")
HEALED = {
    "adapters": "reconstruct(steps=8, subsets=[norm, lora], rank=16)",
    "all weights": "reconstruct(steps=8, subsets=all, lr=1e-5)",
}
PRUNE = """
import json, resource, sys, time
import torch
from harness import Watch
torch.set_num_threads(1)
import secateur as sc
import secateur.engine.larger  # libraries first, so that what is measured is not theirs
from secateur.tasks.language import Windows, language_task
from transformers import AutoModelForCausalLM, LlamaForCausalLM
source, out, method, windows, length, memory, recovery = sys.argv[1:]
ids = torch.randint(8192, (int(windows) * int(length),), generator=torch.Generator().manual_seed(0))
task = language_task(Windows(ids, int(length)), Windows(ids[: int(length)], int(length)), "ids", batch_size=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
watch = Watch()
done = sc.prune_folder(source, method, out, task=task, sparsity=0.5, batches=int(windows), memory=int(memory) or None,
                       recovery=recovery or None)
above = watch.stop()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"imports_mib": before / 1024, "peak_mib": peak / 1024, "above_mib": above,
                  "bound_mib": done.bound / 2**20,
                  "cpu_s": time.process_time() - start, "sparsity": done.sparsity}))
"""


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--blocks", type=int, default=40, help="of the large model")
    options.add_argument("--memory", type=float, default=6.0, metavar="GIB", help="that it may use at once")
    options.add_argument("--method", default="wanda")
    options.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    given = options.parse_args()
    stored = given.json is not None and given.json.exists()
    figures = json.loads(given.json.read_text())["figures"] if stored else {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if "large" in given.parts:
            params = write_model(folder / "large", given.blocks, LARGE, 32000)
            size = sum(p.stat().st_size for p in (folder / "large").glob("*.safetensors"))
            found = prune(folder / "large", given.method, 8, 128, int(given.memory * 2**30))
            figures["large"] = {"method": given.method, "params": params, "bytes_on_disk": size, **found}
            shutil.rmtree(folder / "large")
        if "depth" in given.parts:
            for blocks in (8, 32):
                write_model(folder / str(blocks), blocks, SMALL, 8192)
                figures[f"{blocks} blocks"] = prune(folder / str(blocks), given.method, 16, 256, 0)
        if "healed" in given.parts:
            write_model(folder / "healed", 3, LARGE, 8192)
            for name, recovery in HEALED.items():
                figures[f"healed, {name}"] = prune(folder / "healed", given.method, 4, 128, 0, recovery)
    tell("larger", figures, given.json)


def write_model(folder: Path, blocks: int, shape: dict[str, int], vocabulary: int) -> int:
    """A checkpoint with random weights, one shard for each block; gives the number of parameters."""
    folder.mkdir()
    config = transformers.LlamaConfig(
        **shape, num_hidden_layers=blocks, vocab_size=vocabulary, architectures=["LlamaForCausalLM"], dtype="bfloat16"
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    parts: dict[str, dict[str, torch.Size]] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        parts.setdefault(part, {})[name] = parameter.shape
    rng, places = torch.Generator().manual_seed(0), {}
    for part, shapes in parts.items():
        drawn = {
            name: torch.ones(size, dtype=torch.bfloat16)
            if len(size) == 1
            else torch.randn(size, generator=rng).mul_(0.02).bfloat16()
            for name, size in shapes.items()
        }
        save_file(drawn, folder / f"part-{part}.safetensors", {"format": "pt"})
        places |= dict.fromkeys(drawn, f"part-{part}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return sum(p.numel() for p in model.parameters())


def prune(source: Path, method: str, windows: int, length: int, memory: int, recovery: str = "") -> dict[str, float]:
    """Prune in a fresh process; gives its figures."""
    out = source.with_name(source.name + "-pruned")
    arguments = [str(a) for a in (source, out, method, windows, length, memory, recovery)]
    start = time.monotonic()
    paths = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-c", PRUNE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    shutil.rmtree(out)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"wall_s": time.monotonic() - start}


if __name__ == "__main__":
    main()
