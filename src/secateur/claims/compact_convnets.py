"""Claims about compact-convnets: a larger member of a family, pruned to the cost of a smaller one, is at least as good.

The family is a small MobileNetV3 by its width, 1.0 and 0.75, on CIFAR-10 at 16x16: 4,000 training images, 8 epochs of
AdamW. The larger member is trained, pruned to the MACs of the smaller one in five steps, and fine-tuned for a quarter
of the epochs, which is the paper's point: its training is there anyway.
"""

import time

import torch
from torch import nn

import secateur as sc
from secateur.core import Training
from secateur.engine.measure import multiplications
from secateur.tasks.mobilenet import SmallMobileNet

from .claim import claim
from .subjects import small_cifar_task
from .verdict import higher

_TRAINING = Training(epochs=8, optimizer="adamw", lr=3e-3, weight_decay=1e-2, lr_schedule="cosine")


def _net(width: float, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return SmallMobileNet(width)


def _measured(seed: int, side: str, granularity: str) -> dict[str, float]:
    task, smaller = small_cifar_task(seed, 4000, _TRAINING), _net(0.75, seed)
    most = multiplications(smaller, task, next(iter(task.batches("test", shuffle=False))))["macs"]
    if side != "compact-convnets":
        begin = time.process_time()
        found = sc.prune(smaller, "magnitude", sparsity=0.0, heal=8, task=task, seed=seed, device="cpu")
        minutes = (time.process_time() - begin) / 60
        steps = found.provenance["train_steps"]
        return {"accuracy": found.metrics["accuracy"], "macs": most, "steps": steps, "cpu_minutes": minutes}
    family = sc.compact_family(
        {"1.0": _net(1.0, seed)},
        most,
        task,
        granularity=granularity,
        train=True,
        scratch=False,
        seed=seed,
        device="cpu",
    )
    return {
        "accuracy": family.pruned.metrics["accuracy"],
        "macs": family.pruned.after[family.counted],
        "steps": family.pruned.provenance["train_steps"],
        "cpu_minutes": 60 * (family.cpu_hours["prune and fine-tune"] or 0.0),
        "parent": family.parent.metrics["accuracy"],
    }


@claim(
    "compact-convnets",
    against="smaller-member",
    expect=higher("accuracy"),
    differs="a small MobileNetV3 of five blocks, widths 1.0 and 0.75, for FBNetV3 on ImageNet; CIFAR-10 at 16x16, "
    "4,000 images, 8 epochs without augmentation; 5,000 test images",
    finding="35.5 % against 45.3 %, where the larger member had 45.6 %: worse in every seed. Pruning and fine-tuning "
    "took 0.30 CPU minutes in 126 steps, training the smaller member 0.72 in 504. On another seed the running mean of "
    "the weights changed nothing (39.0 % with it and without). The ranking took most where it saves least: of 128 "
    "hidden units before the classifier 18 stayed, of 24 squeezed channels 5. Whether equal shares, a higher rate or a "
    "longer training would mend it was not measured.",
)
def narrower_by_pruning(seed: int, method: str) -> dict[str, float]:
    """Cut to the smaller member's MACs with a quarter of its training steps, the larger one is at least as accurate."""
    return _measured(seed, method, "channels")


@claim(
    "compact-convnets",
    against="smaller-member",
    expect=higher("accuracy"),
    differs="a small MobileNetV3 of five blocks, widths 1.0 and 0.75, for FBNetV3 on ImageNet; CIFAR-10 at 16x16, "
    "4,000 images, 8 epochs without augmentation; 5,000 test images; ideal sparse MACs, which are no speed",
    finding="44.2 % against 45.3 %, where the larger member had 45.6 %: behind in every seed, in 0.24 CPU minutes of "
    "pruning and fine-tuning against 0.63 of training. Cutting channels by the same steps ended at 35.5 %, so the "
    "short training is no obstacle by itself; longer ones were not measured.",
)
def sparser_by_pruning(seed: int, method: str) -> dict[str, float]:
    """At as many ideal sparse MACs and a quarter of the training steps, single weights do at least as well."""
    return _measured(seed, method, "weights")
