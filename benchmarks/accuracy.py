"""Accuracy at fewer multiplications, before and after a short fine-tune: every structured method against a peer.

The pretrained networks of the sample data lose half their MACs, or what `--macs` says (rows of NET@SHARE then),
counted by one counter for all, and are measured as they are and after the same short training: no method trains in its
own way here, so that what it cut is compared, and what it repairs in closed form. Torch-Pruning 1.6.1 prunes globally
in steps with its group magnitude, Taylor and LAMP importances. Each seed draws the images that are looked at, trained
on and tested on; all of them are stored.

Every run is a process of its own and a row of the file, so that a run that was interrupted goes on where it was. The
peer comes from PYTHONPATH (`pip install --no-deps --target PLACE torch-pruning==1.6.1`).
"""

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sc
from harness import forked, parser, tell
from secateur.claims.data import data_folder
from secateur.core import registry
from secateur.core.costs import macs_by_module

OURS = ("magnitude", "depgraph", "spa", "obspa", "beta-rank", "knapsack-ikd", "lrp", "udfc", "gcp-sad", "random")
PEERS = ("group-magnitude", "taylor", "lamp")
_MACS = 0.5  # what is left, unless --macs says otherwise
_STEPS, _BATCH = 60, 64
_PEER_STEPS = 50
_LIMIT_S = 900


@dataclass(frozen=True)
class Net:
    """A pretrained network and its images.

    Attributes:
        build: the network; images: (split) to inputs and labels.
        train, test: how many images each seed draws.
        heads: names of the layers that make heads, and how many there are; the peer has to be told.
        lr: of the fine-tuning; lower where 0.01 ruins the dense network, whatever it does to cut ones.
    """

    build: Callable[[], nn.Module]
    images: Callable[[str], tuple[Any, Any]]
    inputs: Callable[[Any], Tensor]
    train: int = 3840
    test: int = 2000
    heads: int = 0
    lr: float = 0.01


def nets() -> dict[str, Net]:
    """By name; those of the sample data."""
    sys.path.insert(0, str(data_folder()))
    import load

    def imagenet(split: str) -> tuple[Any, Any]:
        images, labels = load.imagenet_samples()
        return (images[::2], labels[::2]) if split == "train" else (images[1::2], labels[1::2])

    resnets = {
        f"resnet{depth}": Net(lambda d=depth: load.cifar10_resnet(d), load.cifar10, load.cifar10_resnet_input)
        for depth in (20, 56)
    }
    return {
        **resnets,
        "vit": Net(load.cifar10_vit, load.cifar10, load.cifar10_vit_input, heads=8),
        "mobilenet_v2": Net(load.mobilenet_v2, imagenet, load.mobilenet_v2_input, train=256, test=400, lr=0.001),
    }


def drawn(net: Net, split: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images as inputs, and their labels."""
    images, labels = net.images(split)
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count].numpy()
    return net.inputs(images[chosen]), torch.from_numpy(labels[chosen]).long()


class _Pairs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self._inputs, self._labels = inputs, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._inputs[index], self._labels[index]


def run(net: Net, contender: str, seed: int, macs: float) -> dict[str, Any]:
    """One cut to a share of the MACs, measured before and after the fine-tune."""
    torch.manual_seed(seed)
    train, test = drawn(net, "train", net.train, seed), drawn(net, "test", net.test, 1000 + seed)
    model = net.build()
    before, dense = (costs(model, test), accuracy(model, test))
    begin = time.process_time()
    if contender.startswith("tp/"):
        model = theirs(model, contender.removeprefix("tp/"), train, net.heads, macs)
    elif contender != "dense":
        task = sc.Task(train=_Pairs(*train), test=_Pairs(*test), batch_size=_BATCH, seed=seed, name="images")
        structure = "channels" if contender in ("magnitude", "random") else None
        model = sc.prune(
            model, _recipe(contender), macs=macs, structure=structure, task=task, heal=0, seed=seed, device="cpu"
        ).subject
    spent = time.process_time() - begin
    after = costs(model, test)
    told = {"macs": after[0] / before[0], "params": after[1] / before[1], "prune_s": spent, "dense": dense}
    told["cut"] = accuracy(model, test)
    tune_(model, train, net.lr, seed)
    return told | {"tuned": accuracy(model, test)}


def _recipe(contender: str) -> Any:
    if contender != "random":
        return contender
    return sc.Recipe(structure=sc.structures.Channels(), score=sc.scores.Random(), budget=sc.budgets.Global())


def theirs(model: nn.Module, name: str, train: tuple[Tensor, Tensor], heads: int, macs: float) -> nn.Module:
    """Torch-Pruning until so many MACs are left; it is told the classifier and the heads, as its examples do."""
    import torch_pruning as tp

    importance = {
        "group-magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "taylor": tp.importance.GroupTaylorImportance,
        "lamp": lambda: tp.importance.LAMPImportance(p=2),
    }[name]()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    attentions = {m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    qkv = {m: heads for n, m in model.named_modules() if heads and n.endswith("qkv")}
    example = train[0][:1]
    whole = sum(macs_by_module(model, example).values())
    pruner = tp.pruner.MetaPruner(
        model,
        example,
        importance=importance,
        global_pruning=True,
        pruning_ratio=0.95,
        iterative_steps=_PEER_STEPS,
        ignored_layers=layers[-1:],
        num_heads=attentions | qkv,
    )
    for _ in range(_PEER_STEPS):
        if name == "taylor":
            model.zero_grad()
            F.cross_entropy(model(train[0][:_BATCH]), train[1][:_BATCH]).backward()
        pruner.step()
        model.zero_grad()
        if sum(macs_by_module(model, example).values()) <= macs * whole:
            return model
    raise RuntimeError(f"it did not come to {macs} of the MACs")


def costs(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[int, int]:
    """MACs of one image, and parameters."""
    return sum(macs_by_module(model, data[0][:1]).values()), sum(p.numel() for p in model.parameters())


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Share of right answers."""
    model.eval()
    pieces = zip(data[0].split(200), data[1].split(200), strict=True)
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in pieces) / len(data[1])


def tune_(model: nn.Module, train: tuple[Tensor, Tensor], lr: float, seed: int) -> None:
    """The same for everybody: plain SGD with momentum, cosine to nothing."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(_STEPS):
        chosen = torch.randperm(len(train[1]), generator=order)[:_BATCH]
        optimizer.zero_grad()
        F.cross_entropy(model(train[0][chosen]), train[1][chosen]).backward()
        optimizer.step()
        schedule.step()


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--nets", nargs="+", default=["resnet20", "resnet56", "vit", "mobilenet_v2"])
    options.add_argument("--macs", type=float, default=_MACS, help="the share that is left")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--only", nargs="+", help="contenders; peers are tp/NAME; rows in FILE stay")
    given = options.parse_args()
    torch.set_num_threads(1)
    peers = [f"tp/{name}" for name in PEERS if importlib.util.find_spec("torch_pruning")]
    known = {*registry.entries(), "random"}
    contenders = given.only or ["dense", *(name for name in OURS if name in known), *peers]
    stored = given.json is not None and given.json.exists()
    rows: dict[str, Any] = json.loads(given.json.read_text())["figures"]["rows"] if stored else {}
    macs = given.macs
    chosen = {f"{n}@{macs:g}" if macs != _MACS else n: net for n, net in nets().items() if n in given.nets}
    for seed in range(given.seeds):
        for net_name, net in chosen.items():
            for contender in contenders:
                key = f"{net_name}/{contender}/{seed}"
                if key not in rows:
                    rows[key] = forked(lambda n=net, c=contender, s=seed: run(n, c, s, macs), _LIMIT_S)
                    _say(key, rows[key])
                    if given.json is not None:
                        given.json.with_suffix(".part").write_text(json.dumps({"figures": {"rows": rows}}))
                        given.json.with_suffix(".part").replace(given.json)
    tell("accuracy", {"steps": _STEPS, "batch": _BATCH, "rows": rows, "means": means(rows)}, given.json)


def means(rows: dict[str, Any]) -> dict[str, Any]:
    """Over the seeds, by network and contender; those that fail say why."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key.rpartition("/")[0] for key in rows):
        mine = [row for name, row in rows.items() if name.rpartition("/")[0] == key]
        good = [row for row in mine if "cut" in row]
        if good:
            names = ("macs", "params", "dense", "cut", "tuned", "prune_s")
            found[key] = {name: statistics.mean(row[name] for row in good) for name in names} | {"runs": len(good)}
        else:
            found[key] = {"error": mine[0].get("error", "")}
    return found


def _say(key: str, row: dict[str, Any]) -> None:
    told = f"{row['macs']:.3f} MACs  {row['cut']:.3f}  {row['tuned']:.3f}" if "cut" in row else row.get("error", "")
    print(f"{key:34} {told}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
