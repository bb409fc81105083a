"""Claim: one call prunes any architecture before training, and every cut is proven on the model itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import secateur as sc
from secateur.core import SecateurError, require
from secateur.tasks.models import WordLSTM, resnet20

from .claim import claim
from .verdict import within

Subject = tuple[nn.Module, Any]


def _resnet() -> Subject:
    return resnet20(), torch.randn(2, 3, 32, 32)


def _lstm() -> Subject:
    return WordLSTM(1000, 64), torch.randint(1000, (2, 12))


def _vit() -> Subject:
    """ViT-tiny: 12 layers, 192 features, 3 heads."""
    require("transformers", extra="claims", where="ViT-tiny")
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=32, patch_size=4
    )
    return ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def _llama() -> Subject:
    """About the size of Llama-15M: 6 layers, 288 features, 6 heads, 32,000 words."""
    require("transformers", extra="claims", where="Llama-15M")
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=288, num_hidden_layers=6, num_attention_heads=6, intermediate_size=768, vocab_size=32000
    )
    return LlamaForCausalLM(config), {"input_ids": torch.randint(32000, (2, 12))}


SUBJECTS: dict[str, Callable[[], Subject]] = {"resnet20": _resnet, "vit": _vit, "llama": _llama, "lstm": _lstm}


@claim(
    "spa",
    against="all",
    exact=True,
    expect=within("models", by=0.5),
    differs="ResNet-20, ViT-tiny, a Llama of 15 M parameters and an LSTM language model, all untrained; proven on two "
    "inputs each: the smaller model gives what the larger gives when removed units are read as zeros",
    finding="The first run cut three of four: the head dimensions of ViT's queries and of its values share one size, "
    "which the engine did not see while it tried as many of each. It does now, and they stay.",
)
def any_architecture(seed: int, method: str) -> dict[str, float]:
    """The same call removes 30 % of the units of four architectures before training, and every cut is proven."""
    if method == "all":
        return {"models": len(SUBJECTS)}
    torch.manual_seed(seed)
    return {"models": sum(_proven(make) for make in SUBJECTS.values())}


def _proven(make: Callable[[], Subject]) -> bool:
    model, example = make()
    before = sum(p.numel() for p in model.parameters())
    try:
        sc.prune(model.eval(), "spa", sparsity=0.3, example=example)  # a cut that is not proven is an error
    except SecateurError:
        return False
    return sum(p.numel() for p in model.parameters()) < before
