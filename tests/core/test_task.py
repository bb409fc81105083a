"""Task: the order of batches, the metrics, and every form that data comes in."""

from collections import namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset

from secateur.core import NumericsError, RecipeError, Task, batch_length, check_loss, first_samples, to_device

Pair = namedtuple("Pair", "x y")


def numbers(n=20):
    return TensorDataset(torch.arange(n), torch.arange(n) % 3)


def ids(task, **how):
    return [b[0].tolist() for b in task.batches(**how)]


def samples(batches):
    return sorted(i for batch in batches for i in batch)


def task_of(data, **more):
    return Task(train=data, test=data, batch_size=6, **more)


def test_every_sample_comes_once_in_a_pass():
    assert samples(ids(task_of(numbers()))) == list(range(20))


def test_the_order_depends_on_seed_and_epoch_only():
    first, second = task_of(numbers(), seed=3), task_of(numbers(), seed=3)
    torch.rand(7)
    assert ids(first, epoch=2) == ids(second, epoch=2)


def test_another_epoch_and_another_seed_have_other_orders():
    task = task_of(numbers())
    orders = [ids(task, epoch=0), ids(task, epoch=1), ids(task.fork(1), epoch=0), ids(task.fork(1), epoch=1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_reading_batches_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    ids(task_of(numbers()))
    assert torch.equal(torch.get_rng_state(), before)


@given(st.integers(0, 5))
def test_start_resumes_in_the_middle_of_a_pass(start):
    task = task_of(numbers())
    assert ids(task, epoch=1, start=start) == ids(task, epoch=1)[start:]


def test_a_list_of_batches_resumes_too():
    batches = [(torch.tensor([i]), torch.tensor([0])) for i in range(4)]
    assert ids(task_of(batches), start=2) == [[2], [3]]


@given(st.lists(st.booleans(), min_size=20, max_size=20).filter(any))
def test_keep_lets_only_its_samples_take_part(keep):
    seen = ids(task_of(numbers()), keep=torch.tensor(keep))
    assert samples(seen) == [i for i, stays in enumerate(keep) if stays]


def test_keeping_all_is_the_order_without_keep():
    task = task_of(numbers())
    assert ids(task, keep=torch.ones(20, dtype=torch.bool)) == ids(task)


def test_samples_of_ready_made_batches_cannot_be_chosen():
    with pytest.raises(RecipeError, match="map-style"):
        ids(task_of([(torch.zeros(1),)]), keep=torch.ones(1, dtype=torch.bool))


@pytest.mark.parametrize("split", ["test", "valid"])
def test_only_training_is_shuffled(split):
    task = Task(train=numbers(), test=numbers(), valid=numbers(), batch_size=20)
    assert ids(task, split=split) == [list(range(20))]


def test_training_unshuffled_has_the_datas_own_order():
    assert ids(task_of(numbers()), shuffle=False)[0] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "empty",
    [TensorDataset(torch.zeros(0)), [], DataLoader(TensorDataset(torch.zeros(0)))],
    ids=["set", "list", "loader"],
)
def test_data_without_a_batch_is_an_error_that_names_the_split(empty):
    task = Task(train=numbers(), test=empty, name="mine")
    with pytest.raises(RecipeError, match="'test' data of task 'mine'"):
        list(task.batches("test"))


def test_an_epoch_of_no_data_has_no_length():
    with pytest.raises(RecipeError, match="0 samples"):
        task_of([]).epoch_steps()


def test_a_keep_of_nothing_has_no_batch():
    with pytest.raises(RecipeError, match="0 samples"):
        ids(task_of(numbers()), keep=torch.zeros(20, dtype=torch.bool))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_plain_loader_is_read_in_the_order_of_seed_and_epoch(shuffle):
    loader = DataLoader(numbers(), batch_size=6, shuffle=shuffle)
    assert ids(task_of(loader)) == ids(task_of(numbers()))


def test_a_loader_brings_its_own_batch_size_and_collation():
    loader = DataLoader(numbers(), batch_size=4, collate_fn=lambda rows: (torch.stack([r[0] for r in rows]) + 100,))
    batches = ids(task_of(loader), shuffle=False)
    assert [len(b) for b in batches] == [4] * 5 and batches[0] == [100, 101, 102, 103]


def test_a_loader_with_a_sampler_of_its_own_keeps_its_order():
    loader = DataLoader(numbers(), batch_size=2, sampler=[5, 3, 1, 0])
    assert ids(task_of(loader)) == [[5, 3], [1, 0]]


def test_a_loader_of_an_iterable_keeps_its_order():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter((torch.tensor(i), 0) for i in range(4))

    loader = DataLoader(Stream(), batch_size=2)
    assert ids(Task(train=loader, test=loader)) == [[0, 1], [2, 3]]


def test_a_loader_that_drops_the_short_last_batch_is_read_without_it():
    task = task_of(DataLoader(numbers(), batch_size=8, shuffle=True, drop_last=True))
    assert [len(b) for b in ids(task)] == [8, 8] and task.epoch_steps() == 2


@pytest.mark.parametrize("n, steps", [(18, 3), (19, 4)])
def test_an_epoch_has_as_many_steps_as_batches(n, steps):
    task = task_of(numbers(n))
    assert task.epoch_steps() == steps == len(ids(task))


def test_a_generator_cannot_be_read_twice():
    with pytest.raises(RecipeError, match="generator"):
        list(task_of(x for x in range(3)).batches())


def test_a_split_that_is_missing_says_how_to_give_it():
    with pytest.raises(RecipeError, match="valid="):
        task_of(numbers()).split("valid")


def test_a_split_is_never_another_attribute():
    with pytest.raises(RecipeError, match="'seed'"):
        task_of(numbers()).split("seed")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.dropout, self.frozen = nn.Linear(2, 3), nn.Dropout(0.9), nn.BatchNorm1d(2)
        self.frozen.eval()

    def forward(self, x, labels=None):
        return self.fc(self.dropout(self.frozen(x)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def labelled(n=17):
    g = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 2, generator=g), torch.randint(3, (n,), generator=g))


def by_hand(net, data):
    x, y = data.tensors
    logits = net.fc(net.frozen(x))
    right = (logits.argmax(1) == y).double().mean().item()
    return {"accuracy": right, "loss": nn.functional.cross_entropy(logits, y).item()}


def test_evaluate_is_accuracy_and_mean_loss_over_samples_without_dropout(net):
    assert task_of(labelled()).evaluate(net) == pytest.approx(by_hand(net, labelled()))


def test_evaluating_twice_gives_the_same(net):
    task = task_of(labelled())
    assert task.evaluate(net) == task.evaluate(net)


def test_evaluate_reads_batches_that_are_mappings(net):
    x, y = labelled().tensors
    batches = [{"x": x[:9], "labels": y[:9]}, {"x": x[9:], "labels": y[9:]}]
    assert task_of(batches).evaluate(net) == pytest.approx(by_hand(net, labelled()))


def test_evaluate_puts_back_the_mode_of_every_module(net):
    task_of(labelled()).evaluate(net)
    assert (net.training, net.dropout.training, net.frozen.training) == (True, True, False)


def test_evaluate_puts_the_mode_back_after_an_error(net):
    with pytest.raises(RuntimeError):
        task_of([(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long))]).evaluate(net)
    assert net.training


def test_evaluate_leaves_a_model_in_eval_mode_there(net):
    task_of(labelled()).evaluate(net.eval())
    assert not net.training


def test_evaluate_builds_no_graph(net):
    seen = []
    task = task_of(labelled(), loss=lambda outputs, batch: seen.append(outputs.requires_grad) or outputs.sum())
    task.evaluate(net)
    assert not any(seen)


class Output:
    def __init__(self, logits, loss):
        self.logits, self.loss = logits, loss


def test_a_models_own_loss_and_logits_are_used_where_its_output_has_them(net):
    x, y = labelled(4).tensors
    logits = nn.functional.one_hot(y, 3).float()
    task = task_of([(x, y)], call=lambda model, batch: Output(logits, torch.tensor(7.0)))
    assert task.evaluate(net) == {"accuracy": 1.0, "loss": 7.0}


@pytest.mark.parametrize(
    "batch, length",
    [
        (torch.zeros(4, 2), 4),
        ((torch.zeros(3), torch.zeros(5)), 3),
        ({"x": torch.zeros(2, 7)}, 2),
        ([{"x": (torch.zeros(6),)}], 6),
        (torch.tensor(1.0), 1),
        ((), 1),
        (("a", "b"), 1),
        ({"names": ["a", "b"], "x": torch.zeros(5)}, 5),
    ],
    ids=["tensor", "pair", "mapping", "nested", "scalar", "empty", "no tensor", "strings first"],
)
def test_a_batch_is_as_long_as_its_first_tensor(batch, length):
    assert batch_length(batch) == length


def test_the_first_sample_of_a_batch_has_its_form():
    cut = first_samples({"x": torch.arange(6).reshape(3, 2), "meta": [torch.tensor(1), "name"]})
    assert cut["x"].tolist() == [[0, 1]] and cut["meta"][1] == "name"


def test_a_named_tuple_stays_one():
    batch = Pair(torch.zeros(3), torch.ones(3))
    assert [type(f(batch)) for f in (first_samples, lambda b: to_device(b, "cpu"))] == [Pair, Pair]


def test_a_nested_batch_goes_to_the_device_whole():
    moved = to_device({"x": [torch.zeros(2), (torch.zeros(1), 3)]}, "meta")
    assert moved["x"][0].is_meta and moved["x"][1][0].is_meta and moved["x"][1][1] == 3


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error(loss):
    with pytest.raises(NumericsError, match=f"the loss is {loss}"):
        check_loss(torch.tensor(loss), "here")


def test_a_sampler_that_draws_a_part_of_the_data_keeps_its_own_order():
    data = numbers(20)
    loader = DataLoader(data, batch_size=5, sampler=RandomSampler(data, num_samples=10))
    task = Task(train=loader, test=loader)
    assert task.epoch_steps() == 2
    assert sum(len(x) for x, _ in task.batches("train")) == 10
