"""A compact network for small images, in the manner of MobileNetV3-Small (Howard et al., ICCV 2019)."""

from torch import Tensor, nn
from torch.nn import functional as F

# kernel, expanded and given channels at width 1, squeeze and excitation, hard-swish, stride
_BLOCKS = (
    (3, 32, 16, True, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 160, 40, True, True, 1),
)
_STEM, _LAST, _HIDDEN = 16, 160, 128


def _eighths(channels: float) -> int:
    """The nearest multiple of 8, at least 8."""
    return max(8, int(channels + 4) // 8 * 8)


class _Excite(nn.Module):
    """Channels weighed by what all of them show on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _eighths(channels / 4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(weights)


class _Inverted(nn.Module):
    """Expansion, depthwise convolution, excitation, projection; added to the input where the shapes agree."""

    def __init__(self, cin: int, kernel: int, wide: int, cout: int, excite: bool, swish: bool, stride: int) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(cin, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.excite = _Excite(wide) if excite else nn.Identity()
        self.project, self.norm3 = nn.Conv2d(wide, cout, 1, bias=False), nn.BatchNorm2d(cout)
        self.act = nn.Hardswish() if swish else nn.ReLU()
        self.adds = cin == cout and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        wide = self.act(self.norm1(self.expand(x)))
        wide = self.excite(self.act(self.norm2(self.depthwise(wide))))
        y: Tensor = self.norm3(self.project(wide))
        return x + y if self.adds else y


class SmallMobileNet(nn.Module):
    """Five inverted residual blocks with squeeze and excitation: `[batch, 3, 16.., 16..] -> [batch, classes]`.

    Args:
        width: multiplies all channels, which are multiples of 8; members of a family differ by it.
    """

    def __init__(self, width: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        channels, last, hidden = (_eighths(width * c) for c in (_STEM, _LAST, _HIDDEN))
        self.stem, self.norm = nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        blocks = []
        for kernel, wide, cout, excite, swish, stride in _BLOCKS:
            wide, cout = _eighths(width * wide), _eighths(width * cout)
            blocks.append(_Inverted(channels, kernel, wide, cout, excite, swish, stride))
            channels = cout
        self.blocks = nn.Sequential(*blocks)
        self.last, self.last_norm = nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last)
        self.hidden, self.classifier = nn.Linear(last, hidden), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        x = self.blocks(F.hardswish(self.norm(self.stem(x))))
        x = F.hardswish(self.last_norm(self.last(x))).mean((2, 3))
        logits: Tensor = self.classifier(F.hardswish(self.hidden(x)))
        return logits
