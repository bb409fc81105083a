"""How is it healed? Training again, a teacher, statistics measured anew."""

from .batchnorm import RecalibrateBN, recalibrate_bn_
from .distill import Distill
from .finetune import FineTune, lr_at, optimizer_for

__all__ = ["Distill", "FineTune", "RecalibrateBN", "lr_at", "optimizer_for", "recalibrate_bn_"]
