"""A model that runs part by part hears what the whole model hears, and what a pruned prefix gives."""

import pytest
import torch
from families import FAMILIES, batches_of, model_of

from secateur.calibration import collect
from secateur.calibration.chain import layout_of
from secateur.calibration.stream import Stream, parts_of
from secateur.core import InputGram, InputNorm, Task, first_call
from secateur.structures import Weights

NEEDS = (InputNorm(), InputGram())


def streamed(model, batches, propagation, act, folder=None):
    layout = layout_of(model, lambda m: first_call(m, batches[0]))
    space = Weights().find(model)
    heard, order = {}, []

    def each(part, evidence, _):
        order.append(part.name)
        heard.update(evidence)
        act(part)

    Stream(model, layout, first_call, batches, folder).run(parts_of(space, layout), NEEDS, each, propagation)
    return space, heard, order


@pytest.mark.parametrize("name", FAMILIES)
def test_a_dense_stream_hears_what_one_pass_hears(name):
    model, batches = model_of(name), batches_of(name)
    space, heard, _ = streamed(model, batches, "dense", lambda part: None)
    whole = collect(model, space, NEEDS, Task(train=batches, test=batches), batches)
    assert heard.keys() == whole.keys()
    for key, value in whole.items():
        torch.testing.assert_close(heard[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_part_hears_what_the_pruned_parts_before_it_give(name):
    batches = batches_of(name)

    def halve_(part):
        with torch.no_grad():
            for group in part.space:
                group.site.tensor.mul_(0.5)

    model = model_of(name)
    _, heard, order = streamed(model, batches, "pruned", halve_)
    # by hand: parts in order, each time the whole model with all parts before this one already halved
    twin = model_of(name)
    twin_space = Weights().find(twin)
    layout = layout_of(twin, lambda m: first_call(m, batches[0]))
    for part in parts_of(twin_space, layout):
        found = collect(twin, part.space, NEEDS, Task(train=batches, test=batches), batches)
        for key, value in found.items():
            torch.testing.assert_close(heard[key], value, rtol=1e-4, atol=1e-6)
        halve_(part)
    assert len(order) > 2
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))
