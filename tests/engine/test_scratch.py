"""Scratch-E and Scratch-B behind `sc.prune` and `sc.compare`: same architecture, new weights, the dense recipe."""

import copy
import json

import pytest
import torch
from sweeping import write_mine
from torch import nn

import secateur as sc
from secateur.cli.main import app
from secateur.engine.sweep import scratch_from
from secateur.engine.training import Trainer
from secateur.tasks.digits import Images


def net(width=8):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, 3),
    )


class Gained(nn.Module):
    """A parameter that no module resets, drawn by the constructor."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 3)
        self.gain = nn.Parameter(torch.randn(8) + 10)

    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1))) * self.gain)


def task(epochs=2, **more):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 1, 4, 4, generator=g), torch.randint(3, (40,), generator=g)
    training = sc.Training(epochs=epochs, optimizer="sgd", lr=0.05, lr_schedule="step")
    return sc.Task(train=Images(x[:32], y[:32]), test=Images(x[32:], y[32:]), batch_size=8, training=training, **more)


def seeded(build=net):
    torch.manual_seed(0)
    return build()


@pytest.fixture
def starts(monkeypatch):
    """The weights that each training begins with."""
    found = []
    rest = Trainer._fit_rest

    def spied(trainer):
        found.append(copy.deepcopy(trainer.model.state_dict()))
        rest(trainer)

    monkeypatch.setattr(Trainer, "_fit_rest", spied)
    return found


def pruned(recovery, method="magnitude", model=None, goal=None, seed=0, **options):
    options = {"structure": "channels", "sparsity": 0.5} | options
    model = seeded() if model is None else model
    return sc.prune(model, method, recovery=recovery, task=goal or task(), seed=seed, device="cpu", **options)


def test_the_architecture_is_the_pruned_ones_and_the_training_the_dense_models():
    plain, scratch = pruned("none"), pruned("scratch-e")
    assert scratch.keep == plain.keep
    shapes = [{n: t.shape for n, t in r.subject.state_dict().items()} for r in (plain, scratch)]
    assert shapes[0] == shapes[1]
    assert scratch.provenance["train_steps"] == 2 * 4
    assert scratch.provenance["scratch"]["lr_schedule"] == "step" and scratch.provenance["scratch"]["lr"] == 0.05


def test_scratch_b_trains_for_as_many_multiplications_as_the_dense_model():
    found = pruned("scratch-b", goal=task(epochs=3))
    epochs = int(3 * found.before["macs"] / found.after["macs"])
    assert epochs > 3 and found.provenance["train_steps"] == epochs * 4
    assert found.provenance["scratch"]["epochs"] == epochs


def test_it_is_multiplications_that_count_and_not_parameters():
    found = pruned("scratch-b", goal=task(epochs=50), sparsity=0.25)
    by_params = int(50 * found.before["params"] / found.after["params"])
    assert found.provenance["train_steps"] // 4 == int(50 * found.before["macs"] / found.after["macs"]) != by_params


def test_no_surviving_value_is_kept(starts):
    dense = seeded()
    kept = pruned("none", model=copy.deepcopy(dense)).subject.state_dict()
    pruned("scratch-e", model=dense)
    (begun,) = starts
    for name in ("0.weight", "3.weight", "6.weight"):
        assert not bool(torch.isin(begun[name], kept[name]).any())
    assert torch.equal(begun["1.running_mean"], torch.zeros(4))


def test_every_seed_draws_other_weights(starts):
    pruned("scratch-e", seed=1)
    pruned("scratch-e", seed=2)
    assert not torch.equal(starts[0]["3.weight"], starts[1]["3.weight"])


def test_what_fine_tuning_found_is_trained_from_scratch_afterwards(starts):
    found = pruned("fine-tune(epochs=1)+scratch-e", method="gmp", structure=None, sparsity=0.5)
    assert found.provenance["train_steps"] == 4 + 2 * 4
    before, after = starts
    for name, mask in found.masks.items():
        assert bool((after[name][~mask] == 0).all()) and not torch.equal(after[name], before[name])
        assert bool((dict(found.subject.named_parameters())[name][~mask] == 0).all())


def test_masks_save_no_multiplications_unless_a_sparse_runtime_is_assumed():
    with pytest.raises(sc.RecipeError, match=r"(?s)undefined without a sparse runtime.*flops_model=ideal"):
        pruned("scratch-b", structure=None)
    found = pruned("scratch-b(flops_model=ideal)", structure=None)
    assert found.provenance["train_steps"] == int(2 * found.before["macs"] / found.after["macs_nonzero"]) * 4
    assert pruned("scratch-e", structure=None).provenance["train_steps"] == 2 * 4


def test_masked_weights_are_drawn_by_the_models_own_factory(starts):
    pruned("scratch-e", structure=None, goal=task(model=lambda: nn.Sequential(*map(_ones, net()))))
    assert set(starts[0]["3.weight"].unique().tolist()) == {0.0, 1.0}


def _ones(module):
    for p in module.parameters():
        nn.init.ones_(p)
    return module


def test_a_parameter_that_nothing_resets_is_named():
    with pytest.raises(sc.SubjectError, match=r"(?s)Gained has parameters and no reset_parameters.*'gain'"):
        pruned("scratch-e", model=seeded(Gained))


def test_or_it_is_the_factorys_at_the_positions_that_stay(starts):
    found = pruned("scratch-e", model=seeded(Gained), goal=task(model=Gained))
    assert starts[0]["gain"].shape == (4,) and bool((starts[0]["gain"] > 5).all())
    assert found.subject.gain.shape == (4,)


def test_a_uniform_architecture_costs_as_much_and_loses_the_same_share_of_every_layer():
    model = seeded(lambda: net(12))
    with torch.no_grad():
        model[3].weight *= 0.01  # a global ranking takes nearly all of its channels
    score = sc.scores.Coupled(sc.scores.Magnitude(), normalize="none", roles=("producer",))
    recipe = sc.Recipe(sc.structures.Channels(), score, budget=sc.budgets.Global())
    own = pruned("scratch-e", method=recipe, model=copy.deepcopy(model), structure=None)
    uniform = pruned("scratch-e(architecture=uniform)", method=recipe, model=model, structure=None)
    assert abs(uniform.after["macs"] - own.after["macs"]) <= uniform.before["macs"] / 12
    ours, equal = (sorted(r.keep.counts.values()) for r in (own, uniform))
    assert equal[1] - equal[0] <= 1 < 5 <= ours[1] - ours[0]


def test_a_teacher_may_stand_beside_it():
    assert pruned("scratch-e+distill").provenance["train_steps"] == 2 * 4


def test_it_needs_data():
    with pytest.raises(sc.RecipeError, match="ScratchE needs data"):
        sc.prune(seeded(), "magnitude", sparsity=0.5, recovery="scratch-e")


@pytest.mark.parametrize("recovery", ["scratch-b", "fine-tune+scratch-b"])
def test_a_run_that_was_killed_goes_on_where_it_was(recovery, tmp_path, monkeypatch):
    whole = pruned(recovery)
    steps = Trainer._step
    for at in (1, 9, 14):  # before, at and after the first steps from scratch

        def dying(trainer, batch, at=at):
            if trainer.done == at:
                raise KeyboardInterrupt
            steps(trainer, batch)

        monkeypatch.setattr(Trainer, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            pruned(recovery, run=tmp_path / "run", save_every_s=0)
    monkeypatch.setattr(Trainer, "_step", steps)
    broken = pruned(recovery, run=tmp_path / "run", save_every_s=0)
    assert broken.provenance["train_steps"] == whole.provenance["train_steps"] > 14
    assert broken.curve == whole.curve and broken.keep == whole.keep
    state = broken.subject.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in whole.subject.state_dict().items())
    stored = pruned(recovery, run=tmp_path / "run")
    assert stored.provenance["scratch"] == whole.provenance["scratch"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    mine = write_mine(tmp_path_factory.mktemp("mine"))
    folder = tmp_path_factory.mktemp("compared")
    common = {"sparsity": 0.5, "seeds": 1, "heal": 1, "folder": folder, **mine}
    methods = ["depgraph", "magnitude", "gmp"]
    return sc.compare(methods=methods, scratch=["e", "b", "uniform", "b(flops_model=ideal)"], **common)


def test_a_comparison_trains_every_method_from_scratch_as_well(compared):
    assert not compared.failed
    found = {(r["method"], r["recovery"]) for r in compared.rows if r["recovery"]}
    assert found == {
        ("depgraph", "fine-tune"),
        ("depgraph", "scratch-e"),
        ("depgraph", "scratch-b"),
        ("depgraph", "scratch-b(architecture=uniform)"),
        ("depgraph", "scratch-b(flops_model=ideal)"),
        ("magnitude", "fine-tune"),
        ("magnitude", "scratch-e"),
        ("magnitude", "scratch-b(flops_model=ideal)"),
        ("gmp", "fine-tune"),
        ("gmp", "fine-tune+scratch-e"),
        ("gmp", "fine-tune+scratch-b(flops_model=ideal)"),
    }


def test_what_is_undefined_is_left_out_with_the_reason(compared):
    left = {(x["method"], x["recovery"].removeprefix("fine-tune+")): x["reason"] for x in compared.left_out}
    assert set(left) == {(m, s) for m in ("magnitude", "gmp") for s in scratch_from(["b", "uniform"])}
    assert all("undefined without a sparse runtime" in reason for reason in left.values())


def test_from_scratch_in_a_comparison_is_as_long_as_the_dense_training(compared):
    dense = next(r for r in compared.rows if r["method"] == "dense")["train_steps"]
    steps = {(r["method"], r["recovery"]): r["train_steps"] for r in compared.rows}
    assert steps["depgraph", "scratch-e"] == steps["magnitude", "scratch-e"] == dense < steps["depgraph", "scratch-b"]


def test_the_protocol_and_the_commands_say_so(compared):
    assert compared.protocol["scratch"] == ["e", "b", "uniform", "b(flops_model=ideal)"]
    dense = next(r for r in compared.rows if r["method"] == "dense")
    assert "--scratch 'e,b,uniform,b(flops_model=ideal)'" in dense["command"]
    row = next(r for r in compared.rows if r["recovery"] == "scratch-b")
    assert "--recoveries scratch-b" in row["command"] and "--scratch" not in row["command"]


def test_another_name_is_refused():
    with pytest.raises(sc.RecipeError, match="e, b, uniform"):
        scratch_from(["c"])


def test_it_is_one_flag_away_on_the_command_line(tmp_path):
    mine = write_mine(tmp_path)
    words = ["prune", mine["model"], "-m", "magnitude", "--structure", "channels", "-s", "0.5", "-t", mine["task"]]
    app([*words, "--recovery", "scratch-b", "-o", str(tmp_path / "out"), "--json"], standalone_mode=False)
    assert (tmp_path / "out" / "secateur.json").is_file()


def test_and_in_comparisons(tmp_path):
    mine = write_mine(tmp_path)
    words = ["compare", mine["model"], "-t", mine["task"], "--train", "-m", "depgraph", "-s", "0.5", "--seeds", "1"]
    app([*words, "--heal", "1", "--scratch", "e,uniform", "-w", "1", "-o", str(tmp_path / "c")], standalone_mode=False)
    rows = json.loads((tmp_path / "c" / "results.json").read_text())["rows"]
    assert [r["recovery"] for r in rows] == [None, "fine-tune", "scratch-e", "scratch-b(architecture=uniform)"]
    page = (tmp_path / "c" / "report.html").read_text()
    assert "scratch-e" in page


def test_and_one_key_away_in_a_recipe_file(tmp_path):
    from secateur.engine.recipe_file import read_recipe

    (tmp_path / "r.yaml").write_text("model: builtin:digits-cnn\nmethod: rethinking\nrecovery: scratch-e\nmacs: 0.5\n")
    assert read_recipe(tmp_path / "r.yaml").file.recovery == "scratch-e"
