"""Small models that train in seconds."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DigitsCNN(nn.Module):
    """Three convolutions and a classifier for 8x8 grey digits: `[batch, 1, 8, 8] -> [batch, 10]`."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def digits_mlp(width: float = 1.0) -> nn.Sequential:
    """64-300-100-10, the LeNet-300-100 of the lottery-ticket papers on 8x8 digits; `width` multiplies 300 and 100."""
    first, second = _at_least_one(300 * width), _at_least_one(100 * width)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )


def _at_least_one(size: float) -> int:
    return max(1, round(size))


def lenet_300_100() -> nn.Sequential:
    """784-300-100-10 for 28x28 images, Glorot-normal as in the lottery-ticket paper."""
    linears = [nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)]
    for linear in linears:
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linears[0], nn.ReLU(), linears[1], nn.ReLU(), linears[2])


class _Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.pad = (cout - cin) // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """ResNet of He et al. (2016), section 4.2, with option-A shortcuts: `[batch, 3, 32, 32] -> [batch, 10]`.

    Parameter names are those of the usual CIFAR checkpoints, so that published weights load.
    """

    def __init__(self, depth: int = 20, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1)
        self.layer2 = _stage(width, 2 * width, blocks, 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(cin: int, cout: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(cin, cout, stride), *(_Block(cout, cout, 1) for _ in range(blocks - 1)))


def resnet20(width: float = 1.0) -> CifarResNet:
    """ResNet-20 for CIFAR-10: 0.27 M parameters; `width` multiplies its 16, 32 and 64 channels."""
    return CifarResNet(20, _at_least_one(16 * width))


def digits_cnn(width: float = 1.0) -> DigitsCNN:
    """`DigitsCNN` with 16, 32 and 64 channels, multiplied by `width`."""
    return DigitsCNN(_at_least_one(16 * width))


class WordLSTM(nn.Module):
    """One-layer LSTM language model: token ids `[batch, time] -> logits [batch, time, vocabulary]`."""

    def __init__(self, vocabulary: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden, vocabulary)
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at every position."""
        hidden, _ = self.lstm(self.dropout(self.embedding(ids)))
        logits: Tensor = self.decoder(self.dropout(hidden))
        return logits
