"""Actions of a sliced stream: plain data, and nothing but modules of the model."""

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Branch, Plan, Rewire, SlicedNorm, Slim, Untie

STEPS = ((Branch("norm", ("branch",), ("scale",)),),)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(4), Branching()

    def forward(self, x, scale=1.0):
        return x + self.branch(self.norm(x), scale=scale)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, scale=1.0):
        return self.layer(x) * scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x, scale=1.0):
        return self.block(x, scale)


def test_a_rewired_block_is_x_s_plus_its_branch_with_the_same_arguments():
    torch.manual_seed(0)
    net = Net()
    Rewire("block", STEPS, ((4, 4),)).replay_(net)
    nn.init.normal_(net.block.shortcuts[0].weight)
    x = torch.randn(3, 4)
    expected = net.block.shortcuts[0](x) + 2.0 * net.block.branch.layer(net.block.norm(x))
    torch.testing.assert_close(net(x, 2.0), expected)
    torch.testing.assert_close(net(x, scale=2.0), expected)


def test_plans_go_through_json():
    plan = Plan((Untie("head.weight"), Slim("block.norm", 4, 1e-6), Rewire("block", STEPS, ((4, 2),))))
    assert Plan.from_json(plan.to_json()) == plan


def test_a_norm_is_replaced_in_its_place():
    net = Net()
    Slim("block.norm", 4, 1e-6).replay_(net)
    assert isinstance(net.block.norm, SlicedNorm) and list(net.block._modules) == ["norm", "branch"]


def test_half_precision_norms_are_computed_in_float32():
    x = torch.full((2, 4), 300.0, dtype=torch.float16)  # whose squares are more than float16 holds
    assert bool(torch.isfinite(SlicedNorm(4, 1e-6)(x)).all())


@pytest.mark.parametrize(
    "action",
    [
        Slim("block.nothing", 4, 1e-6),
        Slim("", 4, 1e-6),
        Untie("block.norm"),
        Rewire("block", ((Branch("norm", ("other",)),),), ((4, 4),)),
        Rewire("block", STEPS, ((4, 4), (4, 4))),
        Rewire("block", STEPS, ((1 << 39, 1 << 39),)),
    ],
)
def test_an_action_on_what_is_not_there_is_no_checkpoint_of_this_model(action):
    with pytest.raises(sc.CheckpointError):
        Plan((action,)).replay_(Net())


@pytest.mark.parametrize(
    "entry",
    [
        {"do": "slim", "module": "block.norm", "width": 0, "eps": 1e-6},
        {"do": "slim", "module": "block.norm", "width": 4, "eps": float("inf")},
        {"do": "slim", "module": "block.norm", "width": True, "eps": 1e-6},
        {"do": "rewire", "module": "block", "steps": [[["norm", [], []]]], "shapes": [[4, 4]]},
        {"do": "rewire", "module": "block", "steps": [[["norm", "branch", []]]], "shapes": [[4, 4]]},
        {"do": "rewire", "module": "block", "steps": [[["norm", ["branch"]]]], "shapes": [[4, 4]]},
        {"do": "rewire", "module": "block", "steps": [[["norm", [3], []]]], "shapes": [[4, 4]]},
        {"do": "rewire", "module": "block", "steps": [], "shapes": [[4]]},
        {"do": "untie", "tensor": 3},
        {"do": "untie", "tensor": "a", "more": 1},
    ],
)
def test_anything_else_is_no_action(entry):
    with pytest.raises(sc.CheckpointError, match="no action"):
        Plan.from_json([entry])
