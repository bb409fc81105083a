"""A small one-scale detector without anchors, and what good means for it where pictures show one object."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

_OBJECTNESS = 0.6  # a box scores objectness^0.6 class^0.4


def best_scores(outputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
    """The score of the best box of each class: objectness and class probability, at the best place."""
    scores: Tensor = outputs[:, :1].clamp_min(1e-9) ** _OBJECTNESS * outputs[:, 5:].clamp_min(1e-9) ** (1 - _OBJECTNESS)
    return scores.flatten(2).amax(2)


def picture_loss(outputs: Float[Tensor, "batch channels height width"], classes: Int[Tensor, " batch"]) -> Tensor:
    """-log of the best score of the picture's own class, the mean over the batch: it needs no boxes."""
    return -best_scores(outputs).gather(1, classes[:, None]).log().mean()


class BestBox:
    """Share of pictures whose best box has the right class and scores more than `least`."""

    def __init__(self, least: float = 0.1) -> None:
        self._least = least
        self.reset()

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Take in one batch: maps `[batch, 5 + classes, height, width]`, classes `[batch]`."""
        value, best = best_scores(outputs).max(1)
        self._right += int(((best == target) & (value > self._least)).sum())
        self._seen += target.numel()

    def compute(self) -> float:
        """The share so far."""
        return self._right / max(self._seen, 1)

    def reset(self) -> None:
        """Forget all batches."""
        self._right = self._seen = 0


def _conv(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True) -> list[nn.Module]:
    made = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return [*made, nn.ReLU(inplace=True)] if relu else made


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNetV2; with stride 1, half of the channels pass by and the other half, `cin`, are worked on."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        middle = cout // 2
        self.main = nn.Sequential(
            *_conv(cin, middle), *_conv(middle, middle, 3, stride, middle, relu=False), *_conv(middle, cout - cin)
        )
        self.skip = None
        if stride == 2:
            self.skip = nn.Sequential(*_conv(cin, cin, 3, 2, cin, relu=False), *_conv(cin, cin))

    def forward(self, x: Tensor) -> Tensor:
        """Twice the working channels."""
        if self.skip is not None:
            return torch.cat([self.skip(x), self.main(x)], 1)
        batch, channels, height, width = x.shape
        pairs = x.reshape(batch, channels // 2, 2, height, width)
        return torch.cat([pairs[:, :, 0], self.main(pairs[:, :, 1])], 1)


class FastestDet(nn.Module):
    """The architecture of FastestDet: a ShuffleNetV2 trunk of half width, three strides merged, a head at stride 16.

    Pictures `[batch, 3, 352, 352]`, BGR in [0, 1], give `[batch, 5 + classes, 22, 22]`: objectness, box x, y, w, h
    before squashing, class probabilities. Parameter names are those of the sample data's file.
    """

    def __init__(self, classes: int = 80, depths: tuple[int, int, int] = (4, 8, 4)) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, 24, 3, 2))
        self.stage2, self.stage3, self.stage4 = (self._stage(24 << i, 48 << i, depth) for i, depth in enumerate(depths))
        self.merge = nn.Sequential(*_conv(48 + 96 + 192, 96))
        self.spp = nn.ModuleList(
            nn.Sequential(*(m for _ in range(k) for m in _conv(96, 96, 5, groups=96))) for k in (1, 2, 3)
        )
        self.spp_out = nn.Sequential(*_conv(288, 96, relu=False))
        self.head = nn.Sequential(*_conv(96, 96))
        self.obj, self.box, self.cls = (
            nn.Sequential(*_conv(96, 96, 5, groups=96), *_conv(96, n, relu=False)) for n in (1, 4, classes)
        )

    @staticmethod
    def _stage(cin: int, cout: int, depth: int) -> nn.Sequential:
        rest = (ShuffleUnit(cout // 2, cout, 1) for _ in range(depth - 1))
        return nn.Sequential(ShuffleUnit(cin, cout, 2), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """A map of objectness, boxes and classes."""
        fine = self.stage2(F.max_pool2d(self.stem(x), 3, 2, 1))
        middle = self.stage3(fine)
        coarse = F.interpolate(self.stage4(middle), scale_factor=2.0, mode="nearest")
        x = self.merge(torch.cat([F.avg_pool2d(fine, 3, 2, 1), middle, coarse], 1))
        x = F.relu(x + self.spp_out(torch.cat([branch(x) for branch in self.spp], 1)))
        x = self.head(x)
        return torch.cat([self.obj(x).sigmoid(), self.box(x), self.cls(x).softmax(1)], 1)
