"""Models of torchvision: all that classify, segment, detect, or see videos."""

import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from structured_cases import Case, torchvision

_FIXED = {"maxvit_t": 224, "inception_v3": 96, "alexnet": 96}
_VIT_14 = 56


def torchvision_cases() -> Iterator[Case]:
    """Each with two small pictures; detection gets a list of them."""
    models = torchvision()
    for name in models.list_models(module=models):
        more: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            more = {"aux_logits": False, "init_weights": False}
        size = _FIXED.get(name, _VIT_14 if name == "vit_h_14" else 64)
        if name.startswith("vit"):
            more = {"image_size": size}
        yield Case("torchvision", name, _maker(models, name, **more), _floats(2, 3, size, size))
    for name in models.list_models(module=models.segmentation):
        yield Case("torchvision", name, _maker(models, name, weights_backbone=None), _floats(2, 3, 64, 64))
    for name in models.list_models(module=models.detection):
        few = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 96}
        if "rcnn" in name:
            few |= {"box_detections_per_img": 5, "rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 10}
        else:
            few |= {"detections_per_img": 5, "topk_candidates": 20}
        build = _maker(models, name, weights_backbone=None, num_classes=7, **few)
        yield Case("torchvision", name, build, lambda: ([torch.rand(3, 96, 96), torch.rand(3, 96, 96)],))
    for name in models.list_models(module=models.video):
        shape = (1, 3, 16, 224, 224) if name == "s3d" else (2, 3, 4, 64, 64)
        build = functools.partial(_mvit, models, name) if name.startswith("mvit") else _maker(models, name)
        yield Case("torchvision", name, build, _floats(*shape))


def _maker(models: Any, name: str, **more: Any) -> Callable[[], nn.Module]:
    return lambda: models.get_model(name, weights=None, **more)


def _mvit(models: Any, name: str) -> nn.Module:
    """Its functions fix the size of the video, which would take minutes."""
    whole = models.video.mvit._mvit
    small = {"spatial_size": (64, 64), "temporal_size": 4}
    with mock.patch.object(models.video.mvit, "_mvit", lambda **given: whole(**given | small)):
        made: nn.Module = models.get_model(name, weights=None)
    return made


def _floats(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(*shape),)
