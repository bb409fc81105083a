"""Claims about layer-lottery: without some of its blocks a network trains as well, and each step is shorter.

An untrained ResNet-32 loses 3 of its 15 blocks. CIFAR-10 at 16x16, 5,000 training images, 10 epochs.
"""

import copy
import time
from collections.abc import Callable
from functools import cache
from statistics import median

import torch
from torch import Tensor, nn

import secateur as sc
from secateur.budgets import Exactly
from secateur.core import Task, Training
from secateur.recovery import FineTune
from secateur.scores import Grasp
from secateur.structures import Channels
from secateur.tasks.digits import Images
from secateur.tasks.models import CifarResNet

from . import data
from .claim import claim
from .subjects import cifar_task, draw
from .verdict import higher, lower

_BLOCKS, _PAIRS = 3, 9
_TRAINING = Training(epochs=10, optimizer="adam", lr=3e-3)


def _task(seed: int) -> Task:
    def small(split: str) -> Images:
        found = draw(*data.cifar10(split), 5000, seed)
        return Images(nn.functional.avg_pool2d(found.images, 2), found.targets)

    return Task(
        train=small("train"),
        test=small("test"),
        name="CIFAR-10 at 16x16",
        training=_TRAINING,
        batch_size=128,
        seed=seed,
    )


def _net(seed: int) -> CifarResNet:
    torch.manual_seed(seed)
    return CifarResNet(32)


def _filters(model: nn.Module) -> int:
    return sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))


def _filter_ticket(seed: int, task: Task) -> sc.Recipe:
    """GraSP for the filters between the two convolutions of blocks; as many go as with the layer ticket."""
    shallow = sc.prune(_net(seed), "layer-lottery", remove=_BLOCKS, task=task, seed=seed, epochs=0.0, device="cpu")
    gone = _filters(_net(seed)) - _filters(shallow.subject)
    return sc.Recipe(structure=Channels(streams=False), score=Grasp(), budget=Exactly(gone), recovery=(FineTune(),))


@cache
def _trained(seed: int, side: str) -> dict[str, float]:
    """A ticket of layers ("layer-lottery", "snip") or of filters, or all there is; one run serves several claims."""
    task, model = _task(seed), _net(seed)
    if side == "dense":
        result = sc.prune(model, "magnitude", sparsity=0.0, heal=_TRAINING.epochs, task=task, seed=seed, device="cpu")
    elif side == "filters":
        result = sc.prune(model, _filter_ticket(seed, task), task=task, seed=seed, device="cpu")
    else:
        criterion = "snip" if side == "snip" else "grasp"
        result = sc.prune(
            model, "layer-lottery", remove=_BLOCKS, criterion=criterion, task=task, seed=seed, device="cpu"
        )
    return {
        "accuracy": result.metrics["accuracy"],
        "macs": result.after["macs"] / result.before["macs"],
        "params": result.after["params"] / result.before["params"],
        "filters": float(_filters(result.subject)),
    }


@claim(
    "layer-lottery",
    against="dense",
    expect=higher("accuracy", by=-0.005),
    differs="5,000 training images of CIFAR-10 at 16x16 and 10 epochs for 50,000 at 32x32 and 200; Adam 3e-3 with "
    "cosine decay, no augmentation; 5,000 test images",
    finding="52.0 % against 52.7 %, below it in four of five networks: 0.7 points on the average, and "
    "five seeds do not decide. Ten epochs leave all of these networks far from trained; longer ones were not tried.",
)
def shallow_is_as_good_as_dense(seed: int, method: str) -> dict[str, float]:
    """Without 3 of 15 blocks, chosen by GraSP before training, it ends at most half a point below the dense network."""
    return _trained(seed, method)


@claim(
    "layer-lottery",
    against="snip",
    expect=higher("accuracy"),
    differs="5,000 training images of CIFAR-10 at 16x16 and 10 epochs for 50,000 at 32x32 and 200; Adam 3e-3 with "
    "cosine decay, no augmentation; 5,000 test images",
    finding="52.0 % against 52.4 %, which five seeds cannot tell apart. In every seed GraSP gave up three blocks of "
    "the first stage and SNIP three of the last, which hold 48 % of the parameters: with the mean over a block's "
    "weights both choose stages rather than blocks, each at its own end.",
)
def grasp_beats_snip(seed: int, method: str) -> dict[str, float]:
    """The layer ticket of GraSP ends above that of SNIP."""
    return _trained(seed, method)


@claim(
    "layer-lottery",
    against="filters",
    expect=higher("accuracy"),
    differs="5,000 training images of CIFAR-10 at 16x16 and 10 epochs for 50,000 at 32x32 and 200; Adam 3e-3 with "
    "cosine decay, no augmentation; 5,000 test images; filters go between the two convolutions of blocks",
    finding="52.0 % against 51.1 %, ahead by two points or more in two seeds and level in three, with 79 % of the MACs "
    "against 82 %.",
)
def layers_beat_filters(seed: int, method: str) -> dict[str, float]:
    """With as many filters left, a ticket of whole layers ends above one of filters, both chosen by GraSP."""
    return _trained(seed, method)


@cache
def _step_ms(seed: int) -> dict[str, float]:
    """CPU time of training steps without three blocks and with all, one after the other in pairs; medians."""
    task = cifar_task(seed, train=1000, test=128)
    dense = _net(seed)
    shallow = sc.prune(
        copy.deepcopy(dense), "layer-lottery", remove=_BLOCKS, task=task, seed=seed, epochs=0.0, device="cpu"
    ).subject
    images, targets = next(iter(task.batches("train")))
    steps = [_stepper(model, images[:32], targets[:32]) for model in (shallow, dense)]
    for step in steps:
        step()
    times = [[step() for step in steps] for _ in range(_PAIRS)]
    without, whole = (median(column) * 1e3 for column in zip(*times, strict=True))
    return {"layer-lottery": without, "dense": whole}


def _stepper(model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], float]:
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        begun = time.process_time()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), targets))
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - begun

    return step


@claim(
    "layer-lottery",
    against="dense",
    expect=lower("step_ms", by=0.2, relative=True),
    differs="CPU time of training steps of ResNet-32 on 32 images of 32x32, medians of 9 interleaved pairs; for each "
    "seed another network and other images",
    finding="167 ms against 228 ms: GraSP's blocks are of the first stage, whose maps are the largest, and time goes "
    "down by more than the MACs.",
)
def shallow_trains_faster(seed: int, method: str) -> dict[str, float]:
    """Without 3 of 15 blocks, a step of training takes at most 0.8 of the dense time."""
    return {"step_ms": _step_ms(seed)[method]}
