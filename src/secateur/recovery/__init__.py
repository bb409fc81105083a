"""How is it healed? Training again, a teacher, statistics measured anew."""

from .attention import SpatialAttention
from .batchnorm import RecalibrateBN, recalibrate_bn_
from .distill import Distill
from .finetune import FineTune, lr_at, optimizer_for
from .group_sparsity import GroupSparsity
from .inner_distill import InnerDistill
from .next_layer import NextLayer
from .obs import ObsUpdate
from .rescale import RescaleKept
from .scale_sparsity import ScaleSparsity

__all__ = [
    "Distill",
    "FineTune",
    "GroupSparsity",
    "InnerDistill",
    "NextLayer",
    "ObsUpdate",
    "RecalibrateBN",
    "RescaleKept",
    "ScaleSparsity",
    "SpatialAttention",
    "lr_at",
    "optimizer_for",
    "recalibrate_bn_",
]
