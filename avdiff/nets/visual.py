"""Visual front ends: mouth crops in, one feature vector a video frame out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from avdiff.errors import UserError
from avdiff.nets.film import resample_time
from avdiff.types import SAMPLE_RATE


class VisualEncoder(nn.Module, ABC):
    """Lips to features.

    Attributes:
        dim: size of a feature vector.
        frozen: it is not trained, and stays in evaluation mode whatever the module that holds it does.
    """

    dim: int
    frozen: bool = False

    def freeze(self) -> None:
        """Keep the weights as they are from now on."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> VisualEncoder:
        return super().train(mode and not self.frozen)

    @abstractmethod
    def forward(self, crops: Tensor) -> Tensor:
        """(N, F, 96, 96) uint8 grey mouth crops at 25 fps -> (N, F, dim)."""


class VideoTime(nn.Module):
    """Residual depthwise-separable convolution along video frames: (N, dim, F) -> (N, dim, F).

    Args:
        dim: channels.
        norm: between the two convolutions, of `dim` channels.
    """

    def __init__(self, dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.BatchNorm1d(dim),
            nn.Conv1d(dim, dim, 3, padding=1, groups=dim, bias=False),
            nn.PReLU(),
            norm,
            nn.Conv1d(dim, dim, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class CachedFeatures(VisualEncoder):
    """Features that were computed beforehand pass through: (N, F, dim) -> (N, F, dim)."""

    def __init__(self, dim: int = 1024) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, crops: Tensor) -> Tensor:
        if crops.ndim != 3 or crops.shape[-1] != self.dim:
            raise UserError(
                f"the network reads {self.dim} features a picture, made beforehand by avdiff prepare features, and was given "
                f"{_told(crops)}; give it a list with such features, or take a prior that reads mouths"
            )
        return crops.to(torch.float32)


def _told(visual: Tensor) -> str:
    return f"{visual.shape[-1]} a picture" if visual.ndim == 3 else "pictures of mouths"


class _TemporalBlock(nn.Module):
    """Residual dilated convolution along video frames."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, dim)
        self.conv0 = nn.Conv1d(dim, dim, 3, padding=dilation, dilation=dilation)
        self.conv1 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1(F.silu(self.conv0(self.norm(x))))


class LipEncoder(VisualEncoder):
    """A small lip reader: the 88x88 centre of three frames, strided convolutions, then dilated ones in time.

    Every frame is standardised by its own mean and deviation, so light and skin tone do not reach the network.

    Args:
        width: channels of the stem.
        dim: size of a feature vector.
        dilations: of the temporal blocks; their reach is the sum, in frames, to each side.
    """

    def __init__(self, width: int = 24, dim: int = 192, dilations: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.dim = dim
        self.spatial = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.GroupNorm(4, width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 4 * width),
            nn.SiLU(),
            nn.Conv2d(4 * width, 2 * width, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 36, dim),
        )
        self.temporal = nn.Sequential(*(_TemporalBlock(dim, dilation) for dilation in dilations))

    def forward(self, crops: Tensor) -> Tensor:
        if crops.ndim != 4:
            raise UserError(
                f"the network reads pictures of mouths and was given features made beforehand, {_told(crops)}; give it a list "
                "with mouths, or take a prior that reads features"
            )
        n, frames = crops.shape[:2]
        x = F.avg_pool2d(crops[:, :, 4:92, 4:92].float(), 2)  # (N, F, 44, 44)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1.0)
        past, future = torch.cat([x[:, :1], x[:, :-1]], dim=1), torch.cat([x[:, 1:], x[:, -1:]], dim=1)
        x = self.spatial(torch.stack([past, x, future], dim=2).flatten(0, 1)).unflatten(0, (n, frames))
        return self.temporal(x.transpose(1, 2)).transpose(1, 2)


class LipSpectrum(nn.Module):
    """How loud each band of the voice is, ten milliseconds by ten, read off lip features by a linear map.

    Speech in a bin is taken as Gaussian with deviation spectrum(f) e^g, g the value of its band, linear between the centres
    of the bands. Ours.

    Args:
        inputs: size of a visual feature.
        bins: frequency bins from 0 Hz to half the sample rate.
        bands: mel bands.
        hops: values a video frame in time.
        span: least and largest g. The floor decides what a voice may still say against its lips.
        sample_rate: Hz.
    """

    filters: Tensor

    def __init__(
        self,
        inputs: int,
        bins: int = 256,
        bands: int = 24,
        hops: int = 4,
        span: tuple[float, float] = (-2.0, 2.0),
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        super().__init__()
        self.span = span
        self.bands, self.hops, self.dim = bands, hops, bands * hops
        self.project = nn.Linear(inputs, self.dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        with torch.device("cpu"):  # it looks at values, which a meta device has not
            filters = melscale_fbanks(bins, 0.0, sample_rate / 2, bands, sample_rate)
        filters[0, 0] = filters[-1, -1] = 1.0
        self.register_buffer("filters", filters.to(self.project.weight.device), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, inputs) -> (N, F, dim): g, all zero for a new module."""
        return self.project(features).clamp(*self.span)

    def gains(self, g: Tensor, frames: int) -> Tensor:
        """g (N, dim, F) -> e^g (N, bins, frames), the frames spread evenly over the video."""
        fine = g.unflatten(1, (self.hops, self.bands)).permute(0, 2, 3, 1).flatten(2)  # (N, bands, F * hops)
        share = self.filters / self.filters.sum(1, keepdim=True)
        return (share @ resample_time(fine, frames).float()).exp()

    def powers(self, power: Tensor) -> Tensor:
        """Mean power of each band, (N, bins, F * hops) -> (N, F, dim)."""
        banded = (self.filters / self.filters.sum(0)).T @ power
        return banded.unflatten(2, (-1, self.hops)).permute(0, 2, 3, 1).flatten(2)

    @torch.enable_grad()
    def fit(self, features: Tensor, powers: Tensor, steps: int = 100, penalty: float = 1e-3) -> None:
        """Maximum likelihood for exponential powers of mean e^{2g}, which is convex in the map: L-BFGS.

        Args:
            features: (M, inputs).
            powers: (M, dim) of `powers`, relative to the square of the long-term spectrum.
            steps: most iterations.
            penalty: on the squared weights of standardised features.
        """
        powers = powers.clamp_min(math.exp(2 * self.span[0]))
        mean, deviation = features.mean(0), features.std(0) + 1e-4
        inputs = (features - mean) / deviation
        weight = inputs.new_zeros(self.dim, inputs.shape[1], requires_grad=True)
        bias = (0.5 * powers.mean(0).log()).requires_grad_(True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            g = F.linear(inputs, weight, bias)
            value = (2 * g + powers * (-2 * g).exp()).mean() + penalty * weight.square().sum() / self.dim
            value.backward()
            return value

        optimizer.step(loss)
        with torch.no_grad():
            self.project.weight.copy_(weight / deviation)
            self.project.bias.copy_(bias - weight @ (mean / deviation))


class TemporalAdapter(nn.Module):
    """Visual features to conditioning vectors: norm, projection, dilated convolutions in time.

    Args:
        inputs: size of a visual feature.
        dim: size of a conditioning vector.
        dilations: one residual block each.
    """

    def __init__(self, inputs: int, dim: int = 128, dilations: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(inputs)
        self.project = nn.Linear(inputs, dim)
        self.blocks = nn.Sequential(*(_TemporalBlock(dim, dilation) for dilation in dilations))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, inputs) -> (N, F, dim)."""
        return self.blocks(self.project(self.norm(features)).transpose(1, 2)).transpose(1, 2)


class TransformerAdapter(nn.Module):
    """The temporal adapter of the `paper` preset: transformer layers over video frames.

    SSNAPS does not say how its 90 M conditioning parameters are spent; six layers of width 1024 come nearest.

    Positions count from the start of a block, and attention ends with it. A longer video is read block by block: side by side
    from its start, but for the last, which ends with the video and gives only what the others leave.

    Args:
        inputs: size of a visual feature, also the width of the layers and of a conditioning vector.
        layers, heads: of the encoder; the feed-forward width is four times `inputs`.
        window: most video frames of a block: as many as training clips have.
    """

    def __init__(self, inputs: int = 1024, layers: int = 6, heads: int = 16, window: int = 100) -> None:
        super().__init__()
        self.dim, self.window = inputs, window
        layer = nn.TransformerEncoderLayer(
            inputs, heads, 4 * inputs, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(inputs)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, inputs) -> (N, F, inputs)."""
        frames = features.shape[1]
        starts = range(0, frames - self.window, self.window)  # of all blocks but the last
        blocks = [self._block(features[:, start : start + self.window]) for start in starts]
        last = self._block(features[:, max(0, frames - self.window) :])
        return torch.cat([*blocks, last[:, len(starts) * self.window - frames :]], dim=1)

    def _block(self, features: Tensor) -> Tensor:
        x = self.norm(features)
        return self.encoder(x + _sinusoids(x.shape[1], x.shape[2], x))


def _sinusoids(steps: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoidal position codes (Vaswani et al., arXiv 1706.03762), (steps, dim)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device) * (-torch.log(torch.tensor(10000.0)) / dim))
    angle = torch.arange(steps, device=like.device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)
