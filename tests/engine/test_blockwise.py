"""Pruning block by block: counts, order, what is refused, and that it equals the formula applied by hand."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as tf
from families import Widening
from safetensors.torch import load_file
from torch import nn

import commands
import secateur as sc
from secateur.budgets import OWL, Global, Uniform
from secateur.core import NumericsError, Recipe, RecipeError
from secateur.scores import Magnitude, Taylor, Wanda, WandaSP
from secateur.structures import Channels, Weights
from secateur.tasks.language import Windows, language_task


def llama(seed=0):
    torch.manual_seed(seed)
    config = tf.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
    )
    return tf.LlamaForCausalLM(config).eval()


def task(count=8):
    ids = torch.randint(64, (count * 16,), generator=torch.Generator().manual_seed(0))
    return language_task(Windows(ids, 16), Windows(ids[:32], 16), "ids", batch_size=4)


def wanda_by_hand(model, batches, sparsity):
    """Block after block; norms from hooks on the whole model, whose earlier blocks are pruned already."""
    for block in model.model.layers:
        linears = {n: m for n, m in block.named_modules() if isinstance(m, nn.Linear)}
        squares = dict.fromkeys(linears, 0.0)

        def hear(name, squares):
            def hook(_, inputs):
                squares[name] = squares[name] + inputs[0].float().square().sum((0, 1)).double()

            return hook

        handles = [m.register_forward_pre_hook(hear(n, squares)) for n, m in linears.items()]
        with torch.no_grad():
            for batch in batches:
                model(input_ids=batch, use_cache=False)
        for handle in handles:
            handle.remove()
        for name, linear in linears.items():
            score = linear.weight.data.abs() * squares[name].sqrt().float()
            drop = score.argsort(dim=1, stable=True)[:, : int(score.shape[1] * sparsity)]
            linear.weight.data.scatter_(1, drop, 0.0)


def test_wanda_is_the_formula_applied_block_by_block():
    goal, model = task(), llama()
    by_hand = copy.deepcopy(model)
    wanda_by_hand(by_hand, list(goal.batches("train", epoch=0)), 0.5)
    result = sc.prune(model, "wanda", sparsity=0.5, task=goal)
    for (name, mine), his in zip(result.subject.named_parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(mine, his), name


@pytest.mark.parametrize("method, repairs", [("wanda", False), ("sparsegpt", True)])
def test_every_block_is_told_of(method, repairs):
    result = sc.prune(llama(), method, sparsity=0.5, task=task())
    blocks = result.history[0]["blocks"]
    assert [b["block"] for b in blocks] == [f"model.layers.{i}" for i in range(3)]
    for told in blocks:
        assert told["kept"] * 2 == told["units"] and 0 < told["error"] < 1
        assert told["error"] < told["error_before"] if repairs else told["error"] == told["error_before"]
        assert {"wall_s", "cpu_s", "peak_mib"} <= told.keys()


def test_the_vocabulary_is_neither_pruned_nor_counted():
    model = llama()
    before = model.lm_head.weight.detach().clone()
    result = sc.prune(model, "wanda", sparsity=0.5, task=task())
    assert torch.equal(model.lm_head.weight, before)
    assert "vocabulary" in result.sparsity["skipped"]["lm_head.weight"]


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "owl"])
@pytest.mark.parametrize("structure", ["weights", "2:4", "1:4"])
def test_counts_are_exact(method, structure):
    sparsity = 0.5 if structure == "weights" else None
    result = sc.prune(llama(), method, structure=structure, sparsity=sparsity, task=task())
    for name, mask in result.masks.items():
        weight = result.subject.get_parameter(name)
        assert not weight[~mask].any()
        if structure != "weights" and method != "owl":
            groups = mask.reshape(len(mask), -1, 4).sum(-1)
            assert (groups == int(structure[0])).all()
    if structure == "weights":
        assert result.sparsity["sparsity"] == pytest.approx(0.5, abs=0.01)


def test_stages_hear_what_is_pruned_in_the_same_block():
    goal = task()
    by_blocks = sc.prune(llama(), "wanda", sparsity=0.5, task=goal)
    by_stages = sc.prune(llama(), "wanda", sparsity=0.5, task=goal, propagation="stages")
    names = [b["block"] for b in by_stages.history[0]["blocks"]]
    assert names == [f"model.layers.{i}" for i in range(3) for _ in range(4)]
    first = "model.layers.0.self_attn.q_proj.weight"
    later = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(by_blocks.masks[first], by_stages.masks[first])
    assert not torch.equal(by_blocks.masks[later], by_stages.masks[later])


def test_a_global_budget_is_shared_out_on_the_dense_model_first():
    recipe = Recipe(Weights(), Wanda(), budget=Global(), propagation="pruned")
    result = sc.prune(llama(), recipe, sparsity=0.2, task=task())
    assert result.sparsity["sparsity"] == pytest.approx(0.2, abs=1e-4)
    kept = [float(m.float().mean()) for m in result.masks.values()]
    assert max(kept) - min(kept) > 0.02


def test_owl_shares_the_same_sparsity_among_the_matrices_of_a_block():
    recipe = Recipe(Weights(), Magnitude(), budget=OWL(m=2.0, width=0.2, per="group"))
    model = llama()
    with torch.no_grad():  # a few outliers in one block
        model.model.layers[1].mlp.up_proj.weight[:3] *= 30
    result = sc.prune(model, recipe, sparsity=0.6, task=task())
    shares = {}
    for name, mask in result.masks.items():
        shares.setdefault(name.split(".")[2], []).append(1 - float(mask.float().mean()))
    assert all(max(found) - min(found) < 0.01 for found in shares.values())
    assert min(shares, key=lambda block: shares[block][0]) != max(shares, key=lambda block: shares[block][0])
    assert result.sparsity["sparsity"] == pytest.approx(0.6, abs=2e-3)


def test_coupled_units_are_cut_block_by_block_on_what_the_cut_blocks_before_give():
    data = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long)) for _ in range(2)]
    goal, model = sc.Task(train=data, test=data), nn.Sequential(*(Widening() for _ in range(3)))
    by_hand = copy.deepcopy(model)
    units = Channels(include=("*.up", "*.up.*"))
    recipe = Recipe(units, WandaSP(), budget=Uniform(), propagation="pruned")
    result = sc.prune(model, recipe, sparsity=0.5, task=goal)
    assert [block.up.out_features for block in result.subject] == [5, 5, 5]
    for number in range(3):
        only = Recipe(replace(units, include=(f"{number}.up", f"{number}.up.*")), WandaSP(), budget=Uniform())
        by_hand = sc.prune(by_hand, only, sparsity=0.5, task=goal).subject
    for mine, his in zip(result.subject.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(mine, his)


def test_a_gradient_cannot_be_had_block_by_block():
    recipe = Recipe(Weights(), Taylor(), propagation="pruned")
    with pytest.raises(RecipeError, match="needs the whole model"):
        sc.prune(llama(), recipe, sparsity=0.5, task=task())


class Routed(nn.Module):
    """A block with an expert that no token is sent to."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return x + torch.relu(self.used(x))


def test_an_expert_that_never_ran_stays_whole_and_is_counted_so(caplog):
    data = [(torch.randn(4, 8), torch.zeros(4, dtype=torch.long))]
    model = nn.Sequential(*(Routed() for _ in range(3)), nn.Linear(8, 3))
    result = sc.prune(model, "wanda", sparsity=0.5, task=sc.Task(train=data, test=data))
    assert "0.idle.weight never ran on the calibration data" in caplog.text
    shares = result.sparsity["per_group"]
    assert {name: share for name, share in shares.items() if share != 0.5} == {
        f"{i}.idle.weight": 0.0 for i in range(3)
    }
    assert result.keep["0.idle.weight"].all() and result.keep["0.idle.weight"].shape == (8, 8)


def test_without_data_it_says_so():
    with pytest.raises(RecipeError, match="collected from data"):
        sc.prune(llama(), "wanda", sparsity=0.5)


def test_activations_that_are_not_finite_name_the_module():
    model = llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.inf
    with pytest.raises(NumericsError, match=r"model\.layers\.1\.mlp\.up_proj"):
        sc.prune(model, "wanda", sparsity=0.5, task=task())


def test_padding_is_not_heard():
    ids = torch.randint(3, 64, (4, 12), generator=torch.Generator().manual_seed(1))
    padded = torch.cat([ids, torch.zeros(4, 6, dtype=torch.long)], 1)
    mask = torch.cat([torch.ones(4, 12), torch.zeros(4, 6)], 1).long()
    bare = [{"input_ids": ids, "labels": ids}]
    full = [{"input_ids": padded, "attention_mask": mask, "labels": padded}]
    found = []
    for batches in (bare, full):
        goal = sc.Task(train=batches, test=batches, metrics={})
        found.append(sc.prune(llama(), "wanda", sparsity=0.5, task=goal))
    same = [torch.equal(m, found[1].masks[n]) for n, m in found[0].masks.items()]
    assert sum(same) >= len(same) - 2  # the kernels of longer rows round otherwise


def test_a_convolutional_network_goes_stage_by_stage():
    from secateur.tasks.models import resnet20

    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 3, 16, 16, generator=g), torch.randint(10, (4,), generator=g)) for _ in range(2)]
    goal = sc.Task(train=batches, test=batches)
    torch.manual_seed(0)
    model = resnet20().eval()
    recipe = Recipe(Weights(), Wanda(), budget=Uniform(), propagation="pruned")
    result = sc.prune(model, recipe, sparsity=0.5, task=goal)
    assert [b["block"] for b in result.history[0]["blocks"]][1:4] == ["layer1.0", "layer1.1", "layer1.2"]
    assert result.sparsity["sparsity"] == pytest.approx(0.5, abs=1e-3)


def run_together(tmp_path, world, *methods):
    """By method what each process ends with."""
    driver, out = Path(__file__).parent / "gloo_driver.py", tmp_path / f"of-{world}"
    started = [
        commands.started_script(driver, rank, world, tmp_path / f"store-{world}", out, *methods)
        for rank in range(world)
    ]
    for done in [process.ended(300) for process in started]:
        assert done.returncode == 0, done.stderr
    return {method: [load_file(f"{out}-{method}-{rank}") for rank in range(world)] for method in methods}


def test_two_processes_give_the_masks_of_one(tmp_path):
    alone, together = (run_together(tmp_path, world, "wanda", "sparsegpt") for world in (1, 2))
    for method, (one, two) in together.items():
        for name, value in alone[method][0].items():
            assert torch.equal(one[name], two[name]), (method, name)
            assert torch.equal(one[name] == 0, value == 0), (method, name)
