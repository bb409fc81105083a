"""On a CUDA device: the same recipe, the same decisions. `make test-gpu` runs these."""

import copy

import pytest
import torch

import secateur as sc

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine"),
]


@pytest.mark.parametrize("method", ["magnitude", "global-mp", "lamp"])
def test_a_gpu_keeps_the_same_weights_as_the_cpu(method):
    torch.manual_seed(0)
    model = sc.tasks.builtin_model("digits-mlp")
    on_gpu = sc.prune(copy.deepcopy(model).cuda(), method, sparsity=0.9)
    assert on_gpu.keep == sc.prune(model, method, sparsity=0.9).keep


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_and_pruning_run_on_the_gpu(precision):
    task = sc.tasks.builtin_task("digits")
    result = sc.prune(task.model(), "gmp", sparsity=0.9, task=task, epochs=5, device="cuda", mixed_precision=precision)
    assert next(result.subject.parameters()).is_cuda
    assert result.metrics["accuracy"] > 0.5
    assert result.sparsity["sparsity"] == pytest.approx(0.9, abs=1e-3)


def test_random_draws_do_not_depend_on_the_device():
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Random())
    torch.manual_seed(0)
    model = sc.tasks.builtin_model("digits-mlp")
    assert (
        sc.prune(copy.deepcopy(model).cuda(), recipe, sparsity=0.5).keep == sc.prune(model, recipe, sparsity=0.5).keep
    )
