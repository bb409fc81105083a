"""Tiny models of diffusers, from configurations."""

from collections.abc import Iterator
from typing import Any

import torch

from structured_cases import Case, declare_operators


def diffusers_cases() -> Iterator[Case]:
    """Unets, transformers and an autoencoder."""
    declare_operators()
    import diffusers

    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 16}
    noisy = {"sample": lambda: torch.randn(2, 4, 16, 16), "timestep": lambda: torch.tensor([3, 7])}
    made: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "unet2d": (
            "UNet2DModel",
            blocks
            | {"in_channels": 4, "out_channels": 4, "attention_head_dim": 8}
            | {
                "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            },
            noisy,
        ),
        "unet2d_condition": (
            "UNet2DConditionModel",
            blocks
            | {"cross_attention_dim": 40, "attention_head_dim": 4}
            | {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
            | {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")},
            noisy | {"encoder_hidden_states": lambda: torch.randn(2, 5, 40)},
        ),
        "dit": (
            "DiTTransformer2DModel",
            {"num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 2}
            | {"sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 20},
            {"hidden_states": lambda: torch.randn(2, 4, 8, 8), "timestep": lambda: torch.tensor([3, 7])}
            | {"class_labels": lambda: torch.tensor([1, 4])},
        ),
        "sd3": (
            "SD3Transformer2DModel",
            {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8}
            | {"num_attention_heads": 4, "joint_attention_dim": 24, "caption_projection_dim": 32}
            | {"pooled_projection_dim": 20, "out_channels": 4, "pos_embed_max_size": 8},
            {"hidden_states": lambda: torch.randn(2, 4, 8, 8), "timestep": lambda: torch.tensor([3, 7])}
            | {
                "encoder_hidden_states": lambda: torch.randn(2, 5, 24),
                "pooled_projections": lambda: torch.randn(2, 20),
            },
        ),
        "flux": (
            "FluxTransformer2DModel",
            {"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16}
            | {"num_attention_heads": 4, "joint_attention_dim": 32, "pooled_projection_dim": 32}
            | {"axes_dims_rope": (4, 4, 8)},
            {"hidden_states": lambda: torch.randn(2, 16, 4), "timestep": lambda: torch.tensor([0.3, 0.7])}
            | {"encoder_hidden_states": lambda: torch.randn(2, 5, 32), "pooled_projections": lambda: torch.randn(2, 32)}
            | {"txt_ids": lambda: torch.zeros(5, 3), "img_ids": lambda: torch.rand(16, 3)},
        ),
        "autoencoder_kl": (
            "AutoencoderKL",
            blocks
            | {"in_channels": 3, "out_channels": 3, "latent_channels": 4}
            | {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2},
            {"sample": lambda: torch.randn(2, 3, 16, 16)},
        ),
    }
    for name, (cls, config, example) in made.items():
        yield Case(
            "diffusers",
            name,
            lambda c=cls, k=config: getattr(diffusers, c)(**k),
            lambda e=example: {key: make() for key, make in e.items()},
        )
