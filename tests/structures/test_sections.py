"""Sections: the kind of repeated module and the stride, for residual networks, detectors and networks without maps."""

import torch
from torch import nn

from secateur.structures import Channels
from secateur.structures.sections import repeated_class
from secateur.tasks.detector import FastestDet
from secateur.tasks.models import CifarResNet


def sections(model, x):
    return {g.name: g.section for g in Channels().find(model, x)}


def test_stages_of_a_resnet_are_its_sections_and_a_stream_goes_with_its_blocks():
    found = sections(CifarResNet(20, 4), torch.randn(2, 3, 32, 32))
    for stage, stride in ((1, 1), (2, 2), (3, 4)):
        assert {found[f"layer{stage}.{block}.conv1"] for block in range(3)} == {f"_Block, stride {stride}"}
    assert found["conv1"] == "_Block, stride 1"


def test_a_detector_has_sections_for_its_trunk_by_stride_and_for_the_rest():
    found = sections(FastestDet(3, (2, 2, 2)), torch.rand(2, 3, 96, 96))
    assert found["stem.0"] == "stride 2" and found["merge.0"] == "stride 16"
    assert {found[f"stage{i}.1.main.0"] for i in (2, 3, 4)} == {f"ShuffleUnit, stride {s}" for s in (8, 16, 32)}


def test_without_maps_there_is_no_stride_and_without_repetition_no_class():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)) for _ in range(2))
            self.single = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.single(x)

    found = sections(Twice(), torch.randn(2, 4))
    assert found["blocks.0.0"] == "Sequential" and found["single.0"] == ""


def test_the_innermost_repeated_module_counts_and_leaves_never_do():
    inner = [nn.Sequential(nn.ReLU()) for _ in range(2)]
    model = nn.Sequential(nn.Sequential(*inner), nn.Sequential(nn.ReLU()))
    modules = dict(model.named_modules())
    assert repeated_class(modules, "0.1.0") == "Sequential"
    assert repeated_class(dict(nn.Sequential(nn.ReLU(), nn.ReLU()).named_modules()), "0") == ""
