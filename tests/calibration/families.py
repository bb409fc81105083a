"""Small models of many families, with a batch that each of them takes."""

import torch
import transformers as tf
from torch import nn

from secateur.tasks.models import resnet20

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
NO_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _ids(**more):
    g = torch.Generator().manual_seed(0)
    return {"input_ids": torch.randint(3, 60, (2, 12), generator=g), **more}


def _pictures(side=32):
    return {"pixel_values": torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))}


def _t5():
    return tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
    )


def _bart():
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    return tf.BartForConditionalGeneration(
        tf.BartConfig(vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=2, **heads, **NO_TOKENS)
    )


class Branches(nn.Module):
    """Two chains, of which the second begins with what lies between them; a layer after both."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.first = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.between = nn.Linear(8, 8)
        self.second = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.second(torch.sin(self.between(torch.cos(self.first(self.stem(x) * 2)))) + x).relu() + 1)


class Adding(nn.Module):
    """A block that changes in place what it is given."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x):
        x += self.down(torch.tanh(self.up(self.norm(x))))
        return x


class InPlace(nn.Module):
    """Blocks that change their stream in place."""

    def __init__(self):
        super().__init__()
        self.stem, self.blocks, self.head = nn.Linear(8, 8), nn.ModuleList(Adding() for _ in range(3)), nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Widening(nn.Module):
    """A block with hidden units."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(x)))


FAMILIES = {
    "llama": (lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL, num_key_value_heads=2)), _ids),
    "qwen2": (lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**SMALL, num_key_value_heads=2)), _ids),
    "gpt2": (
        lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, **NO_TOKENS)),
        _ids,
    ),
    "opt": (
        lambda: tf.OPTForCausalLM(
            tf.OPTConfig(
                vocab_size=64,
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
                ffn_dim=48,
                word_embed_proj_dim=32,
                **NO_TOKENS,
            )
        ),
        _ids,
    ),
    "gemma3": (
        lambda: tf.Gemma3ForCausalLM(
            tf.Gemma3TextConfig(**SMALL, num_key_value_heads=2, head_dim=8, sliding_window=4, **NO_TOKENS)
        ),
        _ids,
    ),
    "bert": (lambda: tf.BertForMaskedLM(tf.BertConfig(**SMALL)), _ids),
    "t5": (_t5, lambda: _ids(decoder_input_ids=_ids()["input_ids"])),
    "bart": (_bart, lambda: _ids(decoder_input_ids=_ids()["input_ids"])),
    "vit": (
        lambda: tf.ViTForImageClassification(
            tf.ViTConfig(
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=48,
                image_size=32,
                patch_size=8,
            )
        ),
        _pictures,
    ),
    "swin": (
        lambda: tf.SwinForImageClassification(
            tf.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[1, 2], num_heads=[2, 2], window_size=4)
        ),
        _pictures,
    ),
    "resnet20": (resnet20, lambda: (_pictures()["pixel_values"],)),
    "branches": (Branches, lambda: (torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),)),
    "in place": (InPlace, lambda: (torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),)),
}


def model_of(name):
    torch.manual_seed(0)
    return FAMILIES[name][0]().eval()


def batches_of(name, count=3):
    """Batches of different content, the last one smaller."""
    batch = FAMILIES[name][1]()
    found = []
    for i in range(count):
        g = torch.Generator().manual_seed(i)
        size = 1 if i == count - 1 else 2

        def drawn(t, g=g, size=size):
            many = t[:1].expand(size, *t.shape[1:])
            return (
                torch.randint(3, 60, many.shape, generator=g)
                if not t.is_floating_point()
                else torch.randn(many.shape, generator=g)
            )

        found.append({k: drawn(v) for k, v in batch.items()} if isinstance(batch, dict) else tuple(map(drawn, batch)))
    return found
