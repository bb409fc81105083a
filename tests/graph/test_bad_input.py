"""What a model may do that cannot be followed: it is refused or left alone, with a reason, and never half changed."""

import copy
import logging

import pytest
import torch
from torch import nn
from zoo import ZOO, Pictured, conv, coupled

from secateur.core.errors import SubjectError
from secateur.graph import surgery
from secateur.graph.find import couple
from secateur.graph.surgery import cut_
from secateur.graph.trial import Mismatch


def state(model):
    """All that a user could notice: tensors, their versions and gradients, modes, attributes, hooks."""
    tensors = [(n, t.data_ptr(), t._version, t.requires_grad) for n, t in model.state_dict(keep_vars=True).items()]
    modules = []
    for name, module in model.named_modules():
        plain = {k: v for k, v in vars(module).items() if not isinstance(v, dict)}
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
        modules.append((name, type(module), repr(plain), hooks))
    return tensors, modules


class Breaking(Pictured):
    """Raises in the middle, when it has filled a cache and counted."""

    def __init__(self):
        super().__init__(6)
        self.stem, self.bn, self.cache, self.count = conv(3, 6), nn.BatchNorm2d(6), {}, 0

    def features(self, x):
        self.count += 1
        self.cache["x"] = self.bn(self.stem(x))
        raise ValueError("half way")


class Spectral(Pictured):
    """Mixes channels by an operation without a rule."""

    def __init__(self):
        super().__init__(6)
        self.stem, self.next = conv(3, 6), conv(6, 7)
        self.head = nn.Linear(7, 5)

    def features(self, x):
        x = torch.fft.fft2(self.stem(x), dim=(1, 2)).real
        return self.next(x)


class Literal(nn.Module):
    """Writes a size into its forward function."""

    def __init__(self):
        super().__init__()
        self.stem, self.free, self.head = nn.Linear(7, 8), nn.Linear(8, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.free(self.stem(x).reshape(4, 2, 8)[:, 0]).relu())


PICTURE = torch.randn(2, 3, 6, 6)


def test_a_model_that_does_not_run_on_the_example_is_a_subject_error():
    with pytest.raises(SubjectError, match="does not run on the example"):
        couple(coupled("Residual")[0], lambda model: model(torch.randn(2, 4, 6, 6)))


def test_the_error_tells_what_the_model_said():
    with pytest.raises(SubjectError, match="half way"):
        couple(Breaking(), lambda model: model(PICTURE))


def test_a_model_that_breaks_half_way_is_left_as_it_was():
    model = Breaking().train()
    before = state(model)
    with pytest.raises(SubjectError):
        couple(model, lambda model: model(PICTURE))
    assert state(model) == before
    assert model.cache == {}


@pytest.mark.parametrize("name", ["Residual", "lstm_both_ways", "packed_batch_first", "GroupConv", "Branching"])
@pytest.mark.parametrize("training", [True, False])
def test_coupling_leaves_the_model_as_it_was(name, training):
    model = ZOO[name].model().train(training)
    before = state(model)
    couple(model, ZOO[name].call())
    assert state(model) == before


def test_a_module_in_another_mode_than_its_model_stays_in_it():
    model = copy.deepcopy(coupled("Residual")[0]).train()
    model.bn.eval()
    couple(model, lambda model: model(PICTURE.double()))
    assert model.training
    assert not model.bn.training


def test_hooks_of_the_user_stay():
    model = copy.deepcopy(coupled("Residual")[0])
    model.a.register_forward_hook(lambda module, args, output: None)
    couple(model, lambda model: model(PICTURE.double()))
    assert len(model.a._forward_hooks) == 1


def test_an_operation_without_a_rule_is_named_in_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "secateur"):
        couple(Spectral(), lambda model: model(PICTURE))
    assert "fft" in caplog.text


def test_what_an_operation_without_a_rule_touches_stays():
    coupling = couple(Spectral(), lambda model: model(PICTURE))
    assert "fft" in coupling.frozen["stem.weight, dimension 0"]


def test_what_an_operation_without_a_rule_does_not_touch_is_offered():
    coupling = couple(Spectral(), lambda model: model(PICTURE))
    assert [family.name for family in coupling.families] == ["next"]


def test_a_size_that_no_attribute_explains_is_the_reason_why_positions_stay():
    coupling = couple(Literal(), lambda model: model(torch.randn(8, 7)))
    assert "keeps its size" in coupling.frozen["stem.weight, dimension 0"]


def test_other_families_than_that_of_the_literal_are_offered():
    coupling = couple(Literal(), lambda model: model(torch.randn(8, 7)))
    assert [family.name for family in coupling.families] == ["free"]


def test_an_output_is_the_reason_why_its_positions_stay():
    assert "output" in coupled("Residual")[1].frozen["head.weight, dimension 0"]


def test_a_cut_that_is_refused_changes_nothing(monkeypatch):
    dense, coupling = coupled("attention")
    model = copy.deepcopy(dense)
    features = next(f for f in coupling.families if f.size == 3)
    before = state(model)
    refused = Mismatch(3, "attention", "view", "it does not fit")
    monkeypatch.setattr(surgery, "mends_of", lambda *_: refused)
    with pytest.raises(SubjectError, match="would not run on the smaller model"):
        cut_(model, ZOO["attention"].call(), coupling, coupling.gone({features.name: torch.arange(3) > 0}))
    assert state(model) == before


class OnePad(nn.Module):
    """A shortcut that pads both sides by one attribute, beside a convolution."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.pad, self.head = 4, nn.Linear(16, 4)

    def forward(self, x):
        x = self.narrow(x).relu()
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return self.head((self.wide(x) + short).mean((2, 3)))


def test_what_one_attribute_pads_on_both_sides_stays_and_the_rest_of_the_stream_may_go():
    x = torch.randn(2, 3, 8, 8)
    assert [(f.name, f.size) for f in couple(OnePad(), lambda model: model(x)).families] == [("narrow", 8)]


def test_features_of_queries_and_values_that_one_attribute_counts_go_together():
    _, coupling = coupled("attention")
    together = next(f for f in coupling.families if f.size == 3)
    assert {m.name.split(".")[-2] for m in together.members} == {"q", "k", "v", "out"}


def test_a_keep_set_that_keeps_all_changes_nothing():
    dense, coupling = coupled("Residual")
    model = copy.deepcopy(dense)
    before = state(model)
    surgery = cut_(model, lambda model: model(PICTURE.double()), coupling, coupling.gone({}))
    assert not surgery.plan.actions
    assert state(model) == before


def test_a_trial_logs_nothing_of_what_it_tries(capfd):
    couple(ZOO["Split"].model(), ZOO["Split"].call())
    assert "Traceback" not in capfd.readouterr().err
