"""How is it healed? Training again, a teacher, statistics measured anew; or not at all, but trained from scratch."""

from .attention import SpatialAttention
from .batchnorm import RecalibrateBN, recalibrate_bn_
from .bias import BiasCompensation
from .distill import Distill
from .finetune import FineTune, lr_at, optimizer_for
from .fresh import cut_alike, reset_
from .group_sparsity import GroupSparsity
from .inner_distill import InnerDistill
from .moving_average import MovingAverage
from .next_layer import NextLayer
from .obs import ObsUpdate
from .parameter_efficient import ParameterEfficient
from .reconstruct import Reconstruct
from .rescale import RescaleKept
from .scale_sparsity import ScaleSparsity
from .scratch import Scratch, ScratchB, ScratchE, stretched

__all__ = [
    "BiasCompensation",
    "Distill",
    "FineTune",
    "GroupSparsity",
    "InnerDistill",
    "MovingAverage",
    "NextLayer",
    "ObsUpdate",
    "ParameterEfficient",
    "RecalibrateBN",
    "Reconstruct",
    "RescaleKept",
    "ScaleSparsity",
    "Scratch",
    "ScratchB",
    "ScratchE",
    "SpatialAttention",
    "cut_alike",
    "lr_at",
    "optimizer_for",
    "recalibrate_bn_",
    "reset_",
    "stretched",
]
