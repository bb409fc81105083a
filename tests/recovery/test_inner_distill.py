"""Inner distillation: block by block against the formula, and what the projections do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import RecipeError, Task
from secateur.recovery import FineTune, InnerDistill
from secateur.recovery.inner_distill import block_loss, blocks_of
from secateur.structures import Channels

seeds = st.integers(0, 2**16)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), seeds)
def test_the_loss_of_a_block_equals_the_formula_written_as_loops(batch, kept, dense, seed):
    student, teacher, P = drawn(batch, kept, 2, seed=seed), drawn(batch, dense, 2, seed=seed + 1), drawn(dense, kept)
    total = torch.tensor(0.0)
    for b in range(batch):
        for c in range(dense):
            for x in range(2):
                total += (sum(P[c, k] * student[b, k, x] for k in range(kept)) - teacher[b, c, x]) ** 2
    torch.testing.assert_close(block_loss(student, teacher, P, 1), total / teacher.numel(), rtol=1e-4, atol=1e-5)


def test_equal_blocks_cost_nothing():
    x = drawn(2, 3)
    assert block_loss(x, x, None, 0).item() == 0


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))


def batch():
    return drawn(8, 3), torch.arange(8) % 2


def task():
    return Task(train=[batch()], test=[batch()], training=sc.Training(epochs=2))


def test_the_blocks_are_the_children_and_the_parts_of_sequences():
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "body": nn.Sequential(nn.ReLU(), nn.Linear(2, 2))})
    assert blocks_of(model) == ["stem", "body.0", "body.1"]
    assert blocks_of(model, ("bo*.1",)) == ["body.1"]


def test_the_loss_is_the_tasks_and_the_mean_over_blocks_and_logits():
    model = net()
    work = InnerDistill(weight=3.0).begin(model, task())
    with torch.no_grad():
        model[0].weight.add_(1.0)
    dense, x = net(), batch()[0]
    outputs = model.train()(x)
    parts = [nn.functional.mse_loss(a(x), b(x)) for a, b in ((model[:1], dense[:1]), (model[:2], dense[:2]))]
    parts.append(nn.functional.mse_loss(outputs, dense(x)))
    found = work.loss(torch.tensor(5.0), outputs, batch())
    torch.testing.assert_close(found, 5.0 + 3.0 * sum(parts) / 3)
    work.finish_()
    assert not model[0]._forward_hooks


def narrowed(work_settings=None):
    """A model whose hidden units were halved after healing began, its healing, and one training pass."""
    model = net()
    work = InnerDistill(**(work_settings or {})).begin(model, task())
    recipe = sc.Recipe(structure=Channels(), score=sc.scores.Magnitude())
    model = sc.prune(model, recipe, sparsity=0.5, example=batch()[0]).subject.train()
    return model, work


def test_narrower_blocks_are_widened_by_a_map_that_learns():
    model, work = narrowed()
    losses = []
    for _ in range(200):
        loss = work.loss(torch.tensor(0.0), model(batch()[0]).detach(), batch())
        loss.backward()
        work.after_step_()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert work.state()["0/weight"].shape == (6, 3)


def test_a_narrower_block_without_parameters_teaches_nothing():
    model, work = narrowed()
    work.loss(torch.tensor(0.0), model(batch()[0]), batch())
    assert {key.partition("/")[0] for key in work.state()} == {"0"}


def test_the_student_gets_the_gradient_and_the_teacher_none():
    model, work = narrowed()
    work.loss(torch.tensor(0.0), model(batch()[0]), batch()).backward()
    assert model[0].weight.grad.abs().sum() > 0 and work._teacher[0].weight.grad is None


def test_what_it_learnt_is_taken_up_again():
    def trained(work, model, steps):
        for _ in range(steps):
            work.loss(torch.tensor(0.0), model(batch()[0]).detach(), batch()).backward()
            work.after_step_()
        return work.state()

    model, work = narrowed()
    saved = {k: v.clone() for k, v in trained(work, model, 3).items()}
    onward = trained(work, model, 3)
    model, again = narrowed()
    again.restore(saved)
    state = trained(again, model, 3)
    assert all(torch.equal(v, state[k]) for k, v in onward.items())


def test_passes_that_do_not_train_are_not_listened_to():
    model = net()
    work = InnerDistill().begin(model, task())
    model.eval()(batch()[0])
    assert not work._seen[1]


def test_it_heals_in_the_engines_loop_and_leaves_no_hook():
    recipe = sc.Recipe(
        structure=Channels(), score=sc.scores.Magnitude(), recovery=(FineTune(epochs=2), InnerDistill(0.5))
    )
    result = sc.prune(net(), recipe, sparsity=0.5, task=task(), device="cpu")
    assert result.keep.counts == {"0": 3}
    assert not any(m._forward_hooks for m in result.subject.modules())


@pytest.mark.parametrize("settings", [{"weight": -1.0}, {"lr": 0.0}], ids=str)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(RecipeError, match="the paper takes weight=20"):
        InnerDistill(**settings)


def test_a_pattern_that_fits_no_block_is_named():
    with pytest.raises(RecipeError, match="fits no module"):
        InnerDistill(blocks=("layer9*",)).begin(net(), task())


def test_gradients_that_are_not_finite_leave_a_map_as_it_is():
    from secateur.recovery.projections import Projections

    maps = Projections(lr=0.1, seed=0)
    weight = maps.at("a", 3, 2, torch.device("cpu"))
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, float("inf"))
    maps.step_()
    assert torch.equal(weight, before) and (weight.grad is None or not weight.grad.any())


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    from secateur.engine.training import Trainer

    def run(**options):
        recipe = sc.Recipe(
            structure=Channels(), score=sc.scores.Magnitude(), recovery=(FineTune(epochs=6), InnerDistill(0.5))
        )
        return sc.prune(net(), recipe, sparsity=0.5, task=task(), device="cpu", **options)

    class Stopped(Exception):
        pass

    advance = Trainer._advance

    def stopping(self):
        ended = advance(self)
        if self.done == 4:
            raise Stopped
        return ended

    monkeypatch.setattr(Trainer, "_advance", stopping)
    with pytest.raises(Stopped):
        run(run=tmp_path / "run", save_every_s=0.0)
    monkeypatch.setattr(Trainer, "_advance", advance)
    resumed, whole = run(run=tmp_path / "run", save_every_s=0.0).subject.state_dict(), run().subject.state_dict()
    assert all(torch.equal(v, resumed[k]) for k, v in whole.items())
