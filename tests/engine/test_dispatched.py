"""Models that accelerate spread over devices: pruned as they are; those whose weights it took away are refused."""

import pytest
import torch
from families import batches_of, model_of

import secateur as sc
from secateur.core import SubjectError, Task

accelerate = pytest.importorskip("accelerate")
PARTS = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.layers.2", "model.norm", "model.rotary_emb")


def task():
    batches = batches_of("llama", 4)
    return Task(train=batches, test=batches, loss=lambda outputs, batch: torch.zeros(()), metrics={})


def spread(folder=None, **places):
    where = dict.fromkeys((*PARTS, "lm_head"), "cpu") | {f"model.{name}": place for name, place in places.items()}
    return accelerate.dispatch_model(model_of("llama"), where, main_device="cpu", offload_dir=folder, force_hooks=True)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt", "flap"])
def test_a_model_spread_over_devices_is_pruned_as_one_that_is_not(method):
    result = sc.prune(spread(), method, sparsity=0.5, task=task())
    plain = sc.prune(model_of("llama"), method, sparsity=0.5, task=task())
    for (name, mine), his in zip(result.subject.named_parameters(), plain.subject.parameters(), strict=True):
        assert torch.equal(mine, his), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_blocks_on_two_devices_are_pruned_where_they_are(method):
    where = {name: 0 if name.endswith(("0", "1")) else "cpu" for name in (*PARTS, "lm_head")}
    model = accelerate.dispatch_model(model_of("llama"), where, main_device=0, force_hooks=True)
    devices = [p.device for p in model.parameters()]
    goal = task()
    for batch in goal.train:  # pads are left out on every device
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][0, -2:] = 0
    result = sc.prune(model, method, sparsity=0.5, task=goal, recovery="reconstruct(steps=2)")
    assert [p.device for p in result.subject.parameters()] == devices
    assert result.sparsity["sparsity"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "flap"])
def test_offloaded_weights_are_refused_with_the_way_out(method, tmp_path):
    model = spread(str(tmp_path), **{"layers.1": "disk"})
    with pytest.raises(SubjectError, match=r"offloaded(?s:.*)model\.layers\.1(?s:.*)--memory"):
        sc.prune(model, method, sparsity=0.5, task=task())


def test_a_model_offloaded_as_a_whole_is_refused_in_ones_own_loop_too():
    model = accelerate.cpu_offload(model_of("llama"), execution_device="cpu")
    with pytest.raises(SubjectError, match="offloaded"):
        sc.Pruner(model, "magnitude", total_steps=10, sparsity=0.5)


def test_a_model_without_values_is_refused():
    with torch.device("meta"):
        model = torch.nn.Linear(4, 4)
    with pytest.raises(SubjectError, match=r"meta device(?s:.*)load the weights first"):
        sc.prune(model, "magnitude", sparsity=0.5)
