r"""Norms that do nothing but divide: their weights go into the layers that read them, exactly.

    W (g * x / |x| + beta) + b  =  (W diag(g)) x / |x| + (b + W beta)

A layer norm subtracts the mean of its input, which is linear: what writes the stream is centred instead, so that the
stream has no mean, and a layer norm is an RMS norm (Ashkboos et al., "SliceGPT", ICLR 2024, section 3.1). Then any
rotation of the stream leaves the function as it is. All products are taken in float64.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secateur.core import AddBias, Plan, Slim, Untie
from secateur.graph import NormForm, PreNorm, SumBlock

from .linear_maps import add_to_bias_, put_weight_, weight_of


@torch.no_grad()
def fuse_norms_(model: nn.Module, form: PreNorm) -> Plan:
    """Fuse all norms of a stream into their readers; heads that are embeddings become tensors of their own.

    Args:
        form: of this model, as `prenorm_of` gives it.
    """
    plan = untie_(model, form)
    for block in form.blocks:
        plan += fuse_block_(model, block, form.forms, form.width)
    plan += _fuse_(model, form.norm, form.heads, form.forms[form.norm], form.width)
    if form.forms[form.norm].centred:
        for path in form.entries:
            center_(model.get_submodule(path))
    return plan


@torch.no_grad()
def untie_(model: nn.Module, form: PreNorm) -> Plan:
    """Give heads that share their weight with an embedding one of their own."""
    entries = {id(model.get_submodule(path).weight) for path in form.entries}
    done = []
    for path in form.heads:
        if id(model.get_submodule(path).weight) in entries:
            done.append(Untie(f"{path}.weight"))
            done[-1].replay_(model)
    return Plan(tuple(done))


@torch.no_grad()
def fuse_block_(model: nn.Module, block: SumBlock, forms: Mapping[str, NormForm], width: int) -> Plan:
    """Fuse the norms of one block, and centre what writes the stream there if they subtract the mean.

    Args:
        model: in which the block's paths are found.
        forms: of the norms, by path.
    """
    plan = Plan()
    for step in block.steps:
        for norm, readers in step.readers.items():
            form = forms[norm]
            plan += _fuse_(model, norm, readers, form, width)
            if form.centred:
                for path in step.writers:
                    center_(model.get_submodule(path))
    return plan


def _fuse_(model: nn.Module, norm: str, readers: tuple[str, ...], form: NormForm, width: int) -> Plan:
    done: list[AddBias | Slim] = []
    for path in readers:
        reader = model.get_submodule(path)
        W = weight_of(reader)
        if form.shift is not None and add_to_bias_(reader, W @ form.shift.to(W.device)):
            done.append(AddBias(f"{path}.bias"))
        put_weight_(reader, W * form.scale.to(W.device))
    done.append(Slim(norm, width, form.eps))
    done[-1].replay_(model)
    return Plan(tuple(done))


def center_(module: nn.Module) -> None:
    """Subtract from all that a layer or a table gives its mean over the dimensions; twice is once."""
    W = weight_of(module)
    put_weight_(module, W - W.mean(0))
    bias: Tensor | None = getattr(module, "bias", None)
    if bias is not None:
        mean = bias.detach().double().mean()
        add_to_bias_(module, -mean.expand(len(W)))
