"""Tiny models of transformers, from configurations."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from structured_cases import Case, declare_operators

_VOCABULARY, _WORDS, _SIZE = 97, 12, 64
_SMALL = {"vocab_size": _VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_WIDE = {**_SMALL, "intermediate_size": 160}
_SHARED = {**_WIDE, "num_key_value_heads": 2}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_PICTURE = {"image_size": _SIZE, "patch_size": 16}
_SEEING = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160} | _PICTURE
_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

Example = Callable[[], dict[str, Tensor]]


def words(length: int = _WORDS, **more: Callable[[], Tensor]) -> Example:
    """Two sequences."""
    return lambda: {"input_ids": torch.randint(3, _VOCABULARY, (2, length))} | {k: v() for k, v in more.items()}


def pictures(size: int = _SIZE) -> Example:
    """Two pictures."""
    return lambda: {"pixel_values": torch.randn(2, 3, size, size)}


def _ids(length: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(3, _VOCABULARY, (2, length))


_CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _SHARED),
    "mistral": ("Mistral", _SHARED),
    "mixtral": ("Mixtral", _SHARED | _EXPERTS),
    "qwen2": ("Qwen2", _SHARED),
    "qwen3": ("Qwen3", _SHARED | {"head_dim": 16}),
    "qwen2_moe": (
        "Qwen2Moe",
        _SHARED
        | {"num_experts": 4, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 48, "shared_expert_intermediate_size": 80},
    ),
    "gemma2": ("Gemma2", _SHARED | {"head_dim": 16}),
    "gemma3": ("Gemma3", _SHARED | {"head_dim": 16}),
    "phi3": ("Phi3", _SHARED | _TOKENS),
    "opt": ("OPT", _SMALL | {"ffn_dim": 160, "word_embed_proj_dim": 64}),
    "gpt2": ("GPT2", {"vocab_size": _VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4} | _TOKENS),
    "gpt_neox": ("GPTNeoX", _WIDE),
    "bloom": ("Bloom", {"vocab_size": _VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "falcon": ("Falcon", _SMALL),
    "mamba": ("Mamba", {"vocab_size": _VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),
}
_MASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _WIDE),
    "roberta": ("Roberta", _WIDE),
    "distilbert": (
        "DistilBert",
        {"vocab_size": _VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 160},
    ),
    "electra": ("Electra", _WIDE | {"embedding_size": 48}),
    "albert": ("Albert", _WIDE | {"embedding_size": 48}),
    "deberta_v2": (
        "DebertaV2",
        _WIDE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    ),
    "mpnet": ("MPNet", _WIDE),
}
_SEEN: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", _SEEING),
    "deit": ("DeiT", _SEEING),
    "beit": ("Beit", _SEEING),
    "swin": ("Swin", {"image_size": _SIZE, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}),
    "swinv2": (
        "Swinv2",
        {"image_size": _SIZE, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    ),
    "convnext": ("ConvNext", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}),
    "resnet": ("ResNet", {"embedding_size": 16, "hidden_sizes": [32, 48, 64, 80], "depths": [1, 1, 2, 1]}),
    "regnet": (
        "RegNet",
        {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]} | {"groups_width": 8},
    ),
    "mobilenet_v2": ("MobileNetV2", {"depth_multiplier": 0.35, "image_size": _SIZE}),
    "mobilevit": (
        "MobileViT",
        {"image_size": _SIZE, "hidden_sizes": [32, 40, 48], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 160]},
    ),
    "efficientnet": (
        "EfficientNet",
        {"width_coefficient": 0.5, "depth_coefficient": 0.5, "image_size": _SIZE, "hidden_dim": 640},
    ),
}


def transformers_cases() -> Iterator[Case]:
    """One of each architecture; those with a language model's head, then classifiers, then the others."""
    declare_operators()
    import transformers as hf
    import transformers.modeling_utils  # at first use, which would be in every process of a model

    def case(name: str, model: str, config: Callable[[], Any], example: Example) -> Case:
        return Case("transformers", name, lambda: _made(getattr(hf, model), config()), example)

    for name, (start, sizes) in _CAUSAL.items():
        kind = f"{start}TextConfig" if start == "Gemma3" else f"{start}Config"
        model = "GPT2LMHeadModel" if start == "GPT2" else f"{start}ForCausalLM"
        yield case(name, model, lambda k=kind, s=sizes: getattr(hf, k)(**s), words())
    for name, (start, sizes) in _MASKED.items():
        yield case(
            name, f"{start}ForSequenceClassification", lambda k=f"{start}Config", s=sizes: getattr(hf, k)(**s), words()
        )
    for name, (start, sizes) in _SEEN.items():
        yield case(
            name, f"{start}ForImageClassification", lambda k=f"{start}Config", s=sizes: getattr(hf, k)(**s), pictures()
        )
    for name, (model, config, example) in _others(hf).items():
        yield case(name, model, config, example)


def _made(cls: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    return cls(config)


def _others(hf: Any) -> dict[str, tuple[str, Callable[[], Any], Example]]:
    """With two sequences, two modalities, or more than one output."""
    coded = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 160, "decoder_ffn_dim": 160}
    coded |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    text = _WIDE | {"max_position_embeddings": 32} | _TOKENS
    both = {"projection_dim": 48}
    five = {"vocab_size": _VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 160, "num_layers": 2, "num_heads": 4}
    listening = {"conv_dim": (32, 32, 48), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2), "layerdrop": 0.0}
    listening |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "apply_spec_augment": False}
    whisper = {"vocab_size": _VOCABULARY, "num_mel_bins": 20, "max_source_positions": 16, "max_target_positions": 16}
    whisper |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}
    picture = pictures()

    def llava() -> Any:
        vision = hf.CLIPVisionConfig(**_SEEING)
        spoken = hf.LlamaConfig(**_SHARED)
        return hf.LlavaConfig(vision_config=vision, text_config=spoken, image_token_index=5, image_token_id=5)

    def seen_and_told() -> dict[str, Tensor]:
        ids = torch.randint(6, _VOCABULARY, (2, 20))
        ids[:, 1:17] = 5
        return {"input_ids": ids, **picture()}

    def backbone() -> Any:
        return hf.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], out_features=["stage4"]
        )

    return {
        "t5": ("T5ForConditionalGeneration", lambda: hf.T5Config(**five), words(decoder_input_ids=_ids(7))),
        "bart": (
            "BartForConditionalGeneration",
            lambda: hf.BartConfig(vocab_size=_VOCABULARY, max_position_embeddings=32, **coded),
            words(decoder_input_ids=_ids(7)),
        ),
        "segformer": (
            "SegformerForSemanticSegmentation",
            lambda: hf.SegformerConfig(
                hidden_sizes=[16, 32, 40, 64],
                depths=[1, 1, 1, 1],
                decoder_hidden_size=48,
                num_attention_heads=[1, 2, 4, 4],
            ),
            picture,
        ),
        "detr": (
            "DetrForObjectDetection",
            lambda: hf.DetrConfig(
                use_timm_backbone=False,
                backbone=None,
                use_pretrained_backbone=False,
                backbone_config=backbone(),
                num_queries=9,
                **coded,
            ),
            picture,
        ),
        "yolos": (
            "YolosForObjectDetection",
            lambda: hf.YolosConfig(**_SEEING | {"image_size": [_SIZE, _SIZE]}, num_detection_tokens=9),
            picture,
        ),
        "clip": (
            "CLIPModel",
            lambda: hf.CLIPConfig(text_config=text, vision_config=_SEEING, **both),
            words(pixel_values=lambda: picture()["pixel_values"]),
        ),
        "siglip": (
            "SiglipModel",
            lambda: hf.SiglipConfig(text_config=text, vision_config=_SEEING),
            words(pixel_values=lambda: picture()["pixel_values"]),
        ),
        "blip": (
            "BlipForConditionalGeneration",
            lambda: hf.BlipConfig(text_config=text | {"encoder_hidden_size": 64}, vision_config=_SEEING, **both),
            words(pixel_values=lambda: picture()["pixel_values"]),
        ),
        "whisper": (
            "WhisperForConditionalGeneration",
            lambda: hf.WhisperConfig(**coded, **whisper),
            lambda: {"input_features": torch.randn(2, 20, 32), "decoder_input_ids": _ids(7)()},
        ),
        "wav2vec2": (
            "Wav2Vec2ForCTC",
            lambda: hf.Wav2Vec2Config(**_WIDE, **listening, num_feat_extract_layers=3),
            lambda: {"input_values": torch.randn(2, 800)},
        ),
        "llava": ("LlavaForConditionalGeneration", llava, seen_and_told),
    }
