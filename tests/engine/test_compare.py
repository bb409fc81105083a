"""`sc.compare`: the protocol is the same for all, and every row says what it cost."""

import json
import shlex
import statistics

import pytest
from sweeping import same, write_mine
from torch import nn

import secateur as sc
from secateur.analysis import mean_interval
from secateur.cli.main import app
from secateur.core import RecipeError

TRAINED = 8 * 3  # steps of the dense model


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    return write_mine(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def found(mine, tmp_path_factory):
    return sc.compare(
        methods=["magnitude", "lamp(rounds=2)", {"gmp": {"end": 0.6}}, "imp(share=0.4)"],
        sparsity=[0.5, 0.7],
        seeds=2,
        heal=4,
        recoveries=["fine-tune", "fine-tune+distill", "none"],
        small_dense=mine["model"],
        folder=tmp_path_factory.mktemp("found"),
        **mine,
    )


def rows_of(found, label, recovery="fine-tune"):
    return [r for r in found.rows if r["label"] == label and r["recovery"] == recovery]


def test_no_cell_failed(found):
    assert found.failed == []


def test_every_method_trains_for_the_same_number_of_steps_up_to_one_a_leg(found):
    total = TRAINED + 4 * 3
    for row in found.rows:
        if row["recovery"] and "fine-tune" in row["recovery"]:
            steps = row["train_steps"] + row["train_steps_before"]
            assert total - 4 < steps <= total, row["label"]


def test_a_method_that_begins_untrained_is_not_charged_for_the_dense_start(found):
    assert {r["train_steps_before"] for r in rows_of(found, "imp(share=0.4)")} == {0}
    assert {r["train_steps_before"] for r in rows_of(found, "magnitude")} == {TRAINED}


def test_steps_are_priced_in_macs_of_a_forward_and_twice_that_for_a_backward_pass(found):
    forward = 32 * (6 * 16 + 16 * 3)
    for row in rows_of(found, "magnitude"):
        assert row["train_macs"] == 3 * forward * row["train_steps"]
        assert row["train_macs_before"] == 3 * forward * TRAINED


def test_settings_that_were_given_are_said(found):
    assert {(r["label"], r["tuned"]) for r in found.rows} == {
        ("dense", "defaults"),
        ("small-dense", "defaults"),
        ("magnitude", "defaults"),
        ("lamp(rounds=2)", "given"),
        ("gmp(end=0.6)", "given"),
        ("imp(share=0.4)", "given"),
    }


def test_what_makes_no_sense_is_left_out_with_the_reason(found):
    assert {(x["method"], x["recovery"]) for x in found.left_out} == {("gmp", "none"), ("imp", "none")}
    assert all("while it trains" in x["reason"] for x in found.left_out)


def test_without_recovery_nothing_trains(found):
    assert {r["train_steps"] for r in rows_of(found, "magnitude", "none")} == {0}


def test_distilling_is_another_result_than_fine_tuning(found):
    one, other = rows_of(found, "magnitude")[0], rows_of(found, "magnitude", "fine-tune+distill")[0]
    assert one["metrics"]["loss"] != other["metrics"]["loss"]


def test_the_small_dense_model_has_as_many_parameters_as_the_pruned_one_keeps(found):
    for sparsity in (0.5, 0.7):
        small = next(r for r in found.rows if r["method"] == "small-dense" and r["sparsity"] == sparsity)
        kept = next(r for r in rows_of(found, "magnitude") if r["sparsity"] == sparsity)
        assert abs(small["params"] - kept["nonzero"]) <= (6 + 1 + 3) / 2  # one hidden unit has as many
        assert small["train_steps"] == TRAINED + 4 * 3


def test_means_come_with_students_interval_over_seeds_and_the_change_is_paired(found):
    dense = {r["seed"]: r["metrics"]["accuracy"] for r in found.rows if r["method"] == "dense"}
    row = next(r for r in found.summary() if (r["label"], r["sparsity"], r["recovery"]) == ("magnitude", 0.7, "none"))
    values = {r["seed"]: r["metrics"]["accuracy"] for r in rows_of(found, "magnitude", "none") if r["sparsity"] == 0.7}
    changes = [values[s] - dense[s] for s in dense]
    assert (row["mean"], row["seeds"]) == (statistics.mean(values.values()), 2)
    assert (row["low"], row["high"]) == mean_interval(list(values.values()))
    assert (row["change"], row["change_low"]) == (statistics.mean(changes), mean_interval(changes)[0])


def test_one_seed_has_no_interval(mine, tmp_path):
    found = sc.compare(methods=["magnitude"], sparsity=0.5, seeds=[7], heal=1, folder=tmp_path / "c", **mine)
    assert {r["seed"] for r in found.rows} == {7}
    assert all(r["low"] is None for r in found.summary())


def test_the_papers_own_budget_gives_every_leg_as_much(mine, tmp_path):
    found = sc.compare(
        methods=["magnitude", "imp(share=0.4)"],
        sparsity=0.7,
        seeds=1,
        heal=2,
        budget="own",
        folder=tmp_path / "c",
        **mine,
    )
    steps = {r["method"]: r["train_steps"] for r in found.rows}
    assert steps == {"dense": TRAINED, "magnitude": 2 * 3, "imp": (3 + 1) * 2 * 3}


def test_another_budget_starts_from_the_same_dense_models(mine, tmp_path):
    for budget in ("equal", "own"):
        sc.compare(methods=["imp"], sparsity=0.5, seeds=1, heal=2, budget=budget, folder=tmp_path / "c", **mine)
    names = [p.name.split("-seed")[0] for p in (tmp_path / "c" / "cells").iterdir()]
    assert sorted(names) == ["dense", "imp-0.5", "imp-0.5"]


def test_a_rows_command_makes_the_same_cell_again(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for row in (rows_of(found, "gmp(end=0.6)")[3], rows_of(found, "magnitude", "none")[0]):
        words = shlex.split(row["command"])
        assert words[:2] == ["secateur", "compare"]
        app([*words[1:], "-w", "1", "--json"], standalone_mode=False)
        again = json.loads((tmp_path / "runs" / "again" / "results.json").read_text())["rows"][-1]
        assert same([again], tmp_path / "runs" / "again" / "cells") == same([row], found.folder / "cells")


def test_a_damaged_row_is_measured_again(mine, tmp_path):
    arguments = {"methods": ["magnitude"], "sparsity": 0.5, "seeds": 1, "heal": 1, "folder": tmp_path / "c", **mine}
    first = sc.compare(**arguments)
    for row in (tmp_path / "c" / "cells").glob("*/row.json"):
        row.write_text(row.read_text()[:-40])
    second = sc.compare(**arguments)
    assert same(second.rows, tmp_path / "c" / "cells") == same(first.rows, tmp_path / "c" / "cells")


def test_a_dense_model_that_fails_is_told_by_the_rows_that_need_it(tmp_path):
    data = [("no tensor",)]
    task = sc.Task(train=data, test=data)
    model = nn.Sequential(nn.Linear(2, 2))
    found = sc.compare(model, ["magnitude"], sparsity=0.5, task=task, seeds=1, heal=1, folder=tmp_path / "c")
    assert [r["method"] for r in found.failed] == ["dense", "magnitude"]
    assert "dense model that it starts from" in found.failed[1]["error"]
    errors = [json.loads(p.read_text())["error"] for p in (tmp_path / "c" / "cells").glob("*/error.json")]
    assert len(errors) == 2


def test_what_was_planned_is_on_disk_before_the_first_cell(mine, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("secateur.engine.pool.run_cell", stop)
    with pytest.raises(KeyboardInterrupt):
        sc.compare(methods=["magnitude"], sparsity=0.5, seeds=2, folder=tmp_path / "c", **mine)
    planned = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert len(planned["cells"]) == 4 and planned["protocol"]["budget"] == "equal"
    assert not (tmp_path / "c" / ".lock").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": []}, "there is no method"),
        ({"methods": ["gpm"]}, "did you mean 'gmp'"),
        ({"methods": ["gmp(ende=1)"]}, "no setting 'ende'"),
        ({"seeds": []}, "there is no seed"),
        ({"workers": 0}, "workers is 0"),
        ({"recoveries": []}, "there is no recovery"),
        ({"recoveries": ["finetune"]}, "did you mean 'fine-tune'"),
        ({"recoveries": ["distill"]}, r"write \"fine-tune\+distill\""),
        ({"methods": ["gmp"], "recoveries": ["none"]}, "nothing is left to compare"),
        ({"small_dense": True}, "only built-in models know"),
        ({"sparsity": 1.5}, "1.5"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_before_any_work(change, message, mine, tmp_path):
    arguments = {"methods": ["magnitude"], "sparsity": 0.5, "folder": tmp_path / "c", **mine} | change
    with pytest.raises(RecipeError, match=message):
        sc.compare(**arguments)
    assert not (tmp_path / "c").exists()
