"""Maps of attention: against the formula, in their limits, and what the teacher asks for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import RecipeError, SubjectError
from secateur.recovery import FineTune, SpatialAttention
from secateur.recovery.attention import attention, attention_loss
from secateur.structures import Channels

seeds, sizes = st.integers(0, 2**16), st.integers(1, 4)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(sizes, sizes, sizes, seeds)
def test_a_map_equals_the_formula_written_as_loops(batch, channels, side, seed):
    x, found = drawn(batch, channels, side, side, seed=seed), []
    for b in range(batch):
        places = [(i, j) for i in range(side) for j in range(side)]
        energy = [sum(float(x[b, c, i, j]) ** 2 for c in range(channels)) / channels for i, j in places]
        length = sum(e**2 for e in energy) ** 0.5
        found.append([e / length for e in energy])
    torch.testing.assert_close(attention(x), torch.tensor(found), rtol=1e-4, atol=1e-6)


@given(sizes, sizes, seeds, st.floats(0.1, 10))
def test_the_loss_lies_between_zero_and_two_and_sees_neither_scale_nor_channels(kept, dense, seed, scale):
    student, teacher = drawn(2, kept, 3, 3, seed=seed), drawn(2, dense, 3, 3, seed=seed + 1)
    loss = attention_loss(student, teacher)
    assert -1e-6 <= loss <= 2 + 1e-6
    torch.testing.assert_close(attention_loss(scale * student, teacher.repeat(1, 2, 1, 1)), loss, rtol=1e-4, atol=1e-5)


def test_maps_that_look_at_different_places_are_two_apart_and_equal_ones_nothing():
    left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
    assert attention_loss(left, right) == 2 and attention_loss(left, left) == 0


def test_a_map_of_zeros_looks_nowhere_and_stays_finite():
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    attention_loss(x, drawn(1, 2, 3, 3)).backward()
    assert torch.isfinite(x.grad).all() and not attention(x).any()


class Net(nn.Module):
    """Two sizes of map, two blocks of each."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(i, o, 3, s, 1) for i, o, s in ((1, 4, 1), (4, 4, 1), (4, 6, 2), (6, 6, 1)))
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def net():
    torch.manual_seed(0)
    return Net()


def task():
    batches = [(drawn(4, 1, 6, 6, seed=i), torch.arange(4) % 3) for i in range(2)]
    return sc.Task(train=batches, test=batches, training=sc.Training(epochs=1, lr=1e-2))


def begun(model, **settings):
    return SpatialAttention(**settings).begin(model, task())


def stepped(healing, model, value=2.0):
    model.train()
    batch = task().train[0]
    return healing.loss(torch.tensor(value), model(batch[0]), batch).detach()


def test_the_last_block_of_each_size_is_compared():
    assert begun(net())._names == ["body.1", "body.3"]


def test_the_term_begins_as_its_share_of_the_loss_and_keeps_its_weight():
    model = net()
    healing = begun(model, share=0.1)
    with torch.no_grad():
        model.body[1].weight.mul_(torch.rand_like(model.body[1].weight))
    assert float(stepped(healing, model)) == pytest.approx(2.2)
    assert float(stepped(healing, model, 4.0)) == pytest.approx(4.2)


def test_it_waits_until_the_two_differ_and_for_its_epochs():
    model = net()
    healing = begun(model, after=0.5)  # of two steps
    assert float(stepped(healing, model)) == 2.0
    healing.after_step_()
    assert float(stepped(healing, model)) == 2.0  # they are still the same
    with torch.no_grad():
        model.body[3].weight.neg_().add_(0.3)
    assert float(stepped(healing, model)) == pytest.approx(2.2)


def test_what_it_knows_goes_into_the_state_and_back():
    model = net()
    first, second = begun(model), begun(model)
    with torch.no_grad():
        model.body[1].weight.mul_(torch.rand_like(model.body[1].weight))
    stepped(first, model)
    second.restore(first.state())
    assert float(stepped(second, model, 4.0)) == pytest.approx(4.2)


def test_another_stride_is_refused():
    model = net()
    healing = begun(model)
    model.body[2].stride = (1, 1)
    with pytest.raises(SubjectError, match=r"body\.3.*(?s:.)*strides stay"):
        stepped(healing, model)


def test_modules_without_places_are_refused():
    with pytest.raises(RecipeError, match="feature maps"):
        begun(net(), scales=("head",))


def test_a_share_below_nothing_is_refused():
    with pytest.raises(RecipeError, match="share is -1"):
        SpatialAttention(-1)


def test_it_teaches_over_a_cut_and_leaves_no_hook():
    recipe = sc.Recipe(
        structure=Channels(), score=sc.scores.Random(), recovery=(FineTune(epochs=2), SpatialAttention(0.5))
    )
    model = net()
    result = sc.prune(model, recipe, sparsity=0.5, task=task(), device="cpu")
    assert not any(m._forward_hooks for m in result.subject.modules())
    assert result.subject.body[3].out_channels == 3
