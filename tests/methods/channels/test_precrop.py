"""PreCrop as a recipe: when it cuts, and what it leaves alone. Its mathematics are in tests/budgets."""

import torch

import secateur as sc
from secateur.tasks.models import CifarResNet


def task():
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 3, 16, 16, generator=g), torch.arange(8) % 10) for _ in range(2)]
    return sc.Task(train=batches, test=batches, training=sc.Training(epochs=1))


def resnet():
    torch.manual_seed(0)
    return CifarResNet(8, 8)


def test_it_cuts_before_the_first_step_and_trains_the_narrow_network():
    result = sc.prune(resnet(), "precrop", params=0.4, task=task(), device="cpu")
    assert [h["step"] for h in result.history] == [0] and result.provenance["train_steps"] == 2


def test_streams_keep_their_width_unless_asked_for():
    kept = sc.prune(resnet(), "precrop", params=0.4, task=task(), epochs=0.0, device="cpu").keep.counts
    assert set(kept) == {f"layer{i}.0.conv1" for i in (1, 2, 3)}
    every = sc.prune(resnet(), "precrop", params=0.4, streams=True, task=task(), epochs=0.0, device="cpu").keep.counts
    assert set(every) == {*kept, "conv1"}


def test_the_same_seed_takes_the_same_slices():
    first, again, other = (
        sc.prune(resnet(), "precrop", params=0.5, task=task(), epochs=0.0, seed=s, device="cpu").keep for s in (1, 1, 2)
    )
    assert first == again and first != other and first.counts == other.counts
