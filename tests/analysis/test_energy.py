"""Energy: ratios and what is behind them with a pretended tracker, and codecarbon itself where it is installed."""

import importlib.util
import logging
import socket
import time
from types import SimpleNamespace

import pytest
import torch

import secateur as sc
from secateur.analysis import compare_energy, measure_energy
from secateur.analysis import energy as module
from secateur.engine.energy import training_energy
from secateur.report.energy import energy_text

real = pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="needs the extra analysis")


class Pretended:
    """A tracker that says that every tick of the work took one kWh of the processor and half a one of the memory."""

    ticks = 0
    mode = "cpu_load"

    def __init__(self, country, every_s):
        self._hardware = [SimpleNamespace(), SimpleNamespace(_mode=self.mode)]

    def start(self):
        Pretended.ticks = 0

    def stop(self):
        n = Pretended.ticks
        self.final_emissions_data = SimpleNamespace(
            energy_consumed=1.5 * n,
            cpu_energy=1.0 * n,
            gpu_energy=0.0,
            ram_energy=0.5 * n,
            emissions=3.0 * n,
            duration=n,
        )


def work(ticks):
    def run():
        Pretended.ticks += ticks

    return run


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(module, "_tracker", Pretended)


def test_the_parts_are_told_apart(pretended):
    found = measure_energy(work(2), country="FRA")
    assert (found.kwh, found.cpu_kwh, found.gpu_kwh, found.ram_kwh, found.co2_kg) == (3.0, 2.0, 0.0, 1.0, 6.0)


@pytest.mark.parametrize(
    "mode, source", [("cpu_load", "estimate"), ("constant", "estimate"), ("intel_rapl", "counters"), ("new", "unknown")]
)
def test_it_says_whether_the_processor_was_read_or_reckoned(pretended, monkeypatch, mode, source):
    monkeypatch.setattr(Pretended, "mode", mode)
    assert measure_energy(work(1), country="FRA").cpu == source


def test_ratios_are_those_of_pairs_after_a_warm_up(pretended):
    runs = []

    def noted(name, ticks):
        def run():
            runs.append(name)
            Pretended.ticks += ticks

        return run

    found = compare_energy(noted("a", 4), noted("b", 1), country="FRA", pairs=3)
    assert found.ratio == found.cpu_ratio == 0.25 and found.pairs == 3
    assert runs == ["a", "b"] * 4


def test_work_too_short_to_be_read_is_an_error(pretended):
    with pytest.raises(sc.NumericsError, match="more work"):
        measure_energy(work(0), country="FRA")


@pytest.mark.parametrize("pairs", [0, -1])
def test_at_least_one_pair(pretended, pairs):
    with pytest.raises(sc.RecipeError, match="1 or more"):
        compare_energy(work(1), work(1), country="FRA", pairs=pairs)


def test_an_error_of_the_work_comes_through(pretended):
    def broken():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        measure_energy(broken, country="FRA")


def test_training_leaves_both_models_as_they_are(pretended, monkeypatch):
    task = sc.tasks.builtin_task("digits")
    models = [task.model(), task.model()]
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in models]
    steps = []

    def counted(original):
        def run(self, *a, **k):
            steps.append(1)
            Pretended.ticks += 1
            return original(self, *a, **k)

        return run

    monkeypatch.setattr(torch.optim.Adam, "step", counted(torch.optim.Adam.step))
    found = training_energy(*models, task, steps=3, country="FRA", pairs=2)
    assert len(steps) == 3 * 2 * (2 + 1) and found.ratio == 1
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_no_step_is_refused():
    task = sc.tasks.builtin_task("digits")
    with pytest.raises(sc.RecipeError, match="steps is 0"):
        training_energy(task.model(), task.model(), task, steps=0, country="FRA")


@pytest.mark.parametrize("mode, said", [("cpu_load", "assumed watts"), ("intel_rapl", "counters"), ("new", "not tell")])
def test_the_report_says_what_is_behind_the_figures(pretended, monkeypatch, mode, said):
    monkeypatch.setattr(Pretended, "mode", mode)
    text = energy_text(compare_energy(work(4), work(2), country="FRA"), ("dense", "shallow"))
    assert said in text and "0.500" in text and "dense" in text and "shallow" in text


def test_without_codecarbon_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(sc.MissingExtra, match=r"secateur\[analysis\]"):
        measure_energy(lambda: None, country="FRA")


@real
@pytest.mark.filterwarnings("ignore")
def test_codecarbon_works_without_a_network_and_without_a_word(monkeypatch, tmp_path, capfd):
    def refused(*_):
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.chdir(tmp_path)

    def busy():
        end = time.process_time() + 0.3
        while time.process_time() < end:
            sum(range(1000))

    found = measure_energy(busy, country="FRA", every_s=0.1)
    assert found.kwh == pytest.approx(found.cpu_kwh + found.gpu_kwh + found.ram_kwh)
    assert found.co2_kg > 0 and found.cpu_seconds >= 0.3 and found.seconds >= 0.3
    assert found.cpu in ("counters", "estimate")
    assert not list(tmp_path.iterdir()) and capfd.readouterr().out == ""


@real
@pytest.mark.filterwarnings("ignore")
def test_a_country_that_is_none_is_refused_before_any_work():
    with pytest.raises(sc.RecipeError, match="no country 'XX'"):
        compare_energy(lambda: 1 / 0, lambda: 1 / 0, country="XX")
    assert logging.getLogger("codecarbon").level != logging.ERROR
