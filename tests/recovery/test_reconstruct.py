"""Healing block by block: each block learns to give what it gave."""

import copy
import dataclasses

import pytest
import torch
from families import Widening, batches_of, model_of
from torch import nn

import secateur as sc
from secateur.budgets import Uniform
from secateur.core import Passes, Task, masks_of
from secateur.engine.methods import as_recipe
from secateur.recovery import FineTune, Reconstruct, ScratchB
from secateur.scores import Magnitude, Wanda
from secateur.structures import Channels, Weights


class Lines(Passes):
    """A linear layer between given inputs and outputs."""

    path = "line"

    def __init__(self, block, inputs, outputs):
        self.block, self.inputs, self.outputs = block, inputs, outputs

    def __len__(self):
        return len(self.inputs)

    def pair(self, batch):
        return self.block(self.inputs[batch]), self.outputs[batch]


def masked_line():
    torch.manual_seed(0)
    dense, mixed = nn.Linear(6, 4), torch.randn(6, 6)
    inputs = [torch.randn(64, 6) @ mixed for _ in range(4)]
    outputs = [dense(x).detach() for x in inputs]
    line = copy.deepcopy(dense)
    mask = torch.rand(4, 6) < 0.5
    sc.core.attach_mask_(line, "weight", mask)
    return Lines(line, inputs, outputs), mask


def test_all_weights_that_stay_come_to_the_least_squares_solution():
    passes, mask = masked_line()
    told = Reconstruct(steps=3000, lr=0.02, subsets="all").rebuild_(passes, 0)
    X, Y = torch.cat(passes.inputs).double(), torch.cat(passes.outputs).double()
    rows = []
    for i in range(4):
        design = torch.cat([X[:, mask[i]], torch.ones(len(X), 1)], 1)
        rows.append(design @ torch.linalg.lstsq(design, Y[:, i]).solution)
    least = float((torch.stack(rows, 1) - Y).square().sum() / Y.square().sum())
    assert told["output_error"] == pytest.approx(least, rel=1e-3)
    assert bool((passes.block.weight[~mask] == 0).all())


def test_biases_alone_come_to_the_mean_of_what_is_missing():
    passes, _ = masked_line()
    weight = passes.block.weight.detach().clone()
    Reconstruct(steps=3000, lr=0.02, subsets=("biases",)).rebuild_(passes, 0)
    X, Y = torch.cat(passes.inputs), torch.cat(passes.outputs)
    torch.testing.assert_close(passes.block.bias.detach(), (Y - X @ weight.T).mean(0), rtol=1e-3, atol=1e-3)
    assert torch.equal(passes.block.weight, weight)


def test_adapters_are_merged_under_the_mask_and_nothing_wants_less_gradients_than_before():
    passes, mask = masked_line()
    passes.block.bias.requires_grad_(False)
    told = Reconstruct(steps=300, lr=0.02, subsets=("lora",), rank=4).rebuild_(passes, 0)
    assert told["output_error"] < 0.9 * told["output_error_before"]
    assert bool((passes.block.weight[~mask] == 0).all())
    assert [n for n, p in passes.block.named_parameters() if p.requires_grad] == ["weight"]
    assert set(dict(passes.block.named_parameters())) == {"weight", "bias"} and masks_of(passes.block)


def unlabelled(batches):
    return Task(train=batches, test=batches, loss=lambda outputs, batch: torch.zeros(()), metrics={})


def task_of(name):
    return unlabelled(batches_of(name, 4))


def recipe_of(**more):
    healing = Reconstruct(**({"steps": 20, "subsets": "all"} | more))
    return sc.Recipe(
        Weights(exclude=("*head", "*embed*")), Magnitude(), budget=Uniform(), recovery=(healing,), propagation="pruned"
    )


def test_the_target_is_what_the_dense_block_gives_on_what_the_healed_blocks_before_it_give():
    """By hand: block by block on a twin, with the blocks before it as they ended."""
    result = sc.prune(model_of("llama"), recipe_of(steps=5), sparsity=0.5, task=task_of("llama"))
    rows = [f for f in result.history[0]["blocks"] if f["block"].startswith("model.layers")]
    dense, healed = model_of("llama"), result.subject
    assert len(rows) == 3
    for number, row in enumerate(rows):
        twin = copy.deepcopy(dense)
        for i in range(number):
            twin.model.layers[i].load_state_dict(healed.model.layers[i].state_dict())
        after = copy.deepcopy(twin)
        after.model.layers[number].load_state_dict(healed.model.layers[number].state_dict())
        gone = whole = 0.0
        for batch in task_of("llama").batches("train", epoch=0):
            with torch.no_grad():
                wanted, now = (given(m, number, batch) for m in (twin, after))
            gone, whole = gone + float((now - wanted).square().sum()), whole + float(wanted.square().sum())
        assert row["output_error"] == pytest.approx(gone / whole, rel=1e-3)


def given(model, number, batch):
    """What one block gives."""
    found = []
    hook = model.model.layers[number].register_forward_hook(lambda _, __, out: found.append(out))
    model(**batch)
    hook.remove()
    return found[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "vit", "resnet20"])
def test_models_of_many_kinds_are_healed_and_keep_their_zeros(name):
    result = sc.prune(model_of(name), recipe_of(steps=40, lr=2e-3), sparsity=0.6, task=task_of(name))
    rows = [f for f in result.history[0]["blocks"] if "output_error" in f]
    assert rows and sum(r["output_error"] for r in rows) < sum(r["output_error_before"] for r in rows)
    weights = dict(result.subject.named_parameters())
    assert all(bool((weights[n][~mask] == 0).all()) for n, mask in result.masks.items())
    assert result.sparsity["sparsity"] == pytest.approx(0.6, abs=0.01)


def test_stages_are_healed_once_their_block_is_whole():
    recipe = dataclasses.replace(recipe_of(), score=Wanda(), propagation="stages")
    result = sc.prune(model_of("llama"), recipe, sparsity=0.5, task=task_of("llama"))
    rows = [f for f in result.history[0]["blocks"] if f["block"].startswith("model.layers")]
    assert len(rows) == 12 and [("output_error" in r) for r in rows] == [False, False, False, True] * 3


def test_padding_is_not_learned_from():
    def healed(pad):
        ids = torch.randint(3, 60, (4, 10), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[::2, 7:], ids[::2, 7:] = 0, pad
        batches = [{"input_ids": ids, "attention_mask": mask}]
        return sc.prune(model_of("llama"), recipe_of(), sparsity=0.5, task=unlabelled(batches)).subject

    one, other = healed(5), healed(50)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_weights():
    one, other = (
        sc.prune(model_of("gpt2"), recipe_of(subsets=("norm", "lora")), sparsity=0.5, task=t).subject
        for t in (task_of("gpt2"), task_of("gpt2"))
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_what_is_pruned_as_a_whole_is_refused():
    with pytest.raises(sc.RecipeError, match=r'block by block(?s:.*)propagation="pruned"'):
        sc.Recipe(Weights(), Magnitude(), recovery=(Reconstruct(),))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"steps": 0}, "1 or more"),
        ({"lr": 0.0}, "above 0"),
        ({"subsets": ("norm", "head")}, "a block has no head"),
        ({"lora": "lora"}, "mask_lora"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, match):
    with pytest.raises(sc.RecipeError, match=match):
        Reconstruct(**wrong)


def test_it_does_not_go_with_training_from_scratch_but_with_fine_tuning():
    Reconstruct().check([FineTune()])
    with pytest.raises(sc.RecipeError, match="forgets what was reconstructed"):
        Reconstruct().check([ScratchB()])


def test_any_recipe_takes_it_as_text():
    """Wanda's scores, FLAP's standardised budget, PERP's healing: one call."""
    torch.manual_seed(0)
    model, data = nn.Sequential(*(Widening() for _ in range(3))), [(torch.randn(16, 6),) for _ in range(2)]
    units = Channels(include=("*.up", "*.up.*"))
    recipe = sc.Recipe(units, sc.scores.WandaSP(), budget=as_recipe("flap").budget, propagation="pruned")
    healing = "reconstruct(steps=40, subsets=all)"
    result = sc.prune(model, recipe, sparsity=0.5, task=unlabelled(data), recovery=healing)
    rows = result.history[0]["blocks"]
    assert len(rows) == 3 and all(r["output_error"] < r["output_error_before"] for r in rows)
    assert sum(block.up.out_features for block in result.subject) == 15
