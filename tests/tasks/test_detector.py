"""The detector: what its best box is, and that pictures without boxes can train it."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.tasks.detector import BestBox, FastestDet, best_scores, picture_loss

seeds = st.integers(0, 2**16)


def maps(seed, batch=2, classes=3):
    x = torch.rand(batch, 5 + classes, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([x[:, :5], x[:, 5:].softmax(1)], 1)


@given(seeds)
def test_the_best_score_of_a_class_equals_loops_over_places(seed):
    p = maps(seed)
    for b in range(2):
        for c in range(3):
            slow = max(float(p[b, 0, i, j]) ** 0.6 * float(p[b, 5 + c, i, j]) ** 0.4 for i in (0, 1) for j in (0, 1))
            torch.testing.assert_close(float(best_scores(p)[b, c]), slow, rtol=1e-4, atol=1e-6)


@given(seeds)
def test_the_metric_counts_pictures_whose_best_box_is_right(seed):
    p = maps(seed, batch=4)
    metric = BestBox(least=0.0)
    metric.update(p[:2], best_scores(p[:2]).argmax(1))
    metric.update(p[2:], (best_scores(p[2:]).argmax(1) + 1) % 3)
    assert metric.compute() == 0.5
    metric.reset()
    assert metric.compute() == 0.0


def test_a_box_that_scores_too_little_is_none():
    p = torch.full((1, 8, 2, 2), 1e-3)
    metric = BestBox()
    metric.update(p, torch.tensor([0]))
    assert metric.compute() == 0.0


def test_the_loss_falls_where_the_right_class_grows():
    p, q = maps(0, batch=1), maps(0, batch=1)
    q[:, 5] = 1.0
    label = torch.tensor([0])
    assert picture_loss(q, label) < picture_loss(p, label)


def test_three_strides_meet_in_one_map():
    model = FastestDet(4, (1, 1, 1)).eval()
    assert model(torch.rand(1, 3, 64, 96)).shape == (1, 9, 4, 6)
