"""The three networks of the DCASE 2020 two-stage scene classifier (arXiv 2007.08389), at their widths or narrower.

All take (B, 3, F, N), log-mel features with their differences, of any length, and give (B, classes) logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SceneNet(nn.Module):
    """What the three share.

    Args:
        classes: outputs.
        width: channels of the first stage.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        if classes < 2 or width < 1:
            raise ValueError(
                f"{type(self).__name__} was given {classes} classes and width {width}; give at least 2 and 1"
            )
        self.classes, self.width = classes, width


class _Block(nn.Module):
    """Two pre-activated convolutions beside a shortcut that has no parameters."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels, affine=False), nn.BatchNorm2d(out, affine=False)
        self.conv1 = nn.Conv2d(channels, out, 3, (1, stride), 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.stride, self.more = stride, out - channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        if self.stride > 1:
            x = F.avg_pool2d(x, 3, (1, self.stride), 1, count_include_pad=False)
        return y + F.pad(x, (0, 0, 0, 0, 0, self.more))


class SceneResNet(SceneNet):
    """Residual network that never takes low and high frequencies together before its end.

    13.0 M parameters with ten classes and width 48; 3.2 M with three and 24.

    Args:
        classes: outputs.
        width: channels of the first of four stages; each doubles them.
    """

    def __init__(self, classes: int = 10, width: int = 48) -> None:
        super().__init__(classes, width)
        self.low, self.high = self._path(width), self._path(width)
        top, wide = 8 * width, 32 * width
        self.head = nn.Sequential(
            nn.BatchNorm2d(top, affine=False), nn.ReLU(), nn.Conv2d(top, wide, 1, bias=False),
            nn.BatchNorm2d(wide, affine=False), nn.Conv2d(wide, classes, 1, bias=False),
            nn.BatchNorm2d(classes, affine=False),
        )  # fmt: skip

    @staticmethod
    def _path(width: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.BatchNorm2d(3), nn.Conv2d(3, width, 3, (1, 2), 1, bias=False)]
        channels = width
        for stage in range(4):
            out = width * 2**stage
            layers += [_Block(channels, out, 2 if stage else 1), _Block(out, out, 1)]
            channels = out
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[2] // 2
        y = torch.cat([self.low(x[:, :, :half]), self.high(x[:, :, half:])], 2)
        return self.head(y).mean((2, 3))


class _Attention(nn.Module):
    """Weights channels by what their mean and their maximum say."""

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels // ratio), nn.ReLU(), nn.Linear(channels // ratio, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * weight[..., None, None]


def _conv(channels: int, out: int, size: int = 3, stride: int | tuple[int, int] = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def _head(channels: int, classes: int) -> list[nn.Module]:
    return [*_conv(channels, classes, 1), nn.BatchNorm2d(classes), _Attention(classes)]


class SceneFCNN(SceneNet):
    """Fully convolutional network, 11.8 M parameters with ten classes and width 144.

    Args:
        classes: outputs.
        width: channels of the first of three stages; each doubles them.
        dropout: between the convolutions of the last one.
    """

    def __init__(self, classes: int = 10, width: int = 144, dropout: float = 0.3) -> None:
        super().__init__(classes, width)
        last = 4 * width
        self.body = nn.Sequential(
            nn.BatchNorm2d(3),
            *_conv(3, width, 5, 2), *_conv(width, width), nn.MaxPool2d(2),
            *_conv(width, 2 * width), *_conv(2 * width, 2 * width), nn.MaxPool2d(2),
            *_conv(2 * width, last), nn.Dropout(dropout), *_conv(last, last), nn.Dropout(dropout),
            *_conv(last, last), nn.Dropout(dropout), *_conv(last, last), nn.MaxPool2d(2),
            *_head(last, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))


class SceneFsFCNN(SceneNet):
    """The same idea with less sub-sampling of frequency, 16.5 M parameters with ten classes and width 48.

    Args:
        classes: outputs.
        width: channels of the first stage; the later ones have 2, 32/3 and 16 times as many.
        dropout: between the convolutions of the last one.
    """

    def __init__(self, classes: int = 10, width: int = 48, dropout: float = 0.5) -> None:
        super().__init__(classes, width)
        middle, last = 32 * width // 3, 16 * width
        self.body = nn.Sequential(
            nn.BatchNorm2d(3),
            *_conv(3, width, 5, (1, 2)), *_conv(width, width), nn.MaxPool2d(3, (2, 2), 1),
            *_conv(width, 2 * width), *_conv(2 * width, 2 * width), nn.MaxPool2d(3, (2, 2), 1),
            *_conv(2 * width, middle), *_conv(middle, middle), nn.MaxPool2d(3, (1, 2), 1),
            *_conv(middle, middle), *_conv(middle, middle), nn.MaxPool2d(3, (1, 2), 1),
            *_conv(middle, last), nn.Dropout(dropout), *_conv(last, last),
            *_head(last, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))
