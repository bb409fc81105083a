"""The models of `structured.py`: what to build, what to show it, and what a pruner must leave alone."""

import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
_ABOVE_150_MILLION = ("convnext_large", "regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32")


@dataclass(frozen=True)
class Case:
    """A model and an example.

    Attributes:
        build: makes the model, with random weights.
        example: its arguments by position, or by name.
        classes: how many outputs the layer has that stays whole.
    """

    zoo: str
    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], tuple[Tensor, ...] | dict[str, Tensor]]
    classes: int = 1000

    def call(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> Callable[[Any], Any]:
        """Runs a model on the example."""
        torch.manual_seed(seed)
        given = self.example()
        if isinstance(given, dict):
            return lambda model: model(**{k: v.to(dtype) if v.is_floating_point() else v for k, v in given.items()})
        return lambda model: model(*(v.to(dtype) if v.is_floating_point() else v for v in given))

    def model(self) -> nn.Module:
        """In eval mode, with biases and statistics that are not all alike, so that a wrong index shows."""
        torch.manual_seed(0)
        made = self.build().eval()
        with torch.no_grad():
            for tensor in made.parameters():
                if tensor.dim() == 1:
                    tensor.add_(torch.rand_like(tensor) * 0.2 - 0.1)
                elif tensor.numel() and not (tensor != tensor.flatten()[0]).any():
                    tensor.normal_(0, 0.05)  # a last layer of zeros would hide everything
            for name, tensor in made.named_buffers():
                if name.endswith("running_mean"):
                    tensor.normal_(0, 0.1)
                elif name.endswith("running_var"):
                    tensor.uniform_(0.75, 1.25)
        return made


_LIBRARIES: list[torch.library.Library] = []
"""Operators that are declared here: they live as long as these."""


def declare_operators() -> None:
    """Declare what torchvision's compiled code would bring, if that does not load; before anybody imports it."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or "torchvision" in sys.modules:
        return
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:  # it is built for a torch with CUDA
        library = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl("nms", _suppressed, "CPU")
        _LIBRARIES.append(library)


def torchvision() -> types.ModuleType:
    """Its models; where its compiled code does not load, `nms` is a function in Python."""
    declare_operators()
    import torchvision.models as models
    import torchvision.ops.boxes as boxes

    if _LIBRARIES:
        boxes._assert_has_ops = lambda: None
    return models


def _suppressed(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: the boxes that overlap no better one too much, best first."""
    from torchvision.ops.boxes import box_iou

    kept: list[int] = []
    overlap = box_iou(boxes, boxes)
    for i in scores.argsort(descending=True, stable=True).tolist():
        if not kept or float(overlap[i, kept].max()) <= iou_threshold:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def torchvision_cases() -> Iterator[Case]:
    """Every classification model of at most 150 million parameters."""
    models = torchvision()
    for name in models.list_models(module=models):
        if name in _ABOVE_150_MILLION:
            continue
        aux = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        fixed = name.startswith(("vit", "swin", "maxvit", "alexnet", "vgg"))
        size = 224 if fixed else 299 if name == "inception_v3" else 128
        yield Case("torchvision", name, lambda n=name, k=aux: models.get_model(n, weights=None, **k), images(size))


_TIMM = {
    "eca_vovnet39b": 128,
    "mobilevitv2_050": 256,
    "swin_tiny_patch4_window7_224": 224,
    "maxvit_rmlp_pico_rw_256": 256,
    "vit_tiny_patch16_224": 224,
    "resnet26t": 128,
    "convnext_atto": 128,
    "efficientnet_b0": 128,
}


def timm_cases() -> Iterator[Case]:
    """A few of timm, among them those on which graph walks are slow."""
    declare_operators()
    import timm

    for name, size in _TIMM.items():
        yield Case("timm", name, lambda n=name: timm.create_model(n), images(size))


def transformers_cases() -> Iterator[Case]:
    """Small language models, from configurations."""
    declare_operators()
    import transformers as hf

    small = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {**small, "intermediate_size": 128}
    gqa = hf.LlamaConfig(**wide, num_key_value_heads=2)
    yield Case("transformers", "llama_gqa2", lambda: hf.LlamaForCausalLM(gqa), tokens(97), 97)
    gpt2 = hf.GPT2Config(vocab_size=97, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1)
    yield Case("transformers", "gpt2", lambda: hf.GPT2LMHeadModel(gpt2), tokens(97), 97)
    bert = hf.BertConfig(**wide)
    yield Case("transformers", "bert", lambda: hf.BertForSequenceClassification(bert), tokens(97), 2)


def llama_1b() -> nn.Module:
    """1.24 billion parameters on the meta device: shapes without memory."""
    declare_operators()
    import transformers as hf

    sizes = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = hf.LlamaConfig(**sizes, intermediate_size=8192, vocab_size=128256, tie_word_embeddings=True)
    with torch.device("meta"):
        return hf.LlamaForCausalLM(config).eval()


def images(size: int, count: int = 1) -> Callable[[], tuple[Tensor, ...]]:
    """So many images."""
    return lambda: (torch.randn(count, 3, size, size),)


def tokens(vocabulary: int, length: int = 12) -> Callable[[], dict[str, Tensor]]:
    """One sequence."""
    return lambda: {"input_ids": torch.randint(3, vocabulary, (1, length))}


def cases() -> dict[str, Case]:
    """All, by "zoo/name"."""
    return {f"{c.zoo}/{c.name}": c for zoo in (torchvision_cases, timm_cases, transformers_cases) for c in zoo()}
