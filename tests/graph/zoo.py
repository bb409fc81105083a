"""A zoo of tiny models, one or more for every structure that labels must follow, and cuts of them at random.

Every model says what its structure offers for removal: `"heads 4"` is a family of four units whose kind is heads. The
check of a cut is that of the contract: the smaller model equals the dense one whose consumers read zeros, also if what
makes the removed positions makes large random numbers instead.
"""

import copy
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from secateur.core.errors import SubjectError
from secateur.graph.capture import tensors_in
from secateur.graph.coupling import Coupling
from secateur.graph.find import couple
from secateur.graph.masked import masked_outputs
from secateur.graph.surgery import Surgery, cut_

Inputs = Callable[[torch.Generator], Any]
"""Makes arguments, a tuple or a dict of them."""


@dataclass(frozen=True)
class Subject:
    """A model of the zoo.

    Attributes:
        build: a new one, as its constructor leaves it.
        inputs: fresh ones.
        offers: families that its structure must have, each "kind size".
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    offers: tuple[str, ...]

    def model(self, seed: int = 0) -> nn.Module:
        """Ready to run: float64, eval mode, every weight and statistic random."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self.build().double().eval()
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, parameter[0].numel() ** -0.5, generator=g)
                else:
                    parameter.uniform_(0.5, 1.5, generator=g)
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(generator=g)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 2, generator=g)
        return model

    def call(self, seed: int = 0) -> Callable[[Any], Any]:
        """Runs a model on fresh inputs."""
        made = self.inputs(torch.Generator().manual_seed(seed))
        return lambda model: model(**made) if isinstance(made, Mapping) else model(*made)


ZOO: dict[str, Subject] = {}


def subject(inputs: Inputs, *offers: str) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Puts a class or a function that makes a model into the zoo."""

    def add(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ZOO[build.__name__] = Subject(build.__name__, build, inputs, offers)
        return build

    return add


def floats(*shape: int) -> Inputs:
    """One tensor of random numbers."""
    return lambda g: (torch.randn(*shape, generator=g, dtype=torch.float64),)


def numbers(*shape: int, below: int = 20) -> Inputs:
    """One tensor of token numbers."""
    return lambda g: (torch.randint(0, below, shape, generator=g),)


def tokens(**more: Any) -> Inputs:
    """The arguments of a model of transformers."""
    return lambda g: {"input_ids": torch.randint(0, 20, (2, 6), generator=g), **more}


IMAGES, WORDS, FEATURES = floats(2, 3, 6, 6), floats(2, 5, 8), floats(4, 7)


def conv(taken: int, made: int, size: int = 3, **more: Any) -> nn.Conv2d:
    """A convolution that keeps the size of the picture."""
    return nn.Conv2d(taken, made, size, padding=size // 2, **more)


class Pictured(nn.Module):
    """Base: what `features` gives is averaged over the picture and read by a linear layer of five outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


# residual streams, gates, and whatever goes element by element


@subject(IMAGES, "channels 6", "channels 8")
class Residual(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.bn = conv(3, 6, bias=False), nn.BatchNorm2d(6)
        self.a, self.bn_a, self.b, self.bn_b = conv(6, 8), nn.BatchNorm2d(8), conv(8, 6), nn.BatchNorm2d(6)

    def features(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        return (x + self.bn_b(self.b(self.bn_a(self.a(x)).relu()))).relu()


@subject(IMAGES, "channels 6")
class Elementwise(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b, self.c, self.d = (conv(3, 6) for _ in range(4))

    def features(self, x: Tensor) -> Tensor:
        y = (self.a(x) - 0.5 * self.b(x)) * self.c(x).sigmoid() + 1
        return torch.where(y > 0, F.gelu(y), torch.maximum(self.d(x), y))


@subject(IMAGES, "channels 8", "hidden 4")
class SqueezeExcitation(Pictured):
    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.less, self.more = conv(3, 8), nn.Linear(8, 4), nn.Linear(4, 8)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x * self.more(self.less(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


@subject(IMAGES, "channels 4", "channels 6", "channels 5")
class PaddedShortcut(Pictured):
    def __init__(self) -> None:
        super().__init__(10)
        self.before, self.after = 2, 4
        self.stem, self.bn = conv(3, 4), nn.BatchNorm2d(4)
        self.a, self.bn_a = conv(4, 5, stride=2), nn.BatchNorm2d(5)
        self.b, self.bn_b = conv(5, 10), nn.BatchNorm2d(10)

    def features(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))
        return (self.bn_b(self.b(self.bn_a(self.a(x)).relu())) + short).relu()


@subject(IMAGES, "channels 4", "channels 6", "channels 5")
class PaddedEvenly(PaddedShortcut):
    """Two attributes that hold the same number: which of them is meant, no shape tells."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = 3, 3


@subject(IMAGES, "channels 6")
class Broadcasts(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.gate = conv(3, 6), conv(3, 1)
        self.scale, self.shift = nn.Parameter(torch.ones(6, 1, 1)), nn.Parameter(torch.ones(1, 6, 1, 1))
        self.register_buffer("offset", torch.arange(6.0).view(1, 6, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        return (self.a(x) * self.scale + self.shift + self.offset).tanh() * self.gate(x)


@subject(IMAGES, "channels 6", "channels 7")
class InPlace(Pictured):
    def __init__(self) -> None:
        super().__init__(7)
        self.a, self.b, self.c, self.act = conv(3, 6), conv(3, 6), conv(6, 7), nn.ReLU(inplace=True)

    def features(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y += self.b(x)
        y.mul_(2).add_(1)
        return self.c(self.act(y)).relu_()


@subject(IMAGES, "channels 6")
class CalledTwice(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.again, self.bn = conv(3, 6), conv(6, 6), nn.BatchNorm2d(6)

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.again(self.bn(self.again(self.stem(x))).relu()))


# concatenation, and the ways of taking apart


@subject(IMAGES, "channels 4", "channels 3", "channels 3")
class DenselyConnected(Pictured):
    def __init__(self) -> None:
        super().__init__(10)
        self.stem, self.bn_a, self.a = conv(3, 4), nn.BatchNorm2d(4), conv(4, 3)
        self.bn_b, self.b, self.bn = nn.BatchNorm2d(7), conv(7, 3), nn.BatchNorm2d(10)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.a(self.bn_a(x).relu())], 1)
        return self.bn(torch.cat([x, self.b(self.bn_b(x).relu())], 1)).relu()


@subject(IMAGES, "channels 4", "channels 6")
class ConcatWithInput(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b = conv(3, 4), conv(7, 6)

    def features(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([x, self.a(x)], 1))


@subject(IMAGES, "channels 3", "channels 5")
class Split(Pictured):
    def __init__(self) -> None:
        super().__init__(5)
        self.sizes = [3, 5]
        self.stem, self.b = conv(3, 8), conv(3, 5)

    def features(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).split(self.sizes, 1)
        return self.b(a).relu() * b.sigmoid()


@subject(IMAGES, "channels 6")
class Chunk(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem = conv(3, 12)

    def features(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        return a * b.sigmoid()


@subject(IMAGES, "channels 2", "channels 6")
class PartialConv(Pictured):
    def __init__(self) -> None:
        super().__init__(8)
        self.part = 2
        self.stem, self.some = conv(3, 8), conv(2, 2)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.some(x[:, : self.part]), x[:, self.part :]], 1)


@subject(IMAGES, "channels 6")
class StackAndSelect(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b, self.both = conv(3, 6), conv(3, 6), conv(3, 12)

    def features(self, x: Tensor) -> Tensor:
        two = torch.stack([self.a(x), self.b(x)], 1)
        c, d = self.both(x).unflatten(1, (2, -1)).unbind(1)
        return two[:, 0] * d + two.select(1, 1).sigmoid() * c


@subject(IMAGES, "channels 4", "hidden 8")
class FlattenedChannelsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = conv(3, 4, stride=2), nn.BatchNorm2d(4)
        self.hidden, self.norm, self.head = nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.hidden(self.bn(self.stem(x)).relu().flatten(1))).relu())


@subject(IMAGES, "channels 4", "hidden 8")
class FlattenedChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.head = conv(3, 4, stride=2), nn.Linear(36, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.stem(x).relu().permute(0, 2, 3, 1).flatten(1)).tanh())


# groups


@subject(IMAGES, "groups 4", "channels 2", "channels 3")
class GroupConv(Pictured):
    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.grouped, self.bn = conv(3, 8), conv(8, 12, groups=4), nn.BatchNorm2d(12)

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.grouped(self.stem(x).relu())).relu()


class Computed(Pictured):
    """Weights that are computed from others."""

    def __init__(self, of: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__(6)
        self.a, self.b, self.c = of(conv(3, 7)), of(nn.ConvTranspose2d(7, 5, 3, 2)), of(conv(5, 6))
        self.head = of(self.head)

    def features(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu()).relu()


@subject(IMAGES, "channels 7", "channels 5", "channels 6")
def weight_norm() -> nn.Module:
    return Computed(parametrizations.weight_norm)


@subject(IMAGES, "channels 7", "channels 5", "channels 6")
def weight_norm_of_all() -> nn.Module:
    return Computed(lambda module: parametrizations.weight_norm(module, dim=None))


@subject(IMAGES, "hidden 7", "hidden 5", "hidden 6")
def spectral_norm() -> nn.Module:
    return Computed(parametrizations.spectral_norm)


@subject(IMAGES, "channels 6", "channels 9")
class Depthwise(Pictured):
    def __init__(self) -> None:
        super().__init__(9)
        self.stem, self.each, self.bn, self.mix = conv(3, 6), conv(6, 6, groups=6), nn.BatchNorm2d(6), conv(6, 9, 1)

    def features(self, x: Tensor) -> Tensor:
        return self.mix(self.bn(self.each(self.stem(x))).relu())


@subject(IMAGES, "channels 6", "channels 2")
class DepthwiseTwice(Pictured):
    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.each, self.bn = conv(3, 6), conv(6, 12, groups=6), nn.BatchNorm2d(12)

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.each(self.stem(x))).relu()


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


@subject(IMAGES, "channels 3", "groups 2", "channels 6")
class ShuffledChannels(Pictured):
    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.shuffle, self.mix = conv(3, 12), Shuffle(3), conv(12, 12, 1, groups=2)

    def features(self, x: Tensor) -> Tensor:
        return self.mix(self.shuffle(self.stem(x)).relu())


@subject(IMAGES, "channels 6", "channels 6")
class ConvTranspose(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.up, self.bn = conv(3, 6), nn.ConvTranspose2d(6, 6, 2, stride=2), nn.BatchNorm2d(6)

    def features(self, x: Tensor) -> Tensor:
        return self.bn(self.up(self.stem(x).relu())).relu()


@subject(IMAGES, "channels 2", "channels 4", "channels 3")
class GroupedConvTranspose(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.up = conv(3, 8), nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)

    def features(self, x: Tensor) -> Tensor:
        return self.up(self.stem(x).relu()).relu()


@subject(IMAGES, "channels 4", "channels 6")
class PixelShuffle(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.up, self.last = conv(3, 16), nn.PixelShuffle(2), conv(4, 6)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.stem(x)).relu())


@subject(IMAGES, "channels 4", "channels 6")
class PixelUnshuffle(Pictured):
    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.down, self.last = conv(3, 4), nn.PixelUnshuffle(2), conv(16, 6)

    def features(self, x: Tensor) -> Tensor:
        return self.last(self.down(self.stem(x)).relu())


@subject(IMAGES, "channels 6", "channels 4")
class ParametricRelu(Pictured):
    def __init__(self) -> None:
        super().__init__(4)
        self.a, self.each, self.b, self.one = conv(3, 6), nn.PReLU(6), conv(6, 4), nn.PReLU()

    def features(self, x: Tensor) -> Tensor:
        return self.one(self.b(self.each(self.a(x))))


# norms


@subject(IMAGES, "channels 4", "channels 3")
class GroupNorm(Pictured):
    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.norm = conv(3, 12), nn.GroupNorm(4, 12)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.stem(x)).relu()


@subject(IMAGES, "channels 4", "channels 3")
class GroupNormInViews(Pictured):
    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.groups = conv(3, 12), 4

    def features(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return F.instance_norm(y.reshape(len(y), self.groups, -1)).reshape(y.shape).relu()


@subject(IMAGES, "channels 6", "channels 7")
class InstanceNorm(Pictured):
    def __init__(self) -> None:
        super().__init__(7)
        self.a, self.norm_a = conv(3, 6), nn.InstanceNorm2d(6, affine=True)
        self.b, self.norm_b = conv(6, 7), nn.InstanceNorm2d(7, affine=True, track_running_stats=True)

    def features(self, x: Tensor) -> Tensor:
        return self.norm_b(self.b(self.norm_a(self.a(x)).relu())).relu()


class Normed(nn.Module):
    """A residual stream of eight, a norm before each reader."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stem, self.norm, self.up, self.down = nn.Linear(7, 8), norm(8), nn.Linear(8, 9), nn.Linear(9, 8)
        self.last, self.head = norm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(x + self.down(F.gelu(self.up(self.norm(x))))))


@subject(FEATURES, "hidden 8", "hidden 9")
def layer_norm() -> nn.Module:
    return Normed(nn.LayerNorm)


@subject(FEATURES, "hidden 8", "hidden 9")
def rms_norm() -> nn.Module:
    return Normed(nn.RMSNorm)


class HandWrittenRmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt())


@subject(FEATURES, "hidden 8", "hidden 9")
def hand_written_rms_norm() -> nn.Module:
    return Normed(HandWrittenRmsNorm)


@subject(FEATURES, "hidden 9", "hidden 8")
class GatedMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.up = nn.Linear(7, 8), nn.Linear(8, 9, bias=False), nn.Linear(8, 9, bias=False)
        self.down, self.head = nn.Linear(9, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.down(F.silu(self.gate(x)) * self.up(x)))


# attention


class Attention(nn.Module):
    """Hand-written, four heads of three features over a stream of eight."""

    def __init__(self, heads: int = 4, each: int = 3) -> None:
        super().__init__()
        self.heads, self.each, self.scale = heads, each, each**-0.5
        self.q, self.k, self.v = (nn.Linear(8, heads * each) for _ in range(3))
        self.out = nn.Linear(heads * each, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, self.heads, self.each).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = (q @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, n, -1))


class Block(nn.Module):
    """A stream of eight, an attention on it, and a reader."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Linear(8, 8), attention, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.attention(x))


@subject(WORDS, "hidden 8", "heads 4", "head-dims 3")
def attention() -> nn.Module:
    return Block(Attention())


class ScaledBySize(Attention):
    """torch's own attention, which scales by the size that it sees."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


@subject(WORDS, "hidden 8", "heads 4", "head-dims 3")
def attention_of_torch() -> nn.Module:
    return Block(ScaledBySize())


class FusedContiguous(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads, self.each = 4, 3
        self.qkv, self.out = nn.Linear(8, 36), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, self.each).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, self.heads * self.each))


@subject(WORDS, "hidden 8", "heads 4")
def fused_contiguous() -> nn.Module:
    return Block(FusedContiguous())


class FusedChunks(FusedContiguous):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (-1, self.each)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = (q @ k.transpose(-1, -2) * 3**-0.5).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(-2))


@subject(WORDS, "hidden 8", "heads 4", "head-dims 3")
def fused_chunks() -> nn.Module:
    return Block(FusedChunks())


class FusedInterleaved(FusedContiguous):
    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, self.heads, 3 * self.each).transpose(1, 2).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2).reshape(b, n, -1))


@subject(WORDS, "hidden 8", "heads 4")
def fused_interleaved() -> nn.Module:
    return Block(FusedInterleaved())


class SharedKeys(nn.Module):
    """Six query heads; `kv` heads of keys and values, repeated as transformers does or by torch itself."""

    def __init__(self, kv: int, by_torch: bool) -> None:
        super().__init__()
        self.kv, self.replicas, self.each, self.by_torch = kv, 6 // kv, 4, by_torch
        self.q, self.k, self.v = nn.Linear(8, 24), nn.Linear(8, 4 * kv), nn.Linear(8, 4 * kv)
        self.out = nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, -1, self.each).transpose(1, 2) for f in (self.q, self.k, self.v))
        if not self.by_torch:
            k, v = self.repeated(k), self.repeated(v)
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.by_torch, scale=0.5)
        return self.out(y.transpose(1, 2).reshape(b, n, -1))

    def repeated(self, x: Tensor) -> Tensor:
        b, heads, n, d = x.shape
        return x[:, :, None].expand(b, heads, self.replicas, n, d).reshape(b, heads * self.replicas, n, d)


@subject(WORDS, "hidden 8", "kv-groups 2", "heads 3")
def grouped_queries_repeated() -> nn.Module:
    return Block(SharedKeys(2, by_torch=False))


@subject(WORDS, "hidden 8", "kv-groups 2", "heads 3")
def grouped_queries_of_torch() -> nn.Module:
    return Block(SharedKeys(2, by_torch=True))


@subject(WORDS, "hidden 8", "heads 6")
def one_key_head() -> nn.Module:
    return Block(SharedKeys(1, by_torch=True))


class Packed(nn.Module):
    def __init__(self, batch_first: bool, **more: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, batch_first=batch_first, **more)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


@subject(WORDS, "hidden 8", "heads 4")
def packed_batch_first() -> nn.Module:
    return Block(Packed(batch_first=True))


@subject(WORDS, "hidden 8", "heads 4")
def packed_batch_second() -> nn.Module:
    return Block(Packed(batch_first=False))


@subject(WORDS, "hidden 8", "heads 4")
def packed_with_extra_keys() -> nn.Module:
    return Block(Packed(batch_first=True, add_bias_kv=True, add_zero_attn=True))


@subject(WORDS, "heads 4", "hidden 6")
class CrossAttention(nn.Module):
    """Keys and values of another width than queries: three weights instead of one."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.stem = nn.Linear(8, 6), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True, kdim=6, vdim=6)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.memory(x)
        return self.head(self.attention(self.stem(x), memory, memory)[0])


@subject(WORDS, "hidden 8", "heads 2", "hidden 10")
class EncoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.layer = nn.TransformerEncoderLayer(8, 2, 10, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x)))


class Rotary(nn.Module):
    """Two heads of eight features, turned by position; `halves` pairs d with d + 4, otherwise 2 d with 2 d + 1."""

    def __init__(self, halves: bool) -> None:
        super().__init__()
        self.heads, self.halves, self.scale = 2, halves, 8**-0.5
        self.q, self.k, self.v, self.out = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)
        self.register_buffer("inv_freq", 100.0 ** (-torch.arange(4) / 4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        angle = torch.arange(n, dtype=x.dtype)[:, None] * self.inv_freq
        q, k = self.turned(q, angle.cos(), angle.sin()), self.turned(k, angle.cos(), angle.sin())
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out(y.transpose(1, 2).reshape(b, n, -1))

    def turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.halves:
            a, b = x.chunk(2, -1)
            return x * torch.cat([cos, cos], -1) + torch.cat([-b, a], -1) * torch.cat([sin, sin], -1)
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


@subject(WORDS, "hidden 8", "heads 2", "head-dims 4", "head-dims 8")
def rotary_halves() -> nn.Module:
    return Block(Rotary(halves=True))


@subject(WORDS, "hidden 8", "heads 2", "head-dims 4", "head-dims 8")
def rotary_interleaved() -> nn.Module:
    return Block(Rotary(halves=False))


class RelativeBias(nn.Module):
    """Swin's: a table with one column for each head, looked up by a buffer of distances."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(8, 36), nn.Linear(12, 8)
        self.table = nn.Parameter(torch.zeros(9, 4))
        place = torch.arange(5)
        self.register_buffer("distance", (place[:, None] - place[None] + 4).flatten())

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.table[self.distance].view(n, n, -1).permute(2, 0, 1)
        y = (q * 0.5 @ k.transpose(-2, -1) + bias[None]).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, n, -1))


@subject(WORDS, "hidden 8", "heads 4", "head-dims 3")
def relative_bias() -> nn.Module:
    return Block(RelativeBias())


class WidthInHeads(nn.Module):
    """Takes the width that comes in to be that of its heads, and reads their size and their scale off it."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        shares = (q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.out((shares @ v).transpose(1, 2).reshape(b, n, width))


@subject(WORDS, "heads 4", "hidden 9")
class WidthsOfHeads(nn.Module):
    """A stream of which a head's channels go with the head, in both attentions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Linear(8, 12), WidthInHeads(), WidthInHeads()
        self.up, self.down, self.head = nn.Linear(12, 9), nn.Linear(9, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        x = x + self.second(x)
        return self.head(x + self.down(self.up(x).relu()))


class Settings:
    """What a config is: an object that only holds values."""

    def __init__(self) -> None:
        self.heads, self.size, self.name = 4, 3, "tiny"


class FromSettings(nn.Module):
    """Two attentions share one object of settings, and cut their projections by what it says."""

    def __init__(self, config: Settings) -> None:
        super().__init__()
        self.config, self.qkv, self.out = config, nn.Linear(8, 36), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        inner = self.config.heads * self.config.size
        made = self.qkv(x)
        q, k, v = made[..., :inner], made[..., inner : 2 * inner], made[..., 2 * inner :]
        q, k, v = (t.view(b, n, self.config.heads, self.config.size).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, scale=0.5)
        return self.out(y.transpose(1, 2).reshape(b, n, inner))


@subject(WORDS, "hidden 8", "heads 4", "heads 4")
class SharedSettings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = Settings()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 5)
        self.first, self.second = FromSettings(config), FromSettings(config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.second(x + self.first(x)))


class Lookup(nn.Module):
    """Its function is called by the module that holds it, and keeps how many columns there are."""

    def __init__(self) -> None:
        super().__init__()
        self.columns, self.table = 4, nn.Parameter(torch.zeros(25, 4))

    def bias(self) -> Tensor:
        return self.table.view(5, 5, self.columns).permute(2, 0, 1)


class CallsItsChild(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads, self.lookup = 4, Lookup()
        self.qkv, self.out = nn.Linear(8, 36), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.lookup.bias(), scale=0.5)
        return self.out(y.transpose(1, 2).reshape(b, n, -1))


@subject(WORDS, "hidden 8", "heads 4")
def calls_its_child() -> nn.Module:
    return Block(CallsItsChild())


class StandardConv(nn.Conv2d):
    """Its weights have a mean of 0 and a deviation of 1, by a batch norm over what each output reads."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, len(self.weight), -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


@subject(IMAGES, "hidden 6", "hidden 9")
class Standardised(Pictured):
    def __init__(self) -> None:
        super().__init__(9)
        self.a, self.b = StandardConv(3, 6, 3, padding=1), StandardConv(6, 9, 3, padding=1)

    def features(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()).relu()


@subject(IMAGES, "channels 6", "hidden 7")
class Boxes(Pictured):
    """Keeps what passes a threshold, writes it to places picked by number, and reads it again."""

    def __init__(self) -> None:
        super().__init__(7)
        self.stem, self.score, self.up = conv(3, 6), conv(6, 1), nn.Linear(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x).relu()
        rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        passes = torch.where(self.score(features).flatten() > self.score(features).mean())[0]
        found = torch.zeros_like(rows)
        found[passes] = rows[passes]
        return self.head(self.up(found).relu().sum(0, keepdim=True)) + self.score(features).mean()


@subject(IMAGES, "channels 8", "heads 4", "hidden 9")
class VisionTransformer(nn.Module):
    """Class token, positions and LayerScale: parameters that no module owns."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 3, 3), nn.Parameter(torch.zeros(1, 1, 8))
        self.position, self.gamma = nn.Parameter(torch.zeros(1, 5, 8)), nn.Parameter(torch.ones(8))
        self.norm, self.attention = nn.LayerNorm(8), FusedContiguous()
        self.up, self.down, self.last, self.head = nn.Linear(8, 9), nn.Linear(9, 8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        x = x + self.gamma * self.attention(self.norm(x))
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(self.last(x)[:, 0])


# embeddings, recurrence, and models of unusual shape


@subject(numbers(2, 5), "hidden 8", "hidden 9")
class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(5, 8)
        self.up, self.down, self.head = nn.Linear(8, 9), nn.Linear(9, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x) + self.places(torch.arange(x.shape[1]))
        return self.head(y + self.down(self.up(y).relu()))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *args: Any, width: int, **more: Any) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(20, 6), kind(6, *args, batch_first=True, **more)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.words(x))[0])


@subject(numbers(2, 5), "hidden 6", "hidden 7")
def lstm_both_ways() -> nn.Module:
    return Recurrent(nn.LSTM, 7, 2, bidirectional=True, width=14)


@subject(numbers(2, 5), "hidden 6", "hidden 7", "hidden 3")
def lstm_projected() -> nn.Module:
    return Recurrent(nn.LSTM, 7, 2, proj_size=3, width=3)


@subject(numbers(2, 5), "hidden 6", "hidden 7")
def gru() -> nn.Module:
    return Recurrent(nn.GRU, 7, 2, width=7)


@subject(numbers(2, 5), "hidden 6", "hidden 7")
def rnn_without_bias() -> nn.Module:
    return Recurrent(nn.RNN, 7, 1, bias=False, width=7)


@subject(numbers(2, 5), "hidden 6", "hidden 7")
class LearntState(nn.Module):
    """An LSTM whose first state is a parameter, read by its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers, self.head = nn.Embedding(20, 6), nn.LSTM(6, 7), nn.Linear(7, 5)
        self.h, self.c = nn.Parameter(torch.zeros(1, 1, 7)), nn.Parameter(torch.zeros(1, 1, 7))

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x).transpose(0, 1)
        shape = (1, len(x), -1)
        _, (h, _) = self.layers(y, (self.h.expand(shape).contiguous(), self.c.expand(shape).contiguous()))
        return self.head(h[-1])


def _two(g: torch.Generator) -> dict[str, Tensor]:
    a = torch.randn(2, 3, generator=g, dtype=torch.float64)
    return {"a": a, "b": torch.randn(2, 4, generator=g, dtype=torch.float64)}


@subject(_two, "hidden 6", "hidden 5")
class TwoInputsDictOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.joint = nn.Linear(3, 6), nn.Linear(4, 6), nn.Linear(6, 5)
        self.first, self.second = nn.Linear(5, 2), nn.Linear(5, 3)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Any]:
        x = self.joint((self.a(a) + self.b(b)).relu()).relu()
        return {"first": self.first(x), "more": [self.second(x)]}


@subject(IMAGES, "channels 6")
class Branching(Pictured):
    """What it does depends on data: fake tensors cannot run it."""

    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b = conv(3, 6), conv(6, 6)

    def features(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.b(x) if x.sum() > 0 else x


# tiny models of transformers


def of_transformers(*names: str) -> list[Any]:
    """Classes of transformers, imported as if there was no torchvision: a broken one would break them."""
    hidden = "torchvision" not in sys.modules
    if hidden:
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    try:
        return [getattr(importlib.import_module("transformers"), name) for name in names]
    finally:
        if hidden:
            del sys.modules["torchvision"]


@subject(
    tokens(use_cache=False), "hidden 16", "kv-groups 2", "kv-groups 2", "heads 2", "heads 2", "hidden 20", "hidden 20"
)
def llama() -> nn.Module:
    LlamaConfig, LlamaForCausalLM = of_transformers("LlamaConfig", "LlamaForCausalLM")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=16, num_hidden_layers=2, intermediate_size=20, vocab_size=20, **heads)
    )


@subject(tokens(use_cache=False), "hidden 16", "heads 4", "heads 4", "hidden 64", "hidden 64")
def gpt2() -> nn.Module:
    GPT2Config, GPT2LMHeadModel = of_transformers("GPT2Config", "GPT2LMHeadModel")
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=20, n_positions=12, **ends))


@subject(tokens(use_cache=False), "hidden 16", "heads 2", "hidden 20")
def gpt_neox() -> nn.Module:
    GPTNeoXConfig, GPTNeoXForCausalLM = of_transformers("GPTNeoXConfig", "GPTNeoXForCausalLM")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=20, max_position_embeddings=12, rotary_pct=0.5, **sizes))


@subject(tokens(), "hidden 16", "heads 4", "hidden 20")
def bert() -> nn.Module:
    BertConfig, BertForMaskedLM = of_transformers("BertConfig", "BertForMaskedLM")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 20}
    return BertForMaskedLM(BertConfig(vocab_size=20, max_position_embeddings=12, **sizes))


def _both(g: torch.Generator) -> dict[str, Any]:
    ids = torch.randint(0, 20, (2, 6), generator=g)
    return {"input_ids": ids, "decoder_input_ids": ids[:, :4], "use_cache": False}


class LogitsOnly(nn.Module):
    """Whose other outputs, such as the states of an encoder, are nobody's: outputs stay as they are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: Any) -> Tensor:
        return self.model(**given).logits


@subject(_both, "hidden 16", "heads 4", "heads 4", "heads 4", "hidden 20", "hidden 20")
def t5() -> nn.Module:
    T5Config, T5ForConditionalGeneration = of_transformers("T5Config", "T5ForConditionalGeneration")
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 4}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return LogitsOnly(T5ForConditionalGeneration(T5Config(vocab_size=20, dropout_rate=0.0, **sizes, **ends)))


@subject(tokens(use_cache=False), "hidden 24", "kv-groups 2", "heads 2", "hidden 20")
def phi3() -> nn.Module:
    Phi3Config, Phi3ForCausalLM = of_transformers("Phi3Config", "Phi3ForCausalLM")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 20}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return Phi3ForCausalLM(Phi3Config(vocab_size=20, max_position_embeddings=12, **sizes, **heads, **ends))


def _looping(model: Any) -> Any:
    """Experts one after the other: torch's product of groups knows no double precision."""
    model.set_experts_implementation("eager")
    return model


_EXPERTS = {"vocab_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2}


@subject(tokens(use_cache=False), "hidden 16", "kv-groups 2", "heads 2", "experts 6", "hidden 12")
def mixtral() -> nn.Module:
    MixtralConfig, MixtralForCausalLM = of_transformers("MixtralConfig", "MixtralForCausalLM")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 12, "num_local_experts": 6}
    return _looping(MixtralForCausalLM(MixtralConfig(**sizes, **_EXPERTS, bos_token_id=1, eos_token_id=2)))


@subject(tokens(use_cache=False), "hidden 16", "kv-groups 2", "heads 2", "experts 5", "hidden 12", "hidden 14")
def qwen2_moe() -> nn.Module:
    Qwen2MoeConfig, Qwen2MoeForCausalLM = of_transformers("Qwen2MoeConfig", "Qwen2MoeForCausalLM")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "moe_intermediate_size": 12, "num_experts": 5}
    return _looping(Qwen2MoeForCausalLM(Qwen2MoeConfig(shared_expert_intermediate_size=14, **sizes, **_EXPERTS)))


@subject(tokens(use_cache=False), "hidden 16", "heads 4", "experts 4", "experts 4", "hidden 12", "hidden 12")
def deepseek_v3() -> nn.Module:
    """Sixteen experts in four groups, of which two are chosen first; keys and values of one small latent."""
    DeepseekV3Config, DeepseekV3ForCausalLM = of_transformers("DeepseekV3Config", "DeepseekV3ForCausalLM")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "moe_intermediate_size": 12, "first_k_dense_replace": 0}
    routes = {"n_routed_experts": 16, "n_group": 4, "topk_group": 2, "n_shared_experts": 1}
    latent = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
    heads = _EXPERTS | {"num_key_value_heads": 4, "bos_token_id": 1, "eos_token_id": 2}
    return _looping(DeepseekV3ForCausalLM(DeepseekV3Config(**sizes, **routes, **latent, **heads)))


@subject(WORDS, "hidden 8", "experts 5", "hidden 9")
class Routed(nn.Module):
    """A mixture of experts written by hand: two of five for every token, their weights picked by number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.router, self.head = nn.Linear(8, 8), nn.Linear(8, 5), nn.Linear(8, 5)
        self.up, self.down = nn.Parameter(torch.zeros(5, 9, 8)), nn.Parameter(torch.zeros(5, 8, 9))
        self.bias = nn.Parameter(torch.zeros(5, 9))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        _, numbers = self.router(x).topk(2)
        share = self.router(x).gather(-1, numbers).softmax(-1)
        hidden = ((self.up[numbers] @ x[..., None, :, None]).squeeze(-1) + self.bias[numbers]).relu()
        made = (self.down[numbers] @ hidden[..., None]).squeeze(-1)
        return self.head(x + (made * share[..., None]).sum(2))


# cuts


@cache
def coupled(name: str) -> tuple[nn.Module, Coupling]:
    """A model of the zoo and its families; both stay as they are."""
    model = ZOO[name].model()
    return model, couple(model, ZOO[name].call())


def offered(coupling: Coupling) -> Counter[str]:
    """Families as the zoo spells them."""
    return Counter(f"{family.kind} {family.size}" for family in coupling.families)


def drawn(coupling: Coupling, g: torch.Generator) -> dict[str, Tensor]:
    """A keep-set: a family stays whole, loses one unit, keeps one, or keeps any number of them; never none."""
    found = {}
    for family in coupling.families:
        style = int(torch.randint(5, (), generator=g))
        order = torch.rand(family.size, generator=g).argsort()
        kept = {0: family.size, 1: family.size - 1, 2: family.floor}.get(style)
        if kept is None:
            kept = int(torch.randint(family.floor, family.size + 1, (), generator=g))
        if kept < family.size:
            found[family.name] = torch.zeros(family.size, dtype=torch.bool).index_fill(0, order[:kept], True)
    return found


def outputs(model: nn.Module, call: Callable[[Any], Any]) -> list[Tensor]:
    """Every tensor that a model gives."""
    with torch.no_grad():
        return [t.clone() for t in tensors_in(call(model))]


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative difference of outputs."""
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return float("inf")
    gaps = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True)]
    return max(float("inf") if gap != gap else gap for gap in gaps)


@dataclass(frozen=True)
class Outcome:
    """A cut: the smaller model, what was done, and how far it is from both references."""

    model: nn.Module
    call: Callable[[Any], Any]
    surgery: Surgery
    zeros: float
    garbage: float
    bound: float

    @property
    def exact(self) -> bool:
        """Whether it computes what it should."""
        return max(self.zeros, self.garbage) < self.bound


def cut(name: str, keep: Mapping[str, Tensor], seed: int = 0) -> Outcome:
    """Cut a model of the zoo and compare it on fresh inputs; `coupled` stays as it is."""
    dense, coupling = coupled(name)
    model, gone = copy.deepcopy(dense), coupling.gone(keep)
    call = ZOO[name].call(seed + 1)
    wanted = masked_outputs(model, call, coupling, gone)
    littered = masked_outputs(model, call, coupling, gone, garbage=seed)
    surgery = cut_(model, ZOO[name].call(), coupling, gone)
    found = outputs(model, call)
    bound = 1e-10 if coupling.graph.coarsest < 1e-12 else 1e-6  # norms and routers in single precision
    return Outcome(model, call, surgery, distance(found, wanted), distance(found, littered), bound)


@dataclass
class Tally:
    """Of cuts at random: how many were right, by model those that were refused, and what went wrong."""

    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def random_cuts(seeds: Iterable[int], names: Iterable[str] = ()) -> Tally:
    """One cut for each seed, of a model and with a keep-set that it draws."""
    choice, tally = list(names) or list(ZOO), Tally()
    for seed in seeds:
        g = torch.Generator().manual_seed(seed)
        name = choice[seed % len(choice)]
        coupling = coupled(name)[1]
        try:
            made = cut(name, drawn(coupling, g), seed)
        except SubjectError:
            tally.refused[name] += 1
            continue
        except Exception as error:  # a model that does not run is what this looks for
            tally.wrong.append(f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:300]}")
            continue
        tally.right += made.exact
        if not made.exact:
            tally.wrong.append(f"{name}, seed {seed}: off by {made.zeros:.1e}, with garbage {made.garbage:.1e}")
    return tally
