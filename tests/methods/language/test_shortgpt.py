"""ShortGPT through `sc.prune`, on small models and on those of transformers."""

import json

import pytest
import torch
from torch import nn

import secateur as sc
from commands import secateur
from secateur.core import registry
from secateur.scores import Influence, LayerAngle

X = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(0))
TURNS = (1.0, 0.1, 0.3, 0.02, 2.0)


class Block(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.inner, self.scale = nn.Linear(6, 6), scale

    def forward(self, x):
        return x + self.scale * torch.tanh(self.inner(x))


def net(scales=TURNS):
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(*(Block(s) for s in scales)), nn.Flatten(), nn.Linear(30, 3)).eval()


def task():
    data = torch.utils.data.TensorDataset(X, torch.arange(8) % 3)
    return sc.Task(train=data, test=data, batch_size=4)


def prune(model=None, **settings):
    return sc.prune(net() if model is None else model, "shortgpt", task=task(), **settings)


def test_the_two_kinds_are_their_scores():
    assert registry.get("shortgpt").recipe().score == Influence()
    contiguous = registry.get("shortgpt").recipe(which="contiguous")
    assert contiguous.score == LayerAngle() and contiguous.budget == sc.budgets.Contiguous()


def test_blocks_that_hardly_turn_the_stream_go_first_in_one_shot():
    result = prune(sparsity=0.4)
    assert result.keep["0"].tolist() == [True, False, True, False, True]
    assert len(result.history) == 1 and len(result.subject[0]) == 3


def test_the_contiguous_kind_takes_one_run():
    for sparsity, gone in ((0.4, 2), (0.6, 3)):
        keep = prune(sparsity=sparsity, which="contiguous").keep["0"].tolist()
        first = keep.index(False)
        assert [i for i, stays in enumerate(keep) if not stays] == list(range(first, first + gone))


def test_a_run_may_be_chosen_to_meet_a_cost():
    result = prune(params=0.7, which="contiguous")
    assert result.after["params"] / result.before["params"] == pytest.approx(0.7, abs=0.1)


def test_a_run_does_not_reach_over_an_excluded_block():
    keep = prune(sparsity=0.5, which="contiguous", exclude=("0.3",)).keep["0"]
    assert keep.tolist() in ([False, False, True, True], [True, False, False, True])  # the fourth is the fifth block


def test_sublayers_are_refused_with_the_way_out():
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Flatten(), nn.Linear(30, 3))
    with pytest.raises(sc.RecipeError, match=r"whole blocks(?s:.*)GreedyOrder"):
        prune(model, sparsity=0.3, structure=sc.structures.Layers(kinds=("sublayers",), exclude=("*linear*",)))


def test_without_data_it_says_what_is_missing():
    with pytest.raises(sc.RecipeError, match="there is no task"):
        sc.prune(net(), "shortgpt", sparsity=0.4, example=X)


def test_the_command_line_does_the_same(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch, secateur as sc\nfrom torch import nn\n"
        "class Block(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.inner = nn.Linear(6, 6)\n"
        "    def forward(self, x):\n        return x + torch.tanh(self.inner(x))\n"
        "def net():\n    return nn.Sequential(*(Block() for _ in range(4)), nn.Flatten(), nn.Linear(30, 3))\n"
        "def task():\n    data = torch.utils.data.TensorDataset(torch.randn(8, 5, 6), torch.arange(8) % 3)\n"
        "    return sc.Task(train=data, test=data)\n"
    )
    command = ["prune", "mine.py:net", "--task", "mine.py:task", "-m", "shortgpt", "--sparsity", "0.5", "--json"]
    done = secateur(*command, "--set", "which=contiguous", "-o", "shorter", cwd=tmp_path, check=0)
    assert "0.5" in json.dumps(json.loads(done.stdout)["sparsity"])
