"""Overlap of keeps, against sets and against draws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.analysis import overlaps
from secateur.core import Keep, SubjectError

masks = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(masks)
def test_the_overlap_is_that_of_sets(pairs):
    first, second = (torch.tensor([p[i] for p in pairs]) for i in (0, 1))
    a, b = ({i for i, kept in enumerate(m.tolist()) if kept} for m in (first, second))
    expected = len(a & b) / len(a | b) if a | b else 1.0
    assert overlaps(Keep({"g": first}), Keep({"g": second}))["g"].iou == pytest.approx(expected)


def test_chance_is_what_random_keeps_have_on_average():
    g = torch.Generator().manual_seed(0)
    draws = [
        overlaps(Keep({"g": torch.rand(500, generator=g) < 0.3}), Keep({"g": torch.rand(500, generator=g) < 0.6}))["g"]
        for _ in range(200)
    ]
    measured = sum(d.iou for d in draws) / len(draws)
    assert measured == pytest.approx(0.18 / 0.72, abs=0.01)
    assert sum(d.chance for d in draws) / len(draws) == pytest.approx(measured, abs=0.01)


def test_keeps_of_different_spaces_are_refused():
    with pytest.raises(SubjectError, match="different spaces"):
        overlaps(Keep({"g": torch.ones(3, dtype=torch.bool)}), Keep({"h": torch.ones(3, dtype=torch.bool)}))
