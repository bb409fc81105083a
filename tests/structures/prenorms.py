"""Tiny random transformers whose streams can be rotated, and some whose streams cannot."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

ENDS = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}


def _of(name, **sizes):
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**ENDS, **sizes))


def _opt(**more):
    sizes = {k: v for k, v in SMALL.items() if k != "intermediate_size"}
    more = {"word_embed_proj_dim": 32, "max_position_embeddings": 64, **more}
    return _of("OPT", **sizes, ffn_dim=48, **more)


def _gpt2(**more):
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **ENDS, **more)
    return transformers.GPT2LMHeadModel(config)


ROTATABLE = {
    "llama": lambda: _of("Llama", **SMALL, num_key_value_heads=2),
    "llama, tied": lambda: _of("Llama", **SMALL, num_key_value_heads=2, tie_word_embeddings=True),
    "llama, biases": lambda: _of("Llama", **SMALL, num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "qwen2": lambda: _of("Qwen2", **SMALL, num_key_value_heads=2),
    "qwen3, norms in heads": lambda: _of("Qwen3", **SMALL, **GROUPED),
    "gemma, 1 + g": lambda: _of("Gemma", **SMALL, **GROUPED),
    "gpt2": _gpt2,
    "opt": _opt,
    "opt, no biases": lambda: _opt(enable_bias=False),
    "phi": lambda: _of("Phi", **SMALL),
    "gpt-neox": lambda: _of("GPTNeoX", **SMALL),
    "gpt-neox, in turn": lambda: _of("GPTNeoX", **SMALL, use_parallel_residual=False),
}
NOT_ROTATABLE = {
    "gemma2": lambda: _of("Gemma2", **SMALL, **GROUPED),
    "gemma3": lambda: transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**ENDS, **SMALL, **GROUPED)),
    "olmo2": lambda: _of("Olmo2", **SMALL),
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**ENDS, **SMALL, max_position_embeddings=64)),
    "mixtral": lambda: _of("Mixtral", **SMALL, num_key_value_heads=2, num_local_experts=4),
    "opt, norms behind": lambda: _opt(do_layer_norm_before=False),
    "no head": lambda: transformers.LlamaModel(transformers.LlamaConfig(**ENDS, **SMALL)),
}


def model_of(name):
    """The model with norms and biases that are not ones and zeros, and weights whose branches weigh something."""
    torch.manual_seed(0)
    model = {**ROTATABLE, **NOT_ROTATABLE}[name]().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p + 0.3 * torch.randn(p.shape) if p.dim() == 1 else 3 * p)
    return model


def ids(rows=2, length=12, seed=0):
    return torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(model, x):
    with torch.no_grad():
        return model(input_ids=x, use_cache=False).logits


def call(model):
    return model(input_ids=ids(), use_cache=False)


def apart(a, b):
    return float((a - b).norm() / b.norm())


def orthogonal(n, seed=0):
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
