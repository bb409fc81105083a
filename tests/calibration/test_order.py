"""The greedy order against one that is found by cutting copies, and what it costs."""

import copy

import pytest
import torch
from torch import nn

from secateur.calibration import collect, order
from secateur.core import Choice, Keep, NumericsError, Task
from secateur.scores import GreedyOrder
from secateur.scores.distances import js
from secateur.structures import Layers

X = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
BATCHES = [X[:3], X[3:]]


class Mix(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.mix, self.scale = nn.Linear(6, 6), scale

    def forward(self, x):
        return self.scale * torch.tanh(self.mix(x.cumsum(1)))


class Mlp(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.up, self.down, self.scale = nn.Linear(6, 9), nn.Linear(9, 6), scale

    def forward(self, x):
        return self.scale * self.down(torch.relu(self.up(x)))


class Block(nn.Module):
    def __init__(self, scales):
        super().__init__()
        self.norm, self.post, self.attn, self.mlp = nn.LayerNorm(6), nn.LayerNorm(6), Mix(scales[0]), Mlp(scales[1])

    def forward(self, x):
        x = x + self.attn(self.norm(x))
        x += self.mlp(self.post(x))  # in place
        return x


class Net(nn.Module):
    def __init__(self, depth=4):
        super().__init__()
        scales = torch.rand(depth, 2).tolist()
        self.blocks = nn.ModuleList(Block(pair) for pair in scales)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def net(depth=4, seed=0):
    torch.manual_seed(seed)
    return Net(depth).eval()


def seeing(kinds=("sublayers",)):
    return Layers(kinds=kinds, floor=0).seeing(lambda model: model(X[:2]))


def steps(model, batches=BATCHES, kinds=("sublayers",), **settings):
    task, score = Task(train=batches, test=batches), GreedyOrder(**settings)
    space = seeing(kinds).find(model)
    values = collect(model, space.leaves(), score.needs, task, batches)
    return {group.name: values[group.name, score.needs[0]].tolist() for group in space}


@torch.no_grad()
def by_cutting(model, front, force):
    """The order by brute force: every candidate is cut out of a copy of the dense model."""
    space = seeing().find(model)
    (group,) = space
    n, gone = group.size, []
    blocks, kinds = [i // 2 for i in range(n)], [i % 2 for i in range(n)]
    while len(gone) < n:
        stay = [i for i in range(n) if i not in gone]
        may = stay if force else [i for i in stay if sum(kinds[j] == kinds[i] for j in stay) > 1] or stay
        if len(gone) <= int(front * n):
            may = [i for i in may if blocks[i] >= int(front * n / 2)] or may
        apart = {}
        for i in may:
            twin = copy.deepcopy(model)
            keep = torch.tensor([j not in gone and j != i for j in range(n)])
            twin, _ = seeing().apply_(twin, Choice(Keep({group.name: keep})))
            apart[i] = float(js(model(X), twin(X)).mean())
        gone.append(min(may, key=lambda i: (apart[i], i)))
    return [float(gone.index(i)) for i in range(n)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("front, force", [(0.0, True), (0.0, False), (0.4, False), (0.5, True)])
def test_it_is_the_order_that_cutting_copies_gives(seed, front, force):
    model = net(seed=seed)
    assert steps(model, front=front, force=force)["blocks/sublayers"] == by_cutting(model, front, force)


def test_the_front_waits_until_more_than_its_share_is_gone():
    found = steps(net(5), front=0.4)["blocks/sublayers"]  # 2 blocks of 5, and 4 units of 10
    assert sorted(found)[:5] == [0, 1, 2, 3, 4] and min(found[:4]) >= 5


def test_the_last_of_each_class_goes_last_unless_forced():
    for seed in range(3):
        found = steps(net(3, seed), front=0.0)["blocks/sublayers"]
        last, before = found.index(5), found.index(4)
        assert {last % 2, before % 2} == {0, 1}


def test_a_part_of_the_order_begins_as_the_whole_one():
    whole, part = (steps(net(), most=m)["blocks/sublayers"] for m in (1.0, 0.5))
    assert sorted(part) == list(range(8))
    assert {i: s for i, s in enumerate(whole) if s < 4} == {i: s for i, s in enumerate(part) if s < 4}


def test_only_the_first_samples_are_looked_at():
    assert steps(net(), samples=3) == steps(net(), [X[:3]])
    assert steps(net(), samples=4) == steps(net(), [X])


def test_blocks_have_an_order_as_well():
    found = steps(net(), kinds=("blocks",), front=0.0)
    assert sorted(found["blocks"]) == [0, 1, 2, 3]


def test_trials_start_behind_the_earlier_blocks_and_so_cost_half(monkeypatch):
    def runs(model):
        ran = []
        for block in model.blocks:
            for part in (block.attn, block.mlp):
                part.register_forward_hook(lambda *_: ran.append(1))
        found = steps(model, front=0.0, most=0.25)
        return len(ran), found

    cached, found = runs(net(8))
    monkeypatch.setattr(order, "giving_back", lambda *_: order.ExitStack())
    whole, same = runs(net(8))
    assert found == same and cached < 0.65 * whole


def test_the_model_is_left_as_it_was():
    model = net().train()
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    steps(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.training
    assert list(model.modules()) == modules
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in modules)


def test_a_forward_function_of_the_users_own_is_put_back():
    model, calls = net(), []
    block = model.blocks[0]
    plain = block.forward
    mine = block.forward = lambda x: calls.append(1) or plain(x)
    assert steps(model) == steps(net()) and block.forward is mine and calls


def test_layers_of_torch_with_a_fast_path_are_really_left_out():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    model = nn.Sequential(encoder, nn.Linear(6, 5)).eval()
    for p in model.parameters():
        p.data.normal_(std=0.5)
    space = seeing().find(model)
    (group,) = space
    with torch.no_grad():
        for i, without in enumerate(group.without):
            twin = copy.deepcopy(model)
            seeing().apply_(twin, Choice(Keep({group.name: torch.arange(group.size) != i})))
            with without(model):
                torch.testing.assert_close(model(X), twin(X))
            assert not torch.allclose(model(X), twin(X))


class Divided(Net):
    """Its output is divided by what its blocks add."""

    def forward(self, x):
        given = x
        for block in self.blocks:
            x = block(x)
        return self.head(x) / (x - given).abs().amax()


def test_a_distance_that_is_not_finite_stops_it_and_names_the_candidate():
    torch.manual_seed(0)
    model = Divided(1).eval()
    model.blocks = nn.ModuleList([Block((1.0, 0.0))])
    with pytest.raises(NumericsError, match=r"nan from those of the whole model(?s:.*)'blocks\.0\.attn'"):
        steps(model, front=0.0)


def test_a_dense_model_that_is_not_finite_is_refused_by_its_weights():
    model = net()
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    with pytest.raises(NumericsError, match=r"head\.weight"):
        steps(model)
