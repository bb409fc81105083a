"""A zoo of tiny deep models: what of each is a block, what a sublayer, and what only looks like one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo import IMAGES, WORDS, Attention, Inputs, LogitsOnly, Pictured, Subject, conv, of_transformers, tokens

STACKS: dict[str, Subject] = {}
"""What each offers: the paths of its blocks."""
SUBLAYERS: dict[str, tuple[str, ...]] = {}


def stack(inputs: Inputs, blocks: str, sublayers: str = "") -> Any:
    """Puts a class or a function that makes a model into the zoo; paths are separated by spaces."""

    def add(build: Any) -> Any:
        STACKS[build.__name__] = Subject(build.__name__, build, inputs, tuple(blocks.split()))
        SUBLAYERS[build.__name__] = tuple(sublayers.split())
        return build

    return add


class Basic(nn.Module):
    """A block of a ResNet, its last ReLU behind the addition, in place."""

    def __init__(self, taken: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.a, self.bn_a = conv(taken, made, stride=stride, bias=False), nn.BatchNorm2d(made)
        self.b, self.bn_b = conv(made, made, bias=False), nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Conv2d(taken, made, 1, stride) if stride > 1 or taken != made else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn_b(self.b(self.relu(self.bn_a(self.a(x)))))
        y += x if self.short is None else self.short(x)
        return self.relu(y)


@stack(IMAGES, "one.0 one.1 two.1")
class ResNet(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU())
        self.one, self.two = nn.Sequential(Basic(4, 4), Basic(4, 4)), nn.Sequential(Basic(4, 6, 2), Basic(6, 6))

    def features(self, x: Tensor) -> Tensor:
        return self.two(self.one(self.stem(x)))


class PreActivated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn_a, self.a = nn.BatchNorm2d(width), conv(width, width)
        self.bn_b, self.b = nn.BatchNorm2d(width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.bn_b(self.a(self.bn_a(x).relu())).relu())


@stack(IMAGES, "blocks.0 blocks.1 blocks.2", "blocks.0.b blocks.1.b blocks.2.b")
class PreActivatedResNet(Pictured):
    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv(3, 4), nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList(PreActivated(4) for _ in range(3))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x).relu()


class Inverted(nn.Module):
    """A block of a MobileNet, residual where its shapes allow it."""

    def __init__(self, taken: int, made: int, stride: int = 1) -> None:
        super().__init__()
        wide = 2 * taken
        layers = [conv(taken, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(), conv(wide, wide, stride=stride, groups=wide)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(wide), conv(wide, made, 1), nn.BatchNorm2d(made))
        self.residual = taken == made and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


@stack(IMAGES, "body.2 body.4", "body.2.conv body.4.conv")
class MobileNet(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.body = nn.Sequential(conv(3, 4), Inverted(4, 4, 2), Inverted(4, 4), Inverted(4, 6), Inverted(6, 6))

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


@stack(IMAGES, "")
class Vgg(Pictured):
    def __init__(self) -> None:
        super().__init__(4)
        self.body = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 4), nn.ReLU())

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(8, 12), nn.Linear(12, 8), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.down(self.drop(F.gelu(self.up(x)))))


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class PreNormed(nn.Module):
    """A block of a vision transformer, with LayerScale behind its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_a, self.attention, self.scale = nn.LayerNorm(8), Attention(), Scale()
        self.norm_b, self.mlp = nn.LayerNorm(8), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale(self.attention(self.norm_a(x)))
        return x + self.mlp(self.norm_b(x))


@stack(
    WORDS,
    "blocks.0 blocks.1 blocks.2",
    "blocks.0.attention blocks.0.mlp blocks.1.attention blocks.1.mlp blocks.2.attention blocks.2.mlp",
)
class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(8, 8), nn.Sequential(*(PreNormed() for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x))))


class Parallel(nn.Module):
    """Attention and MLP read the same norm; the input comes by keyword, and a tuple is given back."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(8), Attention(), Mlp()

    def forward(self, flag: bool, hidden: Tensor) -> tuple[Tensor, None]:
        y = self.norm(hidden)
        return self.attention(y) + self.mlp(y) + hidden, None


@stack(WORDS, "layers.a layers.b", "layers.a.attention layers.a.mlp layers.b.attention layers.b.mlp")
class ByKeyword(nn.Module):
    """Blocks in a `ModuleDict`, which has no places to move up to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.layers = nn.ModuleDict({"a": Parallel(), "b": Parallel()})

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers.values():
            x, _ = layer(True, hidden=x)
        return self.head(x)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


@stack(
    WORDS,
    "layers.0.0 layers.0.1 layers.1.0 layers.1.1",
    "layers.0.0.inner layers.0.1.inner layers.1.0.inner layers.1.1.inner",
)
class NestedLists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        pairs = (nn.ModuleList([Residual(Attention()), Residual(Mlp())]) for _ in range(2))
        self.stem, self.layers, self.head = nn.Linear(8, 8), nn.ModuleList(pairs), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for attention, mlp in self.layers:
            x = mlp(attention(x))
        return self.head(x)


@stack(WORDS, "first second", "first.inner second.inner")
class Attributes(nn.Module):
    """Blocks in no list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.first, self.second = Residual(Mlp()), Residual(Mlp())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.stem(x))))


@stack(WORDS, "blocks.0 blocks.1 blocks.2", "blocks.0.inner blocks.1.inner blocks.2.inner")
class Indexed(nn.Module):
    """Reads its list by number, so that no entry of it can be deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.blocks = nn.ModuleList(Residual(Mlp()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(3):
            x = self.blocks[i](x)
        return self.head(x)


@stack(WORDS, "layer.layers.0 layer.layers.1", "layer.layers.0.self_attn layer.layers.1.self_attn")
class OfTorch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True)
        self.stem, self.head, self.layer = nn.Linear(8, 8), nn.Linear(8, 5), nn.TransformerEncoder(one, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x)))


# what only looks residual


class Scaled(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + self.inner(x)


class Doubled(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.inner(x), x, alpha=2)


class Subtracted(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) - x


class Telling(Residual):
    """A second tensor that it makes is read elsewhere."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.inner(x)
        return x + y, y.mean()


class Keeping(Residual):
    """A tensor that it made is found by others without being given back."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.inner(x)
        return x + self.kept


class Shifted(nn.Module):
    """Adds positions: a sum, but no layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.place.expand(len(x), -1, -1)


WRONG = {cls.__name__: cls for cls in (Scaled, Doubled, Subtracted, Telling, Keeping, Shifted)}


class Chain(nn.Module):
    """Blocks of one kind, the second called twice if asked."""

    def __init__(self, kind: type[nn.Module], twice: bool = False) -> None:
        super().__init__()
        self.stem, self.head, self.twice = nn.Linear(8, 8), nn.Linear(8, 5), twice
        self.blocks = nn.ModuleList(kind(Mlp()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x, more = self.stem(x), 0
        for block in (*self.blocks, *self.blocks[1:]) if self.twice else self.blocks:
            y = block(x)
            x, told = y if isinstance(y, tuple) else (y, 0)
            more = more + told + getattr(block, "kept", torch.zeros(())).sum()
        return self.head(x + more)


# of transformers

_TWO = "{0}.0 {0}.1 {0}.2"
_SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 20}
_LENGTH = {"vocab_size": 20, "max_position_embeddings": 24}


def parts(container: str, *names: str, layers: int = 3) -> str:
    """The same parts of every layer."""
    return " ".join(f"{container}.{i}.{name}" for i in range(layers) for name in names)


@stack(tokens(), _TWO.format("model.layers"), parts("model.layers", "self_attn", "mlp"))
def llama(**more: Any) -> nn.Module:
    LlamaConfig, LlamaForCausalLM = of_transformers("LlamaConfig", "LlamaForCausalLM")
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **_SIZES, **_LENGTH, **ends, **more))


@stack(tokens(), _TWO.format("transformer.h"), parts("transformer.h", "attn", "mlp"))
def gpt2() -> nn.Module:
    GPT2Config, GPT2LMHeadModel = of_transformers("GPT2Config", "GPT2LMHeadModel")
    sizes = {"n_embd": 16, "n_layer": 3, "n_head": 4, "n_inner": 20, "n_positions": 24, "vocab_size": 20}
    return GPT2LMHeadModel(GPT2Config(bos_token_id=1, eos_token_id=2, **sizes))


@stack(tokens(), _TWO.format("gpt_neox.layers"), parts("gpt_neox.layers", "attention", "mlp"))
def gpt_neox() -> nn.Module:
    GPTNeoXConfig, GPTNeoXForCausalLM = of_transformers("GPTNeoXConfig", "GPTNeoXForCausalLM")
    return GPTNeoXForCausalLM(GPTNeoXConfig(bos_token_id=1, eos_token_id=2, **_SIZES, **_LENGTH))


@stack(tokens(), _TWO.format("bert.encoder.layer"), parts("bert.encoder.layer", "attention", "output"))
def bert() -> nn.Module:
    BertConfig, BertForMaskedLM = of_transformers("BertConfig", "BertForMaskedLM")
    return BertForMaskedLM(BertConfig(**_SIZES, **_LENGTH))


@stack(tokens(), _TWO.format("model.layers"), parts("model.layers", "self_attn", "mlp"))
def gemma2() -> nn.Module:
    """Two kinds of layers, norms behind the branches as well."""
    Gemma2Config, Gemma2ForCausalLM = of_transformers("Gemma2Config", "Gemma2ForCausalLM")
    more = {"num_key_value_heads": 2, "head_dim": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return Gemma2ForCausalLM(Gemma2Config(sliding_window=4, **_SIZES, **_LENGTH, **more))


def _both(g: torch.Generator) -> dict[str, Any]:
    ids = torch.randint(0, 20, (2, 6), generator=g)
    return {"input_ids": ids, "decoder_input_ids": ids[:, :4], "use_cache": False}


@stack(
    _both,
    "model.encoder.block.1 model.encoder.block.2 model.decoder.block.1 model.decoder.block.2",
    " ".join(
        [
            "model.encoder.block.0.layer.1 model.decoder.block.0.layer.2",
            *(f"model.encoder.block.{i}.layer.{k}" for i in (1, 2) for k in range(2)),
            *(f"model.decoder.block.{i}.layer.{k}" for i in (1, 2) for k in range(3)),
        ]
    ),
)
def t5() -> nn.Module:
    T5Config, T5ForConditionalGeneration = of_transformers("T5Config", "T5ForConditionalGeneration")
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 20, "num_layers": 3, "num_heads": 4}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return LogitsOnly(T5ForConditionalGeneration(T5Config(vocab_size=20, dropout_rate=0.0, **sizes, **ends)))
