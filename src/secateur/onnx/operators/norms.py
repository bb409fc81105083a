"""Normalisations."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.core import SubjectError

from .table import operator


@operator("BatchNormalization", since=7)
def batch_norm(at: Any, x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    """By running statistics, which are constants of the graph."""
    if at.get("training_mode", 0) or at.wanted > 1:
        raise SubjectError(
            "a batch norm that learns its statistics",
            where=f"node {at.title}",
            mend="export the model in eval mode",
        )
    same = all(t.dtype == x.dtype for t in (weight, bias, running_mean, running_var))
    if not same:
        weight, bias, running_mean, running_var = (t.to(x.dtype) for t in (weight, bias, running_mean, running_var))
    return F.batch_norm(x, running_mean.detach(), running_var.detach(), weight, bias, False, 0.0, at.epsilon)


@operator("InstanceNormalization", since=6)
def instance_norm(at: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each channel of each sample by itself."""
    return F.instance_norm(x, None, None, weight, bias, use_input_stats=True, eps=at.epsilon)


@operator("LayerNormalization", since=17)
def layer_norm(at: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Over the dimensions from the axis on; mean and 1 / deviation are given too where they are wanted."""
    axis = at.axis % x.dim()
    shape = x.shape[axis:]
    if at.wanted == 1 and weight.shape == shape and (bias is None or bias.shape == shape) and weight.dtype == x.dtype:
        return F.layer_norm(x, list(shape), weight, bias, at.epsilon)
    over = list(range(axis, x.dim()))
    exact = x.float() if at.get("stash_type", 1) == 1 and x.dtype != torch.float64 else x
    mean = exact.mean(over, keepdim=True)
    inverse = torch.rsqrt(((exact - mean) ** 2).mean(over, keepdim=True) + at.epsilon)
    made = ((exact - mean) * inverse).to(x.dtype) * weight
    made = made if bias is None else made + bias
    return (made, mean, inverse)[: at.wanted] if at.wanted > 1 else made


@operator("SimplifiedLayerNormalization")
@operator("RMSNormalization", since=23)
def rms_norm(at: Any, x: Tensor, weight: Tensor) -> Tensor:
    """By the root mean square over the dimensions from the axis on."""
    shape = x.shape[at.axis % x.dim() :]
    epsilon = at.get("epsilon", 1e-5)
    if weight.shape == shape and weight.dtype == x.dtype:
        return F.rms_norm(x, list(shape), weight, epsilon)
    return F.rms_norm(x, list(shape), None, epsilon) * weight


@operator("GroupNormalization", since=18)
def group_norm_by_group(at: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """With one scale for each group."""
    each = x.shape[1] // at.num_groups
    weight, bias = (t.repeat_interleave(each) for t in (weight, bias))
    return F.group_norm(x, at.num_groups, weight, bias, at.epsilon)


@operator("GroupNormalization", since=21)
def group_norm(at: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """With one scale for each channel."""
    return F.group_norm(x, at.num_groups, weight, bias, at.epsilon)


@operator("LRN")
def local_response(at: Any, x: Tensor) -> Tensor:
    """Each channel by its neighbours."""
    before = (at.size - 1) // 2
    square = (x * x).unsqueeze(1).flatten(3) if x.dim() > 3 else (x * x).unsqueeze(1)
    pads = [0, 0] * (square.dim() - 3) + [before, at.size - 1 - before]
    summed = F.pad(square, pads).unfold(2, at.size, 1).sum(-1).reshape(x.shape)
    return x / (at.bias + at.alpha / at.size * summed) ** at.beta
