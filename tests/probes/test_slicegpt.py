"""Probe: SliceGPT on a two-block toy. Its units appear only after `rewrite_`, block by block."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Group, InputGram, Kind, Move, Plan, Resize, Schedule, Score, Site, Space, Structure

D, HIDDEN, VOCABULARY = 12, 24, 20


class SlicedNorm(nn.Module):
    """RMS norm without weight; divides by the original width, so that slicing does not change its scale."""

    def forward(self, x):
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) / D + 1e-6)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = SlicedNorm()
        self.up = nn.Linear(D, HIDDEN)
        self.down = nn.Linear(HIDDEN, D)
        self.shortcut = nn.Linear(D, D, bias=False)
        nn.init.eye_(self.shortcut.weight)

    def forward(self, x):
        return self.shortcut(x) + self.down(torch.relu(self.up(self.norm(x))))


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, D)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = SlicedNorm()
        self.head = nn.Linear(D, VOCABULARY)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@dataclass(frozen=True)
class Stream(Structure):
    """The residual stream before each block: its principal directions are the units, once it is rotated.

    The next stream that is still D wide is the only group: earlier ones are cut, later ones are not rotated yet.
    """

    @property
    def rewrite_needs(self):
        return (InputGram(),)

    def find(self, subject):
        for i, block in enumerate(subject.blocks):
            if block.shortcut.in_features == D:
                site = Site(f"blocks.{i}.shortcut.weight", block.shortcut.weight, tile=(len(block.shortcut.weight), 1))
                return Space((Group(f"stream {i}", site.shape, site=site),))
        return Space(())

    @torch.no_grad()
    def rewrite_(self, subject, stats):
        """Rotate this stream to its principal axes: producers by Q^T, consumers by Q. The function stays."""
        (group,) = self.find(subject)
        Q = torch.linalg.eigh(stats[group, InputGram()]).eigenvectors.flip(-1).float()
        i = int(group.name.split()[-1])
        for weight, bias in _producers(subject, i):
            weight.copy_(weight @ Q if isinstance(bias, str) else Q.T @ weight)
            if isinstance(bias, nn.Parameter):
                bias.copy_(bias @ Q)
        for consumer in (subject.blocks[i].up, subject.blocks[i].shortcut):
            consumer.weight.copy_(consumer.weight @ Q)
        return Plan()

    @torch.no_grad()
    def apply_(self, subject, choice):
        """Cut the stream's columns and the producers' rows for real."""
        ((name, keep),) = choice.keep.masks.items()
        i, kept = int(name.split()[-1]), keep.flatten().nonzero().flatten()
        done = []
        before = "embedding" if i == 0 else f"blocks.{i - 1}"
        cuts = {f"blocks.{i}.up.weight": 1, f"blocks.{i}.shortcut.weight": 1}
        if i == 0:
            cuts["embedding.weight"] = 1
        else:
            cuts |= {f"{before}.down.weight": 0, f"{before}.down.bias": 0, f"{before}.shortcut.weight": 0}
        for tensor, axis in cuts.items():
            value = subject.get_parameter(tensor).index_select(axis, kept)
            done.append(Resize(tensor, tuple(value.shape)))
            done[-1].replay_(subject)
            subject.get_parameter(tensor).copy_(value)
        return subject, Plan(tuple(done))


def _producers(subject, i):
    if i == 0:
        return [(subject.embedding.weight, "columns")]
    before = subject.blocks[i - 1]
    return [(before.down.weight, before.down.bias), (before.shortcut.weight, None)]


@dataclass(frozen=True)
class Energy(Score):
    """Second moment along each direction: after the rotation, the eigenvalues."""

    @property
    def needs(self):
        return (InputGram(),)

    def __call__(self, group, stats):
        return stats[group, InputGram()].diagonal().reshape(group.shape)


@dataclass(frozen=True)
class EachStream(Schedule):
    streams: int = 2

    def moves(self, clock, target):
        for _ in range(self.streams):
            yield Move(Kind.PRUNE, target.sparsity)


@pytest.fixture
def toy():
    torch.manual_seed(0)
    model = Toy().eval()
    with torch.no_grad():  # a stream of low effective rank: there is something to find
        model.embedding.weight.copy_(torch.randn(VOCABULARY, 5) @ torch.randn(5, D) + 0.01 * torch.randn(VOCABULARY, D))
    ids = torch.randint(VOCABULARY, (8, 10))
    data = [{"ids": ids, "labels": ids}]
    task = sc.Task(
        train=data,
        test=data,
        call=lambda m, b: m(b["ids"]),
        loss=lambda out, b: nn.functional.cross_entropy(out.flatten(0, 1), b["labels"].flatten()),
        metrics={},
    )
    return model, task, ids


def recipe():
    return sc.Recipe(structure=Stream(), score=Energy(), budget=sc.budgets.Uniform(), schedule=EachStream())


def test_rotation_alone_leaves_the_outputs_as_they_were(toy):
    model, task, ids = toy
    dense = model(ids).detach()
    result = sc.prune(model, recipe(), sparsity=0.0, task=task)
    torch.testing.assert_close(result.subject(ids), dense, atol=1e-4, rtol=1e-4)
    weight = result.subject.blocks[0].shortcut.weight
    assert not torch.equal(weight, torch.eye(D))  # it did rotate


def test_every_stream_is_cut_to_its_width(toy):
    model, task, _ = toy
    result = sc.prune(model, recipe(), sparsity=0.5, task=task)
    assert [b.shortcut.in_features for b in result.subject.blocks] == [D // 2, D // 2]
    assert result.sparsity["per_group"] == {"stream 0": 0.5, "stream 1": 0.5}


def test_it_beats_cutting_coordinates_without_rotation(toy):
    model, task, ids = toy
    dense = model(ids).detach()
    plain = copy.deepcopy(model)
    unrotated = type("Unrotated", (Stream,), {"rewrite_": lambda self, subject, stats: Plan()})()
    rotated = sc.prune(model, recipe(), sparsity=0.5, task=task).subject
    cut = sc.prune(
        plain, sc.Recipe(structure=unrotated, score=Energy(), schedule=EachStream()), sparsity=0.5, task=task
    ).subject
    assert (rotated(ids) - dense).square().mean() < 0.5 * (cut(ids) - dense).square().mean()


def test_the_plan_rebuilds_the_cut_shapes_on_a_meta_model(toy):
    model, task, _ = toy
    result = sc.prune(model, recipe(), sparsity=0.5, task=task)
    with torch.device("meta"):
        twin = Toy()
    Plan.from_json(result.plan.to_json()).replay_(twin)
    assert {n: t.shape for n, t in twin.state_dict().items()} == {
        n: t.shape for n, t in result.subject.state_dict().items()
    }


def test_a_saved_slice_loads_into_the_plain_class(toy, tmp_path):
    model, task, ids = toy
    result = sc.prune(model, recipe(), sparsity=0.5, task=task)
    result.save(tmp_path / "sliced")
    assert torch.equal(sc.load(tmp_path / "sliced", factory=Toy)(ids), result.subject(ids))
