"""Models and tasks that several claims share. Every draw depends on the seed alone."""

from functools import cache

import torch
from torch import Tensor, nn

from secateur.core import Task, Training
from secateur.tasks.detector import BestBox, FastestDet, picture_loss
from secateur.tasks.digits import Images
from secateur.tasks.language import Windows
from secateur.tasks.models import lenet_300_100, resnet20

from . import data


def draw(images: Tensor, labels: Tensor, count: int, seed: int) -> Images:
    """`count` images at random, without repetition."""
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count]
    return Images(images[chosen], labels[chosen])


def trained_resnet20() -> nn.Module:
    """ResNet-20 as published: 91.73 % of the CIFAR-10 test images."""
    return data.load_weights_(resnet20(), "cifar10/resnet20.safetensors")


def cifar_task(seed: int, train: int, test: int = 2000, training: Training = Training()) -> Task:
    """CIFAR-10 without augmentation, on images drawn by the seed."""
    return Task(
        train=draw(*data.cifar10("train"), train, seed),
        test=draw(*data.cifar10("test"), test, seed),
        name=f"CIFAR-10, {train} training images, {test} test images",
        training=training,
        batch_size=128,
        seed=seed,
    )


def trained_detector() -> nn.Module:
    """FastestDet as published, for 80 COCO classes."""
    return data.load_weights_(FastestDet(), "detection/fastestdet.safetensors")


def picture_task(seed: int, scan: int, training: Training = Training()) -> Task:
    """Pictures of one object: `scan` of 160, drawn by the seed, to train and choose on; the others to measure."""
    x, y = data.single_objects()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    few, rest = order[:scan], order[scan:]
    return Task(
        train=Images(x[few], y[few]),
        test=Images(x[rest], y[rest]),
        name=f"single objects, {scan} pictures to choose on, {len(rest)} to measure",
        loss=lambda outputs, batch: picture_loss(outputs, batch[1]),
        metrics={"class_accuracy": BestBox()},
        training=training,
        batch_size=8,
        seed=seed,
    )


def small_cifar_task(seed: int, train: int, training: Training, batch_size: int = 64) -> Task:
    """CIFAR-10 at 16x16, without augmentation, on images drawn by the seed; 5,000 test images."""

    def small(split: str, count: int) -> Images:
        found = draw(*data.cifar10(split), count, seed)
        return Images(nn.functional.avg_pool2d(found.images, 2), found.targets)

    return Task(
        train=small("train", train),
        test=small("test", 5000),
        name=f"CIFAR-10 at 16x16, {train} training images",
        training=training,
        batch_size=batch_size,
        seed=seed,
    )


def mnist_task(seed: int, train: int, training: Training) -> Task:
    """MNIST on `train` images drawn by the seed; all 10,000 test images."""
    return Task(
        train=draw(*data.mnist("train"), train, seed),
        test=Images(*data.mnist("test")),
        name=f"MNIST, {train} training images",
        training=training,
        batch_size=60,
        model=lenet_300_100,
        seed=seed,
    )


@cache
def words(vocabulary: int) -> tuple[Tensor, Tensor]:
    """PTB's training and test words as ids: the most frequent ones, all others as one unknown word."""
    train, test = (data.text(f"ptb_{split}").replace("\n", " <eos> ").split() for split in ("train", "test"))
    counts: dict[str, int] = {}
    for word in train:
        counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts, key=lambda w: (-counts[w], w))
    known = [w for w in ranked if w != "<unk>"][: vocabulary - 1]
    index = {w: i + 1 for i, w in enumerate(known)}
    return torch.tensor([index.get(w, 0) for w in train]), torch.tensor([index.get(w, 0) for w in test])


def windows(ids: Tensor, length: int, limit: int | None = None) -> Windows:
    """Non-overlapping windows of the first `limit` tokens."""
    return Windows(ids if limit is None else ids[:limit], length)
