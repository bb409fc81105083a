"""OWL's densities, and the whole numbers that patterns make of them."""

from itertools import product

import pytest
import torch
import transformers as tf
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.budgets.owl import densities, whole
from secateur.core import Recipe
from secateur.structures import NM
from secateur.tasks.language import Windows, language_task

OUTLIERS = st.lists(st.floats(0, 1), min_size=1, max_size=6)
SHARES = st.lists(st.floats(0.01, 1), min_size=1, max_size=6)


def sizes_for(found, seed=0):
    return torch.randint(1, 9, (len(found),), generator=torch.Generator().manual_seed(seed)).double()


@given(OUTLIERS, st.floats(0, 0.98), st.floats(0, 0.5), st.integers(0, 99))
def test_densities_have_the_mean_that_was_asked_for_and_follow_the_outliers(outliers, sparsity, width, seed):
    outliers = torch.tensor(outliers, dtype=torch.float64)
    sizes = sizes_for(outliers, seed)
    found = densities(outliers, sizes, sparsity, width)
    assert float((found * sizes).sum() / sizes.sum()) == pytest.approx(1 - sparsity, abs=1e-9)
    assert (found >= 0.01 - 1e-12).all() and (found <= 1 + 1e-12).all()
    assert (found[outliers.argsort(stable=True)].diff() >= -1e-12).all()


@given(SHARES, st.sampled_from([2, 4, 8]), st.integers(0, 99))
def test_whole_numbers_lie_beside_what_is_wanted_and_miss_the_mean_by_no_more_than_half_a_block(shares, most, seed):
    wanted = 1 + torch.tensor(shares, dtype=torch.float64) * (most - 1)
    sizes = sizes_for(wanted, seed)
    found = whole(wanted, sizes, most)
    assert (found >= 1).all() and (found <= most).all()
    assert ((found - wanted).abs() < 1 + 1e-9).all()
    assert abs(float((sizes * (wanted - found)).sum())) <= float(sizes.max()) / 2 + 1e-9


def test_what_must_be_one_at_least_is_taken_from_those_that_have_more():
    wanted, sizes = torch.tensor([3.5, 0.25, 0.25], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert whole(wanted, sizes, 8).tolist() == [2, 1, 1]


@given(st.lists(st.integers(5, 31), min_size=2, max_size=5), st.integers(0, 99))
def test_of_blocks_of_one_size_none_comes_nearer_to_what_is_wanted_with_the_same_sum(eighths, seed):
    wanted = torch.tensor(eighths, dtype=torch.float64) / 4
    wanted += (round(float(wanted.sum())) - float(wanted.sum())) / len(wanted)  # N:M asks for a whole sum
    found = whole(wanted, torch.ones(len(wanted), dtype=torch.float64), 8)
    others = [torch.tensor(n) for n in product(range(1, 9), repeat=len(wanted)) if sum(n) == round(float(wanted.sum()))]
    assert int(found.sum()) == round(float(wanted.sum()))
    assert float((found - wanted).abs().sum()) <= min(float((n - wanted).abs().sum()) for n in others) + 1e-9


def test_blocks_with_more_outliers_get_a_larger_n_and_the_mean_is_the_n_that_was_asked_for():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=64, intermediate_size=48, **sizes)).eval()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[:3] *= 30
    ids = torch.randint(64, (8 * 16,), generator=torch.Generator().manual_seed(0))
    task = language_task(Windows(ids, 16), Windows(ids[:32], 16), "ids", batch_size=4)
    recipe = Recipe(NM(4, 8), sc.scores.Wanda(), budget=sc.budgets.OWL(m=2.0, width=0.2))
    result = sc.prune(model, recipe, task=task)
    found = {}
    for name, mask in result.masks.items():
        stays = {int(n) for n in mask.reshape(-1, 8).sum(1)}
        assert len(stays) == 1
        found.setdefault(name.split(".")[2], set()).update(stays)
    assert all(len(stays) == 1 for stays in found.values())
    by_block = {block: stays.pop() for block, stays in found.items()}
    assert sum(by_block.values()) == 4 * 4 and len(set(by_block.values())) > 1
    assert result.sparsity["sparsity"] == 0.5
