"""Tiny subsets of a model's parameters: biases, norms, the head, and the matrices that adapters can be put on."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from secateur.core import RecipeError, SubjectError, masks_of, nearest
from secateur.core.adapter import KEPT_A, is_transposed

Subset = Literal["biases", "norm", "lora", "head"]
SUBSETS: tuple[Subset, ...] = ("biases", "norm", "lora", "head")
_NORM = re.compile(r"(Layer|RMS|Batch|Group|Instance)_?Norm", re.IGNORECASE)
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


@dataclass
class Chosen:
    """What is trained.

    Attributes:
        whole: parameters that are trained themselves, by name.
        adapted: names of the linear layers that get adapters.
        missing: by subset, why it is empty.
    """

    whole: dict[str, nn.Parameter] = field(default_factory=dict)
    adapted: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def chosen(
    model: nn.Module, subsets: tuple[Subset, ...], targets: tuple[str, ...] = (), headless: bool = False
) -> Chosen:
    """What the subsets are in a model. Adapters go on masked linear layers, on all where nothing is masked.

    Args:
        targets: shell patterns on names of linear layers or their last parts, instead.
        headless: whether it is a block, whose last layer is as good as any.

    Raises:
        RecipeError: every subset is empty, or a target fits no linear layer.
        SubjectError: the weight of a layer to adapt is quantised, or computed from other tensors.
    """
    found = Chosen()
    head, why_no_head = (None, "a block has none") if headless else head_of(model)
    whole_head = head is not None and not is_language_model(model)
    if "biases" in subsets:
        _add(found, "biases", biases_of(model), f"{type(model).__name__} has no biases")
    if "norm" in subsets:
        _add(found, "norm", norms_of(model), f"{type(model).__name__} has no norms with parameters")
    if "head" in subsets:
        if head is None:
            found.missing["head"] = why_no_head
        elif whole_head:
            own = model.get_submodule(head).named_parameters(prefix=head, recurse=False)
            _add(found, "head", {n: p for n, p in own if p.is_floating_point()}, f"{head} has no parameters of floats")
        else:
            found.adapted.append(head)
    if "lora" in subsets:
        taken = {*found.adapted, *([head] if whole_head and "head" in subsets else [])}
        names = [n for n in _to_adapt(model, head, targets) if n not in taken]
        tied = [n for n in names if others_of(model, f"{n}.weight" if n else "weight")]
        if tied and targets:
            other = others_of(model, f"{tied[0]}.weight")[0]
            raise RecipeError(
                f"the weight of {tied[0]} is also {other}, so merging would change both",
                where=f"targets={targets}",
                mend="leave it out of the targets",
            )
        found.adapted += [n for n in names if n not in tied]
        if len(tied) == len(names):
            tail = f" but tied ones ({', '.join(tied[:3])})" if tied else ""
            found.missing["lora"] = f"{type(model).__name__} has no linear layer to adapt beside the head{tail}"
    for name in found.adapted:
        _check_plain(model.get_submodule(name), name)
    if not found.whole and not found.adapted:
        others = [s for s in SUBSETS if s not in subsets]
        raise RecipeError(
            f"there is nothing to train: {'; '.join(f'{s}: {why}' for s, why in found.missing.items())}",
            where=f"subsets={subsets}",
            mend=f"add one of {', '.join(others)}" if others else "give a model that has one of these",
        )
    return found


def _add(found: Chosen, subset: str, parameters: Mapping[str, nn.Parameter], otherwise: str) -> None:
    if parameters:
        found.whole |= parameters
    else:
        found.missing[subset] = otherwise


def biases_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every bias, those of norms too: `bias`, and what recurrent layers and attentions call `bias_*` and `*_bias`."""

    def is_bias(leaf: str) -> bool:
        return leaf == "bias" or leaf.startswith("bias_") or leaf.endswith("_bias")

    return {
        n: p
        for n, p in model.named_parameters()
        if p.dim() == 1 and p.is_floating_point() and is_bias(n.rpartition(".")[2])
    }


def norms_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Scales and shifts of norms: those of torch, and classes of any library that are called so (`LlamaRMSNorm`)."""
    found: dict[str, nn.Parameter] = {}
    for path, module in model.named_modules():
        if isinstance(module, _NORMS) or _NORM.search(type(module).__name__):
            own = module.named_parameters(prefix=path, recurse=False)
            found |= {n: p for n, p in own if p.is_floating_point()}
    return found


def is_language_model(model: nn.Module) -> bool:
    """Whether the head gives tokens: a model of transformers with output embeddings."""
    return _output_embeddings(model) is not None


def _output_embeddings(model: nn.Module) -> nn.Module | None:
    ask = getattr(model, "get_output_embeddings", None)
    try:
        found = ask() if callable(ask) else None
    except (AttributeError, NotImplementedError):  # of a class that has none
        return None
    return found if isinstance(found, nn.Module) else None


def head_of(model: nn.Module) -> tuple[str | None, str]:
    """The name of the head, or None and why: the output embeddings, else the last layer if that is linear."""
    asked = _output_embeddings(model)
    with_parameters = [
        (n, m) for n, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None or m is asked
    ]
    if asked is None and with_parameters:
        name, last = with_parameters[-1]
    else:
        name, last = next(((n, m) for n, m in with_parameters if m is asked), ("", None))
    if last is None or not is_linear(last):
        return None, f"the last layer of {type(model).__name__} is not linear"
    other = others_of(model, f"{name}.weight" if name else "weight")
    if other:
        return None, f"the weight of {name} is also {other[0]}"
    return name, ""


def is_linear(module: nn.Module) -> bool:
    """Whether a layer is a product with a matrix, in torch or as `Conv1D` of transformers, quantised or not."""
    return isinstance(module, nn.Linear) or is_transposed(module) or "Linear" in type(module).__name__


def others_of(model: nn.Module, name: str) -> list[str]:
    """The other names of a parameter, where other modules hold it too."""
    every = list(model.named_parameters(remove_duplicate=False))
    mine = next((p for n, p in every if n == name), None)
    owners = Counter({(id(m), leaf) for m in model.modules() for leaf, p in m._parameters.items() if p is mine})
    return [n for n, p in every if p is mine and n != name] if mine is not None and len(owners) > 1 else []


def _to_adapt(model: nn.Module, head: str | None, targets: tuple[str, ...]) -> list[str]:
    inside = {f"{n}.out_proj" if n else "out_proj" for n, m in model.named_modules() if _reads_out_proj(m)}
    linear = [n for n, m in model.named_modules() if is_linear(m) and hasattr(m, "weight") and n not in inside]
    if not targets:
        masks = masks_of(model)
        masked = [n for n in linear if (f"{n}.weight" if n else "weight") in masks]
        return [n for n in (masked if masks else linear) if n != head]
    for pattern in targets:
        if not any(_fits(n, pattern) for n in linear):
            parts = {n.rpartition(".")[2] for n in linear}
            raise RecipeError(
                f"the target {pattern!r} fits no linear layer",
                where=f"targets={targets}",
                mend=nearest(pattern, parts) if parts else f"{type(model).__name__} has no linear layer",
            )
    return [n for n in linear if any(_fits(n, p) for p in targets)]


def _reads_out_proj(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention)  # whose forward never calls the layer, but reads its weight


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[2], pattern)


def _check_plain(layer: nn.Module, name: str) -> None:
    """Raise `SubjectError` unless a layer's weight is a matrix of floats that can be changed in place."""
    weight = layer._parameters.get("weight")
    if KEPT_A in layer._parameters:
        what, mend = "it has an adapter beside its weight already", "merge it first: secateur.core.merge_kept_(model)"
        raise SubjectError(what, where=f"layer {name!r}", mend=mend)
    if weight is None and hasattr(layer, "weight_orig"):
        raise SubjectError(
            "its weight is computed at each pass by torch.nn.utils.prune",
            where=f"layer {name!r}",
            mend="turn such masks into ours first: secateur.core.adopt_torch_masks_(model)",
        )
    if weight is None or not weight.is_floating_point() or weight.dim() != 2:
        kind = "computed from other tensors" if weight is None else f"{weight.dtype} of {weight.dim()} dimensions"
        raise SubjectError(
            f"its weight is {kind}, and an adapter could not be merged into it",
            where=f"layer {name!r}, a {type(layer).__name__}",
            mend="give the model before quantisation, or leave the layer out: targets=(...)",
        )
