"""NCSN++M: the score network of BUDDy, SSNAPS and their relatives, in plain torch.

Architecture: Song et al., "Score-Based Generative Modeling through SDEs" (arXiv 2011.13456), NCSN++ with BigGAN residual
blocks, input and output skip pyramids, reduced as in StoRM and BUDDy (arXiv 2405.04272) to four resolutions and one
attention in the bottleneck. FiLM, spectrogram patches and frequency embeddings are ours.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.nets.coherent import CoherentSums
from avdiff.nets.film import FiLM, resample_time

SKIP = 1 / math.sqrt(2)  # residual sums keep unit variance
NEAR_ZERO = 1e-10  # gain of the layers that start a block as the identity


def _variance_scaling(weight: Tensor, gain: float = 1.0) -> None:
    """DDPM's initialisation: uniform, fan average."""
    nn.init.xavier_uniform_(weight, gain=math.sqrt(gain))


def conv(inputs: int, outputs: int, size: int, gain: float = 1.0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    _variance_scaling(layer.weight, gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    _variance_scaling(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    most = min(channels // 4, 32)
    groups = next(g for g in range(most, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


def fold(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Planes (N, C, bins, frames) -> (N, C * area, bins / p, frames / q), the area of a patch being p q."""
    p, q = patch
    n, c, h, w = x.shape
    return x.view(n, c, h // p, p, w // q, q).permute(0, 1, 3, 5, 2, 4).reshape(n, c * p * q, h // p, w // q)


def unfold(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Undo `fold` of any number of planes: (N, C * area, h, w) -> (N, C, bins, frames)."""
    p, q = patch
    n, _, h, w = x.shape
    return x.view(n, -1, p, q, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, -1, h * p, w * q)


def down(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class NoiseEmbedding(nn.Module):
    """Gaussian Fourier features of the noise condition and a two-layer perceptron.

    Args:
        channels: half the number of Fourier features.
        scale: standard deviation of the fixed frequencies.
    """

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(channels) * scale, requires_grad=False)
        self.first = linear(2 * channels, 4 * channels)
        self.second = linear(4 * channels, 4 * channels)

    def forward(self, c_noise: Tensor) -> Tensor:
        """(N,) -> (N, 4 * channels)."""
        # the order of the published product: frequencies are large, so float32 rounding shows in the fourth digit
        angle = c_noise[:, None] * self.frequencies * 2 * math.pi
        features = torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.first.weight.dtype)
        return self.second(F.silu(self.first(features)))


class ResBlock(nn.Module):
    """BigGAN residual block: norm, SiLU, [resample], conv, + noise bias, norm, [FiLM], SiLU, conv, + shortcut.

    Args:
        inputs, outputs: channels.
        noise_dim: size of the noise embedding.
        cond_dim: size of the conditioning vector for FiLM at the second norm; None for none.
        resample: `down`, `up` or None.
    """

    def __init__(
        self, inputs: int, outputs: int, noise_dim: int, cond_dim: int | None = None, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = {"down": down, "up": up, None: None}[resample]
        self.norm0 = group_norm(inputs)
        self.conv0 = conv(inputs, outputs, 3)
        self.noise = linear(noise_dim, outputs)
        self.norm1 = group_norm(outputs)
        self.film = FiLM(cond_dim, outputs) if cond_dim else None
        self.conv1 = conv(outputs, outputs, 3, gain=NEAR_ZERO)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs or resample else None

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        h = F.silu(self.norm0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv0(h) + self.noise(F.silu(noise))[:, :, None, None]
        h = self.norm1(h)
        if self.film is not None and cond is not None:
            h = self.film(h, cond)
        h = self.conv1(F.silu(h))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return (x + h) * SKIP


class Attention(nn.Module):
    """Single-head self-attention over all positions of a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.query, self.key, self.value = (linear(channels, channels) for _ in range(3))
        self.out = linear(channels, channels)
        _variance_scaling(self.out.weight, NEAR_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(
            self.query(tokens).unsqueeze(1), self.key(tokens).unsqueeze(1), self.value(tokens).unsqueeze(1)
        )
        return (x + self.out(attended.squeeze(1)).transpose(1, 2).unflatten(2, x.shape[2:])) * SKIP


class NCSNpp(nn.Module):
    """A spectrogram and a noise level in, a spectrogram out. No loss, no sigma, no roles.

    With the default arguments this is the public NCSN++M (27,736,590 parameters).

    Args:
        channels: of the first level.
        multipliers: channel multiplier of each level; every level but the last halves both axes.
        blocks: residual blocks a level in the encoder (the decoder has one more).
        attention: levels, 0 the finest, with attention after every block; the bottleneck always has one.
        cond_dim: size of the visual conditioning vectors that modulate every block by FiLM; None for no video.
        cond_planes: feature planes drawn from the video alone and added at the stem, as a coarse guess of the
            spectrogram; 0 for none. Ours.
        patch: (frequency, time) bins folded into one position before the stem. Ours; (1, 1) is the published form.
        bins: frequency bins.
        frequency_embedding: add a learned vector for every frequency at each level. Ours.
        compression: exponent on the input's magnitudes, |X|^a e^{j angle}. Ours; 1 is the published form.
        scale: spectrogram amplitude of a unit-variance signal. Inputs are divided by it and outputs multiplied. 1 is the
            published form (9.8 at hop 160 and Hann 510).
        mask: also predict a gain for every bin of the input and add the product. A denoiser is mostly a filter, and few
            channels cannot multiply. Ours.
        local: also take the noise level in every bin, and return a third plane, for the log-variance of the error. Ours.
        views: see `CoherentSums`. With any, the network sees magnitudes alone, of the input and of these views of it, and
            predicts a gain for every bin of each: their weighted sum is the output. Such a network turns with its input,
            F(e^{ja} X) = e^{ja} F(X). Ours.
    """

    def __init__(
        self,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (),
        cond_dim: int | None = None,
        cond_planes: int = 0,
        patch: tuple[int, int] = (1, 1),
        bins: int = 256,
        frequency_embedding: bool = False,
        compression: float = 1.0,
        scale: float = 1.0,
        mask: bool = False,
        local: bool = False,
        views: tuple[tuple[int, float], ...] = (),
    ) -> None:
        super().__init__()
        if cond_planes and not cond_dim:
            raise ValueError(f"cond_planes={cond_planes} needs video: set cond_dim")
        if bins % (patch[0] * 2 ** (len(multipliers) - 1)):
            raise ValueError(
                f"{bins} bins cannot be cut into patches of {patch[0]} and halved {len(multipliers) - 1} times"
            )
        self.patch, self.compression, self.scale = patch, compression, scale
        self.levels, self.blocks, self.cond_dim, self.cond_planes = len(multipliers), blocks, cond_dim, cond_planes
        #: frames must be a multiple of this
        self.time_multiple = patch[1] * 2 ** (self.levels - 1)
        widths = [channels * m for m in multipliers]
        heights = [bins // patch[0] // 2**level for level in range(self.levels)]
        area = patch[0] * patch[1]
        self.views = CoherentSums(views, bins) if views else None
        folded = area * (1 + len(views)) if views else 2 * area
        wanted = folded + (area if mask and not views else 0)
        self.mask = mask
        noise_dim = 4 * channels

        def block(inputs: int, outputs: int, resample: str | None = None) -> ResBlock:
            return ResBlock(inputs, outputs, noise_dim, cond_dim, resample)

        def attend(level: int) -> nn.Module:
            return Attention(widths[level]) if level in attention else nn.Identity()

        self.embed = NoiseEmbedding(channels)
        self.stem = conv(folded, channels, 3)
        self.planes = nn.Conv1d(cond_dim, cond_planes * heights[0], 1) if cond_dim is not None and cond_planes else None
        self.plane_stem = conv(cond_planes, channels, 3, gain=NEAR_ZERO) if cond_planes else None
        self.local_stem = conv(area, channels, 3, gain=NEAR_ZERO) if local else None
        self.frequency = nn.ParameterList(
            [nn.Parameter(torch.zeros(width, height, 1)) for width, height in zip(widths, heights, strict=True)]
            if frequency_embedding
            else []
        )

        self.encoder, self.encoder_attention = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.combine = nn.ModuleList(), nn.ModuleList()
        skips, width = [channels], channels
        for level in range(self.levels):
            for _ in range(blocks):
                self.encoder.append(block(width, widths[level]))
                self.encoder_attention.append(attend(level))
                width = widths[level]
                skips.append(width)
            if level < self.levels - 1:
                self.shrink.append(block(width, width, "down"))
                self.combine.append(conv(folded, width, 1))
                skips.append(width)

        self.middle0, self.middle_attention, self.middle1 = block(width, width), Attention(width), block(width, width)

        self.decoder, self.decoder_attention = nn.ModuleList(), nn.ModuleList()
        self.grow, self.head_norm, self.head = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(self.levels)):
            for _ in range(blocks + 1):
                self.decoder.append(block(width + skips.pop(), widths[level]))
                self.decoder_attention.append(attend(level))
                width = widths[level]
            self.head_norm.append(group_norm(width))
            self.head.append(conv(width, wanted, 3, gain=NEAR_ZERO))
            if level:
                self.grow.append(block(width, width, "up"))
        self.output = conv(wanted, wanted, 1)
        self.local_head = conv(width, area, 3, gain=NEAR_ZERO) if local else None

    def _compress(self, x: Tensor) -> Tensor:
        if self.compression == 1:
            return x
        magnitude = x.square().sum(1, keepdim=True).add(1e-8).sqrt()
        return x * magnitude ** (self.compression - 1)

    def _magnitudes(self, views: Tensor) -> Tensor:
        """Compressed magnitudes (N, V, bins, frames) of (N, V, 2, bins, frames), about zero on average for white noise."""
        return (views.square().sum(2) + 1e-8) ** (self.compression / 2) - 0.9

    def forward(self, x: Tensor, c_noise: Tensor, cond: Tensor | None = None, local: Tensor | None = None) -> Tensor:
        """The raw network F.

        Args:
            x: (N, 2, bins, frames), real and imaginary part; frames a multiple of `time_multiple`.
            c_noise: (N,) noise condition (EDM: ln(sigma) / 4).
            cond: (N, cond_dim, F) conditioning spread evenly over the frames, or None.
            local: (N, bins, frames) log noise level in every bin, for a network with `local`; None where it is not.

        Returns:
            (N, 2, bins, frames), and a third plane where the network has `local`.
        """
        if x.shape[-1] % self.time_multiple:
            raise ValueError(f"{x.shape[-1]} frames were given; pad to a multiple of {self.time_multiple}")
        noise = self.embed(c_noise)
        views = None if self.views is None else torch.cat([x[:, None].float(), self.views(x)], dim=1)
        seen = self._compress(x / self.scale) if views is None else self._magnitudes(views / self.scale)
        pyramid_in = fold(seen, self.patch)
        h = self.stem(pyramid_in)
        if self.planes is not None and self.plane_stem is not None and cond is not None:
            planes = resample_time(self.planes(cond), h.shape[-1])
            h = h + self.plane_stem(planes.unflatten(1, (self.cond_planes, h.shape[2])))
        if self.local_stem is not None and local is not None:
            h = h + self.local_stem(fold(local[:, None], self.patch))
        if self.frequency:
            h = h + self.frequency[0]

        encoder = zip(self.encoder, self.encoder_attention, strict=True)
        skips = [h]
        for level in range(self.levels):
            for _ in range(self.blocks):
                block, attention = next(encoder)
                h = attention(block(h, noise, cond))
                skips.append(h)
            if level < self.levels - 1:
                pyramid_in = down(pyramid_in)
                h = self.shrink[level](h, noise, cond) + self.combine[level](pyramid_in)
                if self.frequency and level + 1 < self.levels:
                    h = self._embed_frequency(h, level + 1)
                skips.append(h)

        h = self.middle1(self.middle_attention(self.middle0(h, noise, cond)), noise, cond)

        decoder = zip(self.decoder, self.decoder_attention, strict=True)
        pyramid_out: Tensor | None = None
        for step in range(self.levels):
            for _ in range(self.blocks + 1):
                block, attention = next(decoder)
                h = attention(block(torch.cat([h, skips.pop()], dim=1), noise, cond))
            last = F.silu(self.head_norm[step](h))
            head = self.head[step](last)
            pyramid_out = head if pyramid_out is None else up(pyramid_out) + head
            if step < self.levels - 1:
                h = self.grow[step](h, noise, cond)
        assert pyramid_out is not None
        planes = unfold(self.output(pyramid_out), self.patch)
        if views is not None:
            out = (planes[:, :, None] * views).sum(1)
        else:
            out = planes[:, :2] * self.scale
            if self.mask:
                out = out + planes[:, 2:] * x
        if self.local_head is not None:
            out = torch.cat([out, unfold(self.local_head(last), self.patch)], dim=1)
        return out

    def _embed_frequency(self, h: Tensor, level: int) -> Tensor:
        # the first map of a level still has the width of the level above
        embedding = self.frequency[level]
        return h + embedding[: h.shape[1]]
