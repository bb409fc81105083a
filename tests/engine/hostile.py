# ruff: noqa: E501
"""Damaged and hostile input for everything that reads files; for `test_hostile.py` and `benchmarks/hostile.py`.

A `Target` makes a good input once, `read` reads it as the library does and gives a text that tells what was read. A
`Mutator` damages one copy, by a seeded generator. `attempt` reads a damaged copy and says how that ended:

    refused     in a `SecateurError`
    harmless    it was read, and gives what the good one gives
    different   it was read and gives something else, although digests that were not made anew should have told
    edited      likewise, where the mutation made the digests anew or there are none: a valid other input
    wrong       in another error; with its name
"""

import hashlib
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

import secateur as sc
from secateur.data.manifest import read_ids, write_ids
from secateur.engine.cells import stored_row
from secateur.engine.jsonfile import write_json
from secateur.engine.recipe_file import read_recipe
from secateur.engine.runfolder import RunFolder
from secateur.engine.tensors import tensor_hash
from secateur.report import write_report

CONFIG = {"method": "gmp", "sparsity": 0.5}
CANARY = "hostile_canary"
MODEL = "model.safetensors"


class Bite:
    """Unpickled, it leaves the canary's mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


Mutate = Callable[[random.Random, Path], bool]
"""Damages the input in place; gives whether digests were made anew (or do not matter)."""


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote."""

    make: Callable[[Path], None]
    read: Callable[[Path], str]
    mutators: dict[str, Mutate]


def told_anew(folder: Path) -> None:
    """Make every digest right again, as somebody can who rewrites the whole folder."""
    file = folder / "secateur.json"
    facts = json.loads(file.read_text())
    told = facts.get("files")
    if isinstance(told, dict):
        for name, entry in told.items():
            path = folder / name
            if isinstance(entry, dict) and path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24:
                content = path.read_bytes()
                entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "xxh3": xxh3(content)}
    write_facts(file, facts)


def xxh3(content: bytes) -> str:
    import xxhash

    return xxhash.xxh3_128(content).hexdigest()


def write_facts(file: Path, facts: Any) -> None:
    """The manifest with its own hash."""
    if isinstance(facts, dict):
        facts.pop("sha256", None)
        facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(facts))


def some_file(rng: random.Random, folder: Path) -> Path:
    if folder.is_file():
        return folder
    return rng.choice([p for p in sorted(folder.rglob("*")) if p.is_file()])


def flip(rng: random.Random, folder: Path) -> bool:
    file = some_file(rng, folder)
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(bytes(content))
    return False


def flip_head(rng: random.Random, folder: Path) -> bool:
    file = rng.choice(sorted(folder.rglob("*.safetensors")))
    content = bytearray(file.read_bytes())
    content[rng.randrange(min(400, len(content)))] = rng.randrange(256)
    file.write_bytes(bytes(content))
    return False


def cut(rng: random.Random, folder: Path) -> bool:
    file = some_file(rng, folder)
    size = file.stat().st_size
    os.truncate(file, rng.choice((0, 1, 7, 8, 9, size // 2, size - 1, rng.randrange(size))))
    return False


def longer(rng: random.Random, folder: Path) -> bool:
    """A sparse file: nothing of it lies on the disk, all of it would lie in memory."""
    file = some_file(rng, folder)
    os.truncate(file, rng.choice((file.stat().st_size + 1, 1 << 30, 1 << 36)))
    return False


def gone(rng: random.Random, folder: Path) -> bool:
    some_file(rng, folder).unlink()
    return False


def other_kind(rng: random.Random, folder: Path) -> bool:
    """A pipe, a device, a folder or a link where a file should be."""
    file = some_file(rng, folder)
    content = file.read_bytes()
    file.unlink()
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    match rng.randrange(6):
        case 0:
            os.mkfifo(file)
        case 1:
            file.mkdir()
        case 2:
            (outside / file.name).write_bytes(content)
            file.symlink_to(outside / file.name)
        case 3:
            file.symlink_to("/dev/zero")
        case 4:
            file.symlink_to(file.name)
        case _:
            file.symlink_to("/dev/stdin")
    return True  # a link to the same content may be followed where nothing promises otherwise


def pickled(rng: random.Random, folder: Path) -> bool:
    some_file(rng, folder).write_bytes(pickle.dumps(Bite(folder.parent / CANARY)))
    return False


def zip_bomb(rng: random.Random, folder: Path) -> bool:
    with zipfile.ZipFile(some_file(rng, folder), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(4 << 20))
    return False


def noise(rng: random.Random, folder: Path) -> bool:
    some_file(rng, folder).write_bytes(rng.randbytes(rng.randrange(4096)))
    return False


def odd_json(rng: random.Random, folder: Path) -> bool:
    """JSON that is hard on parsers."""
    texts = (
        '{"format": 2, "a": ' + "[" * 10**5 + "]" * 10**5 + "}",
        '{"a":' * 10**5,
        '{"format": ' + "9" * 10**6 + "}",
        '{"format": 1e999999}',
        '{"format": NaN}',
        '{"format": 1, "format": 2}',
        '{"format": 2, "files": {}, "sha256": Infinity}',
        "[]",
        "null",
        '"' + "\\ud800" * 10 + '"',
        "\ufeff{}",
        "[" + "[]," * 10**6 + "[]]",
        "",
    )
    files = [p for p in sorted(folder.rglob("*.json")) if p.is_file()]
    rng.choice(files).write_text(rng.choice(texts))
    return False


FILES = {
    "flip": flip,
    "cut": cut,
    "longer": longer,
    "gone": gone,
    "other kind": other_kind,
    "pickle": pickled,
    "zip bomb": zip_bomb,
    "noise": noise,
}


def anew(mutate: Mutate) -> Mutate:
    """The mutation, and then every digest made right, so that what lies behind the digests is reached."""

    def both(rng: random.Random, folder: Path) -> bool:
        mutate(rng, folder)
        file = folder / "secateur.json"
        if file.is_symlink() or not file.is_file() or file.stat().st_size > 1 << 24:
            return False
        try:
            told_anew(folder)
        except (OSError, ValueError, KeyError, RecursionError):
            return False
        return True

    return both


ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**9, 2**31, 2**63, 2**64, 10**30, -(10**9), 1.5, float("nan"), float("inf"), 1e308,
    "", "x", "..", "../../x", "/etc/passwd", "os.system", CANARY, "\x00", "é" * 50, "a" * 10**5, "__class__", "0.forward",
    [], [1], [[]], {}, {"a": 1}, {"t": "0"}, [10**9, 10**9], [0], [-1], [2**62, 2], ["x"], [None],
)  # fmt: skip


def places_in(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into nested dicts and lists."""
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree)) if isinstance(tree, dict | list) else []
    return [p for k, v in items for p in ((*at, k), *places_in(v, (*at, k)))]


def change(rng: random.Random, tree: Any, under: str | None = None) -> None:
    """One odd value, one key gone, or one key more, somewhere."""
    places = [p for p in places_in(tree) if under is None or p[0] == under]
    if not places:
        return
    *path, last = rng.choice(places)
    for key in path:
        tree = tree[key]
    match rng.randrange(5):
        case 0 if isinstance(tree, dict):
            del tree[last]
        case 1 if isinstance(tree, dict):
            tree[str(rng.choice(ODD))[:100]] = rng.choice(ODD)
        case 2 if isinstance(tree, list):
            tree *= rng.choice((0, 2, 1000))
        case _:
            tree[last] = rng.choice(ODD)


def facts_changed(under: str | None) -> Mutate:
    def mutate(rng: random.Random, folder: Path) -> bool:
        file = folder / "secateur.json"
        facts = json.loads(file.read_text())
        for _ in range(rng.choice((1, 1, 2, 4))):
            change(rng, facts, under)
        write_facts(file, facts)
        return True

    return mutate


def header_changed(rng: random.Random, folder: Path) -> bool:
    """Shapes, types, places and names in the header of the tensors."""
    file = folder / rng.choice([p.name for p in folder.glob("*.safetensors")])
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.5:
        entry = header[rng.choice([k for k in header if k != "__metadata__"])]
        key = rng.choice(sorted(entry))
        entry[key] = rng.choice((
            [10**15], [10**8, 10**7], [2**32, 2**32], [0, 0], [0, 8], [8, 0], [-8, 8], [], ["a"], [0, 2**63], "F4", "BOOL", "C64",
            "I64", [1] * 100, [0, 10**15], entry[key] if isinstance(entry[key], str) else [*entry[key], 1],
        ))  # fmt: skip
    else:
        change(rng, header)
    text = json.dumps(header).encode()
    size = rng.choice((len(text),) * 6 + (len(text) + 1, 0, 2**63, 2**40))
    file.write_bytes(size.to_bytes(8, "little") + text + content[8 + length :])
    return True


def tensors_changed(rng: random.Random, folder: Path) -> bool:
    """Other tensors: names, shapes, types, bits that do not fit."""
    file = folder / rng.choice([p.name for p in folder.glob("*.safetensors")])
    tensors = load(file.read_bytes())
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    match rng.randrange(8):
        case 0:
            del tensors[name]
        case 1:
            names = (
                "../../out",
                "/etc/passwd",
                "..",
                "",
                "0.forward",
                "0.weight:bits:bits",
                "__class__",
                ":buffer",
                name + ":bits",
            )
            tensors[rng.choice(names)] = tensor.clone()
        case 2:
            tensors[name] = tensor.flatten()[:-1].clone()
        case 3:
            tensors[name] = torch.cat([tensor.flatten(), tensor.flatten()])
        case 4:
            tensors[name] = tensor.to(rng.choice((torch.float16, torch.int64, torch.bool, torch.uint8, torch.float64)))
        case 5:
            tensors[name] = tensor.unsqueeze(0).clone()
        case 6:
            tensors[name] = torch.full_like(tensor, 255 if tensor.dtype == torch.uint8 else 1)
        case _:
            tensors[name] = torch.zeros(0)
    file.write_bytes(save(tensors))
    return True


def bases() -> list[Any]:
    """Descriptions of architectures that want code, memory or time."""
    linear = {"class": "Linear", "arguments": {"in_features": 10**9, "out_features": 10**9}}
    deep: Any = {"class": "ReLU", "arguments": {}}
    for _ in range(300):
        deep = {"class": "Sequential", "children": {"0": deep}}
    trees = [
        linear,
        deep,
        {"class": "os.system", "arguments": {"command": f"mkdir {CANARY}"}},
        {"class": CANARY, "arguments": {}},
        {"class": "Module", "arguments": {}},
        {"class": "DataParallel", "arguments": {"module": 1}},
        {"class": "LSTM", "arguments": {"input_size": 1, "hidden_size": 1, "num_layers": 10**9}},
        {"class": "LSTM", "arguments": {"input_size": 1, "hidden_size": 1, "num_layers": 999}},
        {"class": "Transformer", "arguments": {"num_encoder_layers": 10**6}},
        {"class": "Transformer", "arguments": {"d_model": 10**7, "nhead": 1}},
        {"class": "PReLU", "arguments": {"num_parameters": 10**11}},
        {"class": "Embedding", "arguments": {"num_embeddings": 10**11, "embedding_dim": 100}},
        {"class": "Embedding", "arguments": {"num_embeddings": 10**11, "embedding_dim": 100, "padding_idx": 0}},
        {"class": "LazyLinear", "arguments": {"out_features": 4}},
        {"class": "MultiheadAttention", "arguments": {"embed_dim": 10**6, "num_heads": 1}},
        {"class": "AdaptiveLogSoftmaxWithLoss", "arguments": {"in_features": 10**6, "n_classes": 10**9, "cutoffs": [10**3]}},
        {"class": "Sequential", "children": {"a.b": linear, "": linear}},
        {"class": "ModuleDict", "children": {"keys": linear, "": deep}},
        {"class": "Sequential", "children": {str(i): {"class": "Linear", "arguments": {"in_features": 9, "out_features": 9}} for i in range(5000)}},
        {"class": "Conv2d", "arguments": {"in_channels": 10**6, "out_channels": 10**6, "kernel_size": [10**3, 10**3]}},
        {"class": "CrossEntropyLoss", "arguments": {"weight": "x"}},
    ]  # fmt: skip
    names = ("os.system", "subprocess", CANARY, "pipeline", "AutoModel", "PreTrainedModel", "__builtins__", "a.b", "")
    return [
        *({"kind": "torch", "tree": tree} for tree in trees),
        *({"kind": kind, "name": n, "class": n} for kind in ("builtin", "timm", "factory", "transformers") for n in names),
        {"kind": "transformers", "class": "LlamaForCausalLM"},
        {"kind": "timm", "name": f"hf-hub:{CANARY}/x"},
        {"kind": "timm", "name": f"local-dir:{CANARY}"},
        {"kind": "timm", "name": "resnet18", "num_classes": 10**12},
        {"kind": "eval", "name": "1"},
    ]  # fmt: skip


def base_changed(rng: random.Random, folder: Path) -> bool:
    file = folder / "secateur.json"
    write_facts(file, json.loads(file.read_text()) | {"base": rng.choice(bases())})
    return True


def plan_changed(rng: random.Random, folder: Path) -> bool:
    file = folder / "secateur.json"
    facts = json.loads(file.read_text())
    names = ("0.weight", "0.forward", "..", "", "0", "0.weight.data", "__class__.x", "_modules.0", "3.bias", "training")
    for _ in range(rng.choice((1, 1, 50))):
        shape = rng.choice(([4, 4], [10**9, 10**9], [2**20, 2**20], [2**40], [], [0, 0], [-1, 2], [True, 1], "x", [8]))
        entry = {"do": rng.choice(("mask", "resize", "run", None)), "tensor": rng.choice(names), "shape": shape}
        if entry["do"] == "mask":
            del entry["shape"]
        facts["plan"].insert(rng.randrange(len(facts["plan"]) + 1), entry)
    write_facts(file, facts)
    return True


def config_changed(rng: random.Random, folder: Path) -> bool:
    """Odd values in the config of a transformers model."""
    file = folder / rng.choice(("config.json", "config.json", "generation_config.json"))
    config = json.loads(file.read_text())
    if rng.random() < 0.5:
        change(rng, config)
    else:
        numbers = [k for k, v in config.items() if type(v) is int]
        config[rng.choice(numbers)] = rng.choice((10**4, 10**5, 10**7, 10**9, 10**12, 10**20, -1, 0))
    if rng.random() < 0.2:
        config |= {
            "auto_map": {"AutoConfig": f"{CANARY}.X", "AutoModelForCausalLM": f"{CANARY}.X"},
            "num_labels": 10**9,
        }
    file.write_text(json.dumps(config))
    return True


def layers() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 16, 12), nn.Linear(12, 4)
    )


def make_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    data = [(torch.randn(8, 1, 4, 4), torch.zeros(8, dtype=torch.long))]
    sc.prune(layers(), "magnitude", sparsity=0.5, task=sc.Task(train=data, test=data)).save(folder)


def make_llama(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=16, vocab_size=16))
    sc.prune(model, "magnitude", sparsity=0.5).save(folder)


def attentive() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(8, 4, 12, batch_first=True), nn.Flatten(), nn.Linear(8 * 5, 3))


def make_cut(folder: Path) -> None:
    """Channels and heads cut out: sizes, and attributes that follow."""
    torch.manual_seed(0)
    sc.prune(attentive(), "magnitude", structure="channels", sparsity=0.5, example=torch.randn(2, 5, 8)).save(folder)


def read_cut(folder: Path) -> str:
    model = sc.load(folder, factory=attentive)
    with torch.no_grad():
        told = model(torch.ones(1, 5, 8))
    return tensor_hash({**model.state_dict(), "output": told}) + tensor_hash(sc.load_keep(folder).masks)


def make_samples(folder: Path) -> None:
    data = torch.utils.data.TensorDataset(torch.arange(40.0))
    recipe = sc.Recipe(structure=sc.structures.Samples(), score=sc.scores.Random())
    sc.prune(data, recipe, keep=0.25).save(folder)


def read_checkpoint(folder: Path) -> str:
    model = sc.load(folder)
    keep = sc.load_keep(folder)
    return tensor_hash({**model.state_dict(), **dict(model.named_buffers())}) + tensor_hash(keep.masks)


def verify_checkpoint(folder: Path) -> str:
    from secateur.engine.verify import verify

    return json.dumps(verify(folder))


def read_samples(folder: Path) -> str:
    return tensor_hash(sc.load_keep(folder).masks)


def make_run(folder: Path) -> None:
    torch.manual_seed(0)
    with RunFolder(folder, CONFIG) as run:
        run.write({"leg": 0, "rng": (1, 2.5, None), "model": {"w": torch.randn(4, 3)}, "list": [torch.ones(2), "x"]})
        run.write_snapshot(3, {"w": torch.randn(2, 2)})


def read_run(folder: Path) -> str:
    with RunFolder(folder, CONFIG) as run:
        return repr((run.finished, run.read(), run.read_snapshot(3)))


def tree_changed(rng: random.Random, folder: Path) -> bool:
    """The nested state in the metadata."""
    file = rng.choice(sorted(folder.glob("*.safetensors")))
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    tree = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["tree"])
    change(rng, tree)
    text = rng.choice((json.dumps(tree),) * 4 + ('{"l":[' * 10**5, "9" * 10**6, "[" * 10**6))
    file.write_bytes(save(load(content), metadata={"tree": text}))
    return True


def run_changed(rng: random.Random, folder: Path) -> bool:
    file = folder / "run.json"
    facts = json.loads(file.read_text())
    change(rng, facts)
    if rng.random() < 0.3:
        facts["format"] = rng.choice((99, 0, "1", None))
    file.write_text(json.dumps(facts))
    return True


def lock_left(rng: random.Random, folder: Path) -> bool:
    """A lock that is no lock of ours."""
    owner = {"pid": rng.choice(ODD), "host": rng.choice(ODD), "started": rng.choice(ODD)}
    (folder / ".lock").write_text(json.dumps(owner) if rng.random() < 0.7 else "[" * rng.randrange(10**5))
    return True


def make_comparison(folder: Path) -> None:
    """Two cells: one that is done, with its saved result, and one that failed."""
    place = {"method": "magnitude", "settings": {}, "label": "magnitude", "tuned": "defaults", "structure": None}
    place |= {"sparsity": 0.5, "recovery": "none"}
    measures = {"metrics": {"accuracy": 0.9}, "params": 9, "nonzero": 5, "macs": 9, "bytes_on_disk": 99}
    measures |= {"latency_ms": 0.1, "latency_ratio": 1.0, "result": "run/result", "command": "secateur compare"}
    done, failed = (folder / "cells" / name for name in ("a", "b"))
    make_checkpoint(done / "run" / "result")
    write_json(done / "row.json", {**place, **measures, "seed": 0, "folder": "a"})
    write_json(failed / "error.json", {**place, "seed": 1, "folder": "b", "error": "out of memory"})
    told = {"format": 1, "metric": "accuracy", "lower": False, "lower_is_better": ["loss"], "cells": ["a", "b"]}
    told |= {"protocol": {"model": "m", "seeds": [0, 1]}, "environment": {"torch": "2"}, "command": "secateur compare"}
    write_json(folder / "comparison.json", told | {"left_out": [{"method": "gmp", "recovery": "none", "reason": "no"}]})


def read_comparison(folder: Path) -> str:
    """As the report and as the next call of `compare` read it."""
    page = write_report(folder, folder.parent / "report.html").read_text()
    return page + repr([stored_row(cell) for cell in sorted((folder / "cells").glob("*"))])


def told_of_cells(rng: random.Random, folder: Path) -> bool:
    """What the comparison or a cell says of itself."""
    file = rng.choice(sorted(f for f in folder.rglob("*.json") if f.name != "secateur.json"))
    facts = json.loads(file.read_text())
    for _ in range(rng.randint(1, 3)):
        change(rng, facts)
    file.write_text(json.dumps(facts))
    return True


RECIPE = "model: builtin:digits-mlp\ntask: builtin:digits\nmethod:\n  gmp: {end: 0.5}\nsparsity: 0.9\nseed: 1\n"
OWN = "model: m\nrecipe:\n  structure: weights\n  score: magnitude\n  recovery: [{fine-tune: {epochs: 2}}]\n  allow_collapse: true\n"
YAML = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nmodel: *b\n",
    f"model: !!python/object/apply:os.system ['mkdir {CANARY}']\n",
    "model: !!python/name:os.system\n",
    f"!!python/module:{CANARY} x: 1\n",
    "[" * 10**4,
    "{a: " * 500 + "1" + "}" * 500,
    "- " * 10**4 + "1",
    "a" * (10 << 20) + ": 1\n",
    "? " * 5000 + "x\n",
    "sparsity: " + "9" * 10**6 + "\nmodel: m\nmethod: gmp\n",
    "seed: " + "9" * 5000 + "\nmodel: m\nmethod: gmp\n",
    "seed: 0b" + "1" * 10**5 + "\nmodel: m\nmethod: gmp\n",
    "seed: " + "1:" * 10**4 + "1\nmodel: m\nmethod: gmp\n",
    "sparsity: " + "1:" * 10**4 + "1.5\nmodel: m\nmethod: gmp\n",
    "sparsity: .nan\nmodel: m\nmethod: gmp\n",
    "sparsity: 2026-13-45\nmodel: m\n",
    "seed: 2026-99-99\nmodel: m\nmethod: gmp\n",
    "model: m\nmodel: n\n",
    "<<: {model: m}\nmethod: gmp\n",
    "<<: [1, 2]\nmethod: gmp\n",
    "? [a, b]\n: 1\n",
    "? {a: b}\n: 1\n",
    "1: 2\nnull: 3\ntrue: 4\n",
    "model: m\nmethod: {gmp: [1, 2]}\n",
    "model: m\nmethod: {gmp: 7}\n",
    "model: m\nmethod: {}\n",
    "model: m\nmethod: {1: 2}\n",
    "model: m\nmethod: {[1]: 2}\n",
    "model: m\nmethod: {gmp: {1: 2}}\n",
    "model: m\nmethod: {gmp: {end: {a: 1}}}\n",
    "model: m\nrecipe: {1: 2}\n",
    "model: m\nrecipe: {structure: [1], score: [2]}\n",
    "model: m\nrecipe: {structure: {weights: [1]}, score: {1: 2}}\n",
    "model: m\nrecipe: {structure: {weights: {include: 7}}, score: {magnitude: {p: x}}}\n",
    "model: m\nrecipe: {structure: weights, score: magnitude, recovery: {}}\n",
    "model: m\nrecipe: {structure: weights, score: magnitude, recovery: [[], {}, 1]}\n",
    "model: m\nrecipe: {structure: weights, score: os.system}\n",
    "model: m\nrecipe: {structure: '999999999999:1', score: magnitude}\n",
    "model: m\nrecipe: {structure: '" + "9" * 5000 + ":1', score: magnitude}\n",
    "--- a\n--- b\n",
    "%YAML 9.9\n---\nmodel: m\n",
    "\x00",
    "model: \"\\ud800\"\nmethod: gmp\n",
    "",
)  # fmt: skip


HARMLESS = {"<<: {model: m}\nmethod: gmp\n": "m", 'model: "\\ud800"\nmethod: gmp\n': "\ud800"}
"""Odd ways to name a model, which is looked for later; by text, the name that is read."""


def make_recipe(path: Path) -> None:
    path.write_text(RECIPE)


def make_own_recipe(path: Path) -> None:
    path.write_text(OWN)


def read_recipe_file(path: Path) -> str:
    return repr(read_recipe(path))


def odd_yaml(rng: random.Random, path: Path) -> bool:
    path.write_text(rng.choice(YAML))
    return True


def yaml_changed(rng: random.Random, path: Path) -> bool:
    """Lines and words of a good recipe in disorder."""
    words = path.read_text().split(" ")
    odd = (
        "*",
        "&a",
        "!!python/object:os.system",
        "{",
        "[",
        "-",
        "|",
        ">",
        "'",
        '"',
        "#",
        "\t",
        ":",
        "? ",
        "9" * 50,
        "~",
        "1e9",
    )
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(words))
        match rng.randrange(4):
            case 0:
                words[at] = rng.choice(odd)
            case 1:
                words.insert(at, rng.choice(odd))
            case 2:
                words[at] = json.dumps(rng.choice(ODD))
            case _:
                del words[at]
    path.write_text(" ".join(words))
    return True


def make_ids(path: Path) -> None:
    write_ids(sc.Keep({"samples": torch.arange(200) % 3 == 0}), path)


def read_ids_file(path: Path) -> str:
    return tensor_hash(read_ids(path).masks)


def odd_ids(rng: random.Random, path: Path) -> bool:
    texts = (
        "# samples of " + "9" * 10**6 + "\n0\n",
        "# samples of 1000000000000000\n0\n1\n",
        "# samples of 100000000000\n",
        "# samples of -5\n",
        "# samples of 5\n7\n",
        "# samples of 5\n1\n1\n",
        "# samples of 5\n-1\n",
        "# samples of 5\n1.5\n",
        "# samples of 5\n\n",
        "# samples of 5\n" + "1" * 10**6 + "\n",
        "# samples of 1_0\n1\n",
        "5\n1\n",
        "x\n",
        "\x00",
        "",
    )
    path.write_text(rng.choice(texts))
    return True


def words(mutate: Mutate) -> Mutate:
    """Plain text has no digests: what it says after a mutation is what it says."""

    def always(rng: random.Random, path: Path) -> bool:
        mutate(rng, path)
        return True

    return always


_SAVED = {
    **FILES,
    "flip head": flip_head,
    "odd json": odd_json,
    **{f"{name}, digests anew": anew(mutate) for name, mutate in FILES.items()},
    "flip head, digests anew": anew(flip_head),
    "header": anew(header_changed),
    "tensors": anew(tensors_changed),
    "facts": facts_changed(None),
    "files": facts_changed("files"),
}
_MODULE = {
    "base": facts_changed("base"),
    "hostile base": base_changed,
    "plan": facts_changed("plan"),
    "hostile plan": plan_changed,
    "keep": facts_changed("keep"),
    "aliases": facts_changed("aliases"),
}
_STATE = {
    **{name: words(mutate) for name, mutate in FILES.items()},
    "flip head": words(flip_head),
    "odd json": odd_json,
    "header": words(header_changed),
    "tensors": words(tensors_changed),
    "tree": tree_changed,
    "run": run_changed,
    "lock": lock_left,
}
_TEXT = {name: words(mutate) for name, mutate in FILES.items()}

TARGETS = {
    "checkpoint": Target(make_checkpoint, read_checkpoint, _SAVED | _MODULE),
    "verify": Target(make_checkpoint, verify_checkpoint, _SAVED | _MODULE),
    "llama": Target(make_llama, read_checkpoint, _SAVED | _MODULE | {"config": anew(config_changed)}),
    "cut": Target(make_cut, read_cut, _SAVED | _MODULE),
    "samples": Target(make_samples, read_samples, _SAVED | {"keep": facts_changed("keep")}),
    "run folder": Target(make_run, read_run, _STATE),
    "comparison": Target(
        make_comparison, read_comparison, {**_TEXT, "odd json": words(odd_json), "cells": told_of_cells}
    ),
    "recipe": Target(make_recipe, read_recipe_file, _TEXT | {"odd yaml": odd_yaml, "words": yaml_changed}),
    "own recipe": Target(make_own_recipe, read_recipe_file, _TEXT | {"odd yaml": odd_yaml, "words": yaml_changed}),
    "ids": Target(make_ids, read_ids_file, _TEXT | {"odd ids": odd_ids}),
}
"""Whoever reads something new from disk adds it here."""

CASES = [(target, mutator) for target, made in TARGETS.items() for mutator in made.mutators]


def prepare(place: Path) -> dict[str, str]:
    """Make every good input, and a module that leaves a mark when it is imported; gives what each good input tells."""
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{CANARY}.py").write_text(f"import os\nos.mkdir({str(place / CANARY)!r})\n")
    told = {}
    for name, target in TARGETS.items():
        target.make(place / name)
        told[name] = target.read(place / name)
    return told


def attempt(place: Path, told: str, case: tuple[str, str], seed: int) -> str:
    """Damage a copy of a good input in `place`, read it, and say how that ended."""
    target, mutator = case
    work = place / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    copy = work / target
    (shutil.copytree if (place / target).is_dir() else shutil.copy)(place / target, copy)
    anew = TARGETS[target].mutators[mutator](random.Random(seed), copy)
    try:
        found = TARGETS[target].read(copy)
    except sc.SecateurError:
        return "refused"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {str(error)[:120]}"
    if found == told:
        return "harmless"
    return "edited" if anew else "different"


def sentinel(place: Path) -> str:
    """A hash of everything but the copy that is read: names, kinds, contents."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        if "work" not in path.relative_to(place).parts[:1]:
            digest.update(f"{path.relative_to(place)}|{path.lstat().st_mode}|".encode())
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()
