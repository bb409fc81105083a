"""One pass over batches, against sums by hand."""

import copy

import pytest
import torch
from torch import nn

from secateur.calibration import collect
from secateur.core import Gradient, InputGram, NumericsError, RecipeError, Stats, SubjectError, Task, progress
from secateur.structures import Weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, (2, 3), stride=(1, 2), padding=1, dilation=(2, 1))
        self.dropout = nn.Dropout(0.9)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        self.idle = nn.Linear(3, 3)
        self.bn.eval()

    def forward(self, x):
        tokens = self.bn(self.dropout(self.conv(x))).flatten(2).transpose(1, 2)
        return self.fc(tokens).mean(1)


def batches(sizes=(3, 1, 2)):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 2, 5, 6, generator=g), torch.randint(3, (n,), generator=g)) for n in sizes]


TASK = Task(train=batches(), test=batches(), name="mine")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def gather(net, *statistics, data=None, **patterns):
    space = Weights(**patterns).find(net)
    return collect(net, space, statistics, TASK, batches() if data is None else data)


def test_the_gram_of_a_convolution_is_that_of_its_patches(net):
    x = torch.cat([x for x, _ in batches()])
    patches = nn.functional.unfold(x, (2, 3), (2, 1), 1, (1, 2)).transpose(1, 2).flatten(0, 1).double()
    found = gather(net, InputGram())["conv.weight", InputGram()]
    torch.testing.assert_close(found, patches.T @ patches / len(patches))


def test_the_gram_of_a_convolution_has_the_order_of_its_weight_matrix(net):
    """w G w^T is the mean square of the outputs, channel by channel, without the bias."""
    gram = gather(net, InputGram())["conv.weight", InputGram()]
    w = net.conv.weight.detach().flatten(1).double()
    out = torch.cat([nn.functional.conv2d(x, net.conv.weight, None, (1, 2), 1, (2, 1)) for x, _ in batches()])
    torch.testing.assert_close((w @ gram @ w.T).diagonal(), out.detach().double().square().mean((0, 2, 3)))


def test_the_gram_of_a_linear_is_that_of_its_tokens_without_dropout(net):
    twin = copy.deepcopy(net).eval()
    x = torch.cat([twin.bn(twin.conv(x)).flatten(2).transpose(1, 2).flatten(0, 1) for x, _ in batches()])
    x = x.detach().double()
    torch.testing.assert_close(gather(net, InputGram())["fc.weight", InputGram()], x.T @ x / len(x))


def test_the_gradient_is_that_of_the_mean_loss_over_samples(net):
    twin = copy.deepcopy(net).eval()
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    nn.functional.cross_entropy(twin(x), y).backward()
    found = gather(net, Gradient())
    for name in ("conv.weight", "fc.weight"):
        torch.testing.assert_close(found[name, Gradient()], twin.get_parameter(name).grad)


def test_one_pass_serves_every_statistic_and_equal_ones_once(net):
    read = iter(batches())
    found = gather(net, Gradient(), InputGram(), Gradient(), data=read)
    assert {s for _, s in found} == {Gradient(), InputGram()} and next(read, None) is None


def test_a_layer_that_never_ran_is_an_error_where_it_is_read(net):
    stats = Stats(gather(net, InputGram(), Gradient()))
    idle = Weights().find(net)["idle.weight"]
    for statistic in (InputGram(), Gradient()):
        with pytest.raises(SubjectError, match=r"(?s)never collected.*'idle\.weight'"):
            _ = stats[idle, statistic]


class Shared(nn.Module):
    """Two layers are given one tensor, which is changed in place between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = x.clone()
        y = self.first(x)
        x *= 2
        return y + self.second(x)


def test_an_input_changed_in_place_between_two_layers_is_another_one():
    data = [(torch.randn(3, 4), torch.zeros(3))]
    found = gather(Shared(), InputGram(), data=data)
    torch.testing.assert_close(found["second.weight", InputGram()], 4 * found["first.weight", InputGram()])


def test_a_frozen_parameter_has_no_gradient_and_is_named(net):
    net.fc.weight.requires_grad_(False)
    with pytest.raises(SubjectError, match=r"(?s)1 parameters are frozen.*'fc\.weight'"):
        gather(net, Gradient())


def test_a_frozen_parameter_has_inputs_all_the_same(net):
    net.requires_grad_(False)
    assert ("fc.weight", InputGram()) in gather(net, InputGram())


def test_a_layer_without_a_view_of_tokens_is_named():
    with pytest.raises(SubjectError, match=r"(?s)LSTM has no view.*'weight_ih_l0'"):
        gather(nn.LSTM(3, 4), InputGram())


def test_no_batch_is_an_error_that_names_the_task(net):
    with pytest.raises(RecipeError, match=r"(?s)0 were read.*'mine'"):
        gather(net, Gradient(), data=[])


def test_a_loss_that_is_not_finite_stops_the_pass(net):
    x, y = batches()[0]
    with pytest.raises(NumericsError, match="loss is nan"):
        gather(net, Gradient(), data=[(x * float("nan"), y)])


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_the_model_is_left_as_it_was(net, fails):
    net.fc.weight.grad = torch.ones(3, 4)
    before = copy.deepcopy(net.state_dict())
    data = [*batches(), (torch.zeros(1, 9, 5, 6), torch.zeros(1, dtype=torch.long))] if fails else batches()
    try:
        gather(net, Gradient(), InputGram(), data=data)
    except RuntimeError:
        assert fails
    torch.testing.assert_close(dict(net.state_dict()), dict(before), rtol=0, atol=0)
    assert torch.equal(net.fc.weight.grad, torch.ones(3, 4)) and net.conv.weight.grad is None
    assert [net.training, net.bn.training, net.dropout.training] == [True, False, True]
    assert not any(m._forward_hooks for m in net.modules())


def test_gradients_are_collected_where_the_caller_switched_them_off(net):
    with torch.no_grad():
        assert gather(net, Gradient(), include=("fc",))["fc.weight", Gradient()].any()


def test_a_recurrent_layer_has_gradients_in_eval_mode():
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 3, batch_first=True)

        def forward(self, x):
            return self.lstm(x.flatten(1, 2))[0][:, -1]

    assert gather(Reader(), Gradient())["lstm.weight_hh_l0", Gradient()].any()


def test_a_pass_reports_its_progress(net):
    seen = []
    with progress.showing(lambda *parts: seen.append(parts)):
        gather(net, InputGram(), include=("fc",))
    assert [done for _, done, _ in seen] == [1, 2, 3]
