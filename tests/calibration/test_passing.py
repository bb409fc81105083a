"""Listening to the stream: the right tokens, in one pass, and a model that is left as it was."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from secateur.calibration import collect
from secateur.core import BlockInfluence, NumericsError, SpanAngle, Stats, Task
from secateur.scores import Influence
from secateur.structures import Layers

X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x):
        x += torch.tanh(self.inner(x))  # in place, so that who looks too late sees its input changed
        return x


class Net(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.head = nn.Linear(6, 4)
        self.passes = 0

    def forward(self, x, attention_mask=None):
        self.passes += 1
        x = x.clone()
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(self.Block() for _ in range(2)))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return x + torch.tanh(self.conv(x))

    def forward(self, x):
        return self.blocks(x).mean((2, 3))


def net(depth=3):
    torch.manual_seed(0)
    return Net(depth).eval()


def found(model, batches, *statistics, example=X, **settings):
    task = Task(train=batches, test=batches, **settings)
    space = Layers().seeing(lambda m: m(example)).find(model)
    model.passes = 0
    return collect(model, space.leaves(), statistics, task, batches), space


@torch.no_grad()
def streams(model, x):
    made = [x]
    for block in model.blocks:
        made.append(block(made[-1].clone()))
    return made


def by_hand(model, x, real=None):
    real = torch.ones(x.shape[:2], dtype=torch.bool) if real is None else real
    made = streams(model, x)
    cosines = [torch.cosine_similarity(a, b, dim=-1)[real].mean() for a, b in pairwise(made)]
    return 1 - torch.stack(cosines)


def test_influence_is_read_off_the_stream_in_one_pass_for_all_blocks_and_statistics():
    model = net()
    values, _ = found(model, [X[:2], X[2:]], BlockInfluence(), SpanAngle())
    torch.testing.assert_close(values["blocks", BlockInfluence()].float(), by_hand(model, X))
    assert model.passes == 2  # one for each batch


def test_padding_does_not_count_whatever_is_there():
    model, mask = net(), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    for noise in (0.0, 1e3):
        x = torch.where(mask.bool()[..., None], X, X + noise)
        values, _ = found(model, [{"x": x, "attention_mask": mask}], BlockInfluence(), SpanAngle())
        torch.testing.assert_close(values["blocks", BlockInfluence()].float(), by_hand(model, X, mask.bool()))
        made = [s[torch.arange(3), torch.tensor([4, 2, 4])] for s in streams(model, X)]  # last tokens, either padding
        for start, n in ((0, 1), (0, 3), (1, 2)):
            slow = torch.cosine_similarity(made[start], made[start + n], dim=-1).acos().mean() / torch.pi
            torch.testing.assert_close(values["blocks", SpanAngle()][start, n - 1].float(), slow, atol=1e-5, rtol=1e-5)


def test_a_sequence_of_padding_alone_is_passed_over():
    model, mask = net(), torch.tensor([[1] * 5, [0] * 5, [1] * 5])
    values, _ = found(model, [{"x": X, "attention_mask": mask}], BlockInfluence(), SpanAngle())
    alone, _ = found(model, [X[[0, 2]]], BlockInfluence(), SpanAngle())
    for key, value in alone.items():
        torch.testing.assert_close(values[key], value)


def test_the_width_of_maps_is_their_channels():
    torch.manual_seed(0)
    model, x = Maps().eval(), torch.randn(2, 4, 3, 3)
    values, _ = found(model, [x], BlockInfluence(), example=x)
    with torch.no_grad():
        after = model.blocks[0](x)
    slow = 1 - torch.cosine_similarity(x, after, dim=1).mean()
    torch.testing.assert_close(values["blocks", BlockInfluence()][0].float(), slow)


def test_a_block_that_does_nothing_has_no_influence_and_goes_first():
    model = net()
    with torch.no_grad():
        model.blocks[1].inner.weight.zero_(), model.blocks[1].inner.bias.zero_()
    values, space = found(model, [X], BlockInfluence())
    score = Influence()(space.groups[0], Stats(values))
    assert score.argmin() == 1 and abs(float(score[1])) < 1e-6


def test_the_model_is_left_as_it_was():
    model = net().train()
    before = copy.deepcopy(model.state_dict())
    found(model, [X], BlockInfluence(), SpanAngle())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_stream_that_is_not_finite_is_named():
    model = net()
    broken = X.clone()
    broken[0, 0, 0] = float("inf")
    with pytest.raises(NumericsError, match=r"output of layer 'blocks\.0' is not finite"):
        found(model, [broken], BlockInfluence())
    with torch.no_grad():
        model.blocks[2].inner.weight[0, 0] = float("nan")
    with pytest.raises(NumericsError, match=r"so are weights(?s:.*)blocks\.2\.inner\.weight"):
        found(model, [X], BlockInfluence())
