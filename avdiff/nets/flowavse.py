"""FlowAVSE: the U-Nets and the face encoder of arXiv 2406.09286, a predictor and a velocity for conditional flow matching.

NCSN++ with FIR resampling, whose feature maps meet the video in cross-attention after a mean over frequency. Facts that its
paper leaves out are those of its authors' code. Patches, gains, video of the same moment and planes are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.audio.representation import FrameSTFT
from avdiff.nets.film import resample_time
from avdiff.nets.ncsnpp import NEAR_ZERO, Attention, NoiseEmbedding, ResBlock, conv, fold, group_norm, unfold
from avdiff.nets.visual import VideoTime, VisualEncoder
from avdiff.types import SAMPLES_PER_FRAME

_FIR = (1.0, 3.0, 3.0, 1.0)
FACE = 112  # pixels, to which pictures are resized


def _fir(x: Tensor) -> Tensor:
    """The separable filter as a depthwise kernel of unit gain, (C, 1, 4, 4)."""
    taps = torch.tensor(_FIR, device=x.device, dtype=x.dtype) / sum(_FIR)
    return torch.outer(taps, taps).expand(x.shape[1], 1, -1, -1)


def fir_down(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H / 2, W / 2)."""
    return F.conv2d(x, _fir(x), stride=2, padding=1, groups=x.shape[1])


def fir_up(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2 H, 2 W)."""
    return F.conv_transpose2d(x, 4 * _fir(x), stride=2, padding=1, groups=x.shape[1])


class _FIRBlock(ResBlock):
    """The residual block of NCSN++ with FIR resampling."""

    def __init__(self, inputs: int, outputs: int, noise_dim: int, resample: str | None = None) -> None:
        super().__init__(inputs, outputs, noise_dim, None, resample)
        self.resample = {"down": fir_down, "up": fir_up, None: None}[resample]


class _FaceStage(nn.Module):
    """Two residual pairs of 3x3 convolutions, the first of which may halve the picture."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.second = nn.Sequential(
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.shortcut(x)
        return F.relu(self.norm(x + self.second(x)))


class FaceEncoder(VisualEncoder):
    """FlowAVSE's visual encoder, trained with the rest: 1,580,037 parameters.

    The paper shows it whole faces; it takes whatever pictures the talkers come with, and resizes them to 112x112. The first
    convolution runs along the frames of one talker.

    Args:
        width: channels of the first two stages; the others have twice as many.
        dim: size of a feature vector.
    """

    mean, deviation = 0.4161, 0.1688  # of grey pictures, in units of full scale

    def __init__(self, width: int = 64, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.stem = nn.Sequential(
            nn.Conv3d(1, width, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        self.stages = nn.Sequential(
            _FaceStage(width, width, 1),
            _FaceStage(width, width, 2),
            _FaceStage(width, 2 * width, 2),
            _FaceStage(2 * width, 2 * width, 2),
            nn.AvgPool2d(4),
            nn.Flatten(),
        )
        self.temporal = nn.Sequential(
            *(VideoTime(2 * width, nn.GroupNorm(1, 2 * width)) for _ in range(5)),
            nn.Conv1d(2 * width, dim, 5, padding=2),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
        )

    def forward(self, crops: Tensor) -> Tensor:
        """(N, F, H, W) uint8 grey -> (N, F, dim)."""
        n, frames = crops.shape[:2]
        x = (crops.float() / 255 - self.mean) / self.deviation
        if x.shape[2:] != (FACE, FACE):
            x = F.interpolate(x, size=(FACE, FACE), mode="bilinear", align_corners=False)
        x = self.stem(x[:, None]).transpose(1, 2).flatten(0, 1)
        return self.temporal(self.stages(x).unflatten(0, (n, frames)).transpose(1, 2)).transpose(1, 2)


class _Attend(nn.Module):
    """Multi-head attention of tokens (N, T, dim) to a context (N, S, context)."""

    def __init__(self, dim: int, context: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_dim
        self.query = nn.Linear(dim, inner, bias=False)
        self.key = nn.Linear(context, inner, bias=False)
        self.value = nn.Linear(context, inner, bias=False)
        self.out = nn.Linear(inner, dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        query = self.query(x)
        context = (
            query if context is None else context
        )  # the published self-attention looks at its own query projection
        parts = (query, self.key(context), self.value(context))
        heads = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class AVFusion(nn.Module):
    """Audio meets video: feature maps, averaged over frequency, attend to the video frames; the result goes to every frequency.

    No position is told: which moment of the video belongs to which of the audio is learned.

    Args:
        channels: of the feature maps.
        width: of the tokens. Published: the number of frequencies of the map.
        visual_dim: size of a visual feature.
        heads, head_dim: of the attention; their product must be visual_dim.
        aligned: add the video of the same moment to each token, so that alignment need not be learned. Ours.
    """

    def __init__(
        self, channels: int, width: int, visual_dim: int, heads: int = 4, head_dim: int = 16, aligned: bool = False
    ) -> None:
        super().__init__()
        if heads * head_dim != visual_dim:
            raise ValueError(f"{heads} heads of {head_dim} do not make the {visual_dim} of a visual feature")
        self.norm = group_norm(channels)
        self.enter, self.leave = nn.Linear(channels, width), nn.Linear(width, channels)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.own = _Attend(width, heads * head_dim, heads, head_dim)
        self.video = _Attend(width, visual_dim, heads, head_dim)
        self.gate, self.project = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)
        self.moment = nn.Linear(visual_dim, width) if aligned else None

    def forward(self, h: Tensor, visual: Tensor) -> Tensor:
        """h (N, C, H, W), visual (N, F, D) spread evenly over W -> (N, C, H, W)."""
        x = self.enter(self.norm(h).mean(2).transpose(1, 2))
        if self.moment is not None:
            x = x + resample_time(self.moment(visual).transpose(1, 2), x.shape[1]).transpose(1, 2)
        x = x + self.own(self.norms[0](x))
        x = x + self.video(self.norms[1](x), visual)
        value, gate = self.gate(self.norms[2](x)).chunk(2, dim=-1)
        x = x + self.project(value * F.gelu(gate))
        return h + self.leave(x).transpose(1, 2).unsqueeze(2)


class AVUNet(nn.Module):
    """Spectrogram planes and video in, one complex spectrogram out. No loss, no roles.

    With the defaults: FlowAVSE's predictor (2 planes, untimed) and, with 4 planes and `timed`, its velocity network.

    The published count has projections of the time in every block of the predictor, which no time reaches: they are here, and
    see zeros, so that they are part of the graph in distributed training.

    Args:
        planes: in, two a spectrogram.
        channels: of the first level.
        multipliers: channel multiplier of each level; every level but the last halves both axes.
        visual_dim: size of a visual feature.
        heads: of the attention to the video.
        timed: take a time, too; the last map is then divided by it and the result negated.
        bins: frequency bins.
        patch: (frequency, time) bins folded into one position before the stem. Ours; (1, 1) is the published form.
        width: of the fusion's tokens; None for the number of frequencies of each level, as published.
        aligned: see `AVFusion`. Ours.
        video_planes: feature planes drawn from the video alone and added at the stem. Ours; 0 is the published form.
        mask: also predict a gain for every bin of the first spectrogram and add the product. Few channels cannot multiply.
            Ours.
        divided: divide by the time, as published. The velocity does not grow towards time zero, so it need not be.
    """

    def __init__(
        self,
        planes: int = 2,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        visual_dim: int = 64,
        heads: int = 4,
        timed: bool = False,
        bins: int = 256,
        patch: tuple[int, int] = (1, 1),
        width: int | None = None,
        aligned: bool = False,
        video_planes: int = 0,
        mask: bool = False,
        divided: bool = True,
    ) -> None:
        super().__init__()
        self.levels, self.patch, self.mask, self.divided = len(multipliers), patch, mask, divided
        if bins % (patch[0] * 2 ** (self.levels - 1)):
            raise ValueError(f"{bins} bins cannot be cut into patches of {patch[0]} and halved {self.levels - 1} times")
        #: frames must be a multiple of this
        self.time_multiple = patch[1] * 2 ** (self.levels - 1)
        widths = [channels * m for m in multipliers]
        heights = [bins // patch[0] // 2**level for level in range(self.levels)]
        area = patch[0] * patch[1]
        folded, pyramid = planes * area, (planes + mask) * area
        self.time_dim = 4 * channels

        def block(inputs: int, outputs: int, resample: str | None = None) -> _FIRBlock:
            return _FIRBlock(inputs, outputs, self.time_dim, resample)

        def fuse(level: int) -> nn.Module:
            return AVFusion(
                widths[level], width or heights[level], visual_dim, heads, visual_dim // heads, aligned=aligned
            )

        self.embed = NoiseEmbedding(channels) if timed else None
        self.stem = conv(folded, channels, 3)
        self.video_stem = nn.Conv1d(visual_dim, video_planes * heights[0], 1) if video_planes else None
        self.plane_stem = conv(video_planes, channels, 3) if video_planes else None
        self.encoder, self.encoder_fusion = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.combine = nn.ModuleList(), nn.ModuleList()
        skips, size = [channels], channels
        for level in range(self.levels):
            self.encoder.append(block(size, widths[level]))
            size = widths[level]
            skips.append(size)
            if level:
                self.encoder_fusion.append(fuse(level))
            if level < self.levels - 1:
                self.shrink.append(block(size, size, "down"))
                self.combine.append(conv(folded, size, 1))
                skips.append(size)
        self.middle0, self.middle_attention, self.middle1 = block(size, size), Attention(size), block(size, size)
        self.decoder, self.decoder_fusion, self.grow = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.head_norm, self.head = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(self.levels)):
            for _ in range(2):
                self.decoder.append(block(size + skips.pop(), widths[level]))
                size = widths[level]
            if level:
                self.decoder_fusion.append(fuse(level))
                self.grow.append(block(size, size, "up"))
            self.head_norm.append(group_norm(size))
            self.head.append(conv(size, pyramid, 3, gain=NEAR_ZERO))
        self.output = conv(planes + mask, 2 + mask, 1)

    def forward(self, x: Tensor, visual: Tensor, time: Tensor | None = None) -> Tensor:
        """(N, planes, bins, frames), (N, F, visual_dim) and, where timed, (N,) in (0, 1] -> (N, 2, bins, frames).

        Frames must be a multiple of `time_multiple`; the video is spread evenly over them.
        """
        if x.shape[-1] % self.time_multiple:
            raise ValueError(f"{x.shape[-1]} frames were given; pad to a multiple of {self.time_multiple}")
        if self.embed is None:
            temb = x.new_zeros(x.shape[0], self.time_dim)
        else:
            assert time is not None, "this network takes a time"
            temb = self.embed(time.log())
        pyramid_in = fold(2 * x - 1, self.patch)
        h = self.stem(pyramid_in)
        if self.video_stem is not None and self.plane_stem is not None:
            said = resample_time(self.video_stem(visual.transpose(1, 2)), h.shape[-1])
            h = h + self.plane_stem(said.unflatten(1, (-1, h.shape[2])))
        skips = [h]
        for level in range(self.levels):
            h = self.encoder[level](h, temb, None)
            if level:
                h = self.encoder_fusion[level - 1](h, visual)
            skips.append(h)
            if level < self.levels - 1:
                pyramid_in = fir_down(pyramid_in)
                h = self.shrink[level](h, temb, None) + self.combine[level](pyramid_in)
                skips.append(h)
        h = self.middle1(self.middle_attention(self.middle0(h, temb, None)), temb, None)
        pyramid_out: Tensor | None = None
        for step in range(self.levels):
            for block in self.decoder[2 * step : 2 * step + 2]:
                h = block(torch.cat([h, skips.pop()], dim=1), temb, None)
            last = step == self.levels - 1
            if not last:
                h = self.decoder_fusion[step](h, visual)
            head = self.head[step](F.silu(self.head_norm[step](h)))
            pyramid_out = head if pyramid_out is None else fir_up(pyramid_out) + head
            if not last:
                h = self.grow[step](h, temb, None)
        assert pyramid_out is not None
        planes = unfold(pyramid_out, self.patch)
        if time is not None and self.divided:
            planes = planes / time[:, None, None, None]
        planes = self.output(planes)
        out = planes[:, :2] if time is None else -planes[:, :2]
        return out + planes[:, 2:] * x[:, :2] if self.mask else out


class FlowAVSE(nn.Module):
    """One talker out of a mixture, by their face: predictor, then flow matching from its output to the clean spectrogram.

    Spectrograms are compressed, c |X|^a e^{j angle X}, and belong to mixtures whose largest sample is 1. Ends of the
    recording are silence, not mirrors, so that a result does not depend on how much is padded.

    Args:
        predictor: the first stage, complex spectral mapping.
        velocity: the second stage; it is given the state and the first stage's output, not the mixture.
        encoder: of the predictor's video.
        velocity_encoder: of the velocity's video; None to share the predictor's. Published: one each.
        freeze_encoder: keep the encoders as they are, in eval mode.
        adapter: features to those that both networks take; None for features as they are. Ours.
        n_fft, hop: of the Hann-windowed STFT.
        exponent, scale: a and c of the compression.
        frame_multiple: spectrograms are padded to a multiple of this many frames.
        start: the least time, at which sampling begins.
        window: samples of a training clip.
    """

    def __init__(
        self,
        predictor: AVUNet,
        velocity: AVUNet,
        encoder: VisualEncoder,
        velocity_encoder: VisualEncoder | None = None,
        freeze_encoder: bool = False,
        adapter: nn.Module | None = None,
        n_fft: int = 510,
        hop: int = 128,
        exponent: float = 0.5,
        scale: float = 0.33,
        frame_multiple: int = 64,
        start: float = 0.03,
        window: int = 64_000,
    ) -> None:
        super().__init__()
        self.predictor, self.velocity = predictor, velocity
        self.encoder, self.velocity_encoder = encoder, velocity_encoder
        self.adapter = adapter
        if freeze_encoder:
            for part in self._encoders():
                part.freeze()
        self.stft = FrameSTFT(n_fft, hop)
        self.exponent, self.scale, self.frame_multiple = exponent, scale, frame_multiple
        self.start, self.window = start, window

    def _encoders(self) -> list[VisualEncoder]:
        return [part for part in (self.encoder, self.velocity_encoder) if part is not None]

    def transform(self, x: Tensor) -> Tensor:
        """(N, T) -> compressed planes (N, 2, bins, frames) of the signal and of as much silence as fills up the frames."""
        with torch.autocast(x.device.type, enabled=False):
            frames = x.shape[-1] // self.stft.hop + 1
            frames += -frames % self.frame_multiple
            spectrum = self.stft(F.pad(x.float(), (0, frames * self.stft.hop - 1 - x.shape[-1])))
            power = spectrum.real.square() + spectrum.imag.square()
            # not abs(): its gradient at zero is none
            compressed = self.scale * spectrum * (power + 1e-12) ** (0.5 * (self.exponent - 1))
            return torch.view_as_real(compressed).movedim(-1, 1)

    def inverse(self, planes: Tensor, samples: int) -> Tensor:
        """Undo `transform`: (N, 2, bins, frames) -> (N, samples)."""
        with torch.autocast(planes.device.type, enabled=False):
            planes = planes.float() / self.scale
            magnitude = (planes.square().sum(1, keepdim=True) + 1e-12).sqrt()
            spectrum = planes * magnitude ** (1 / self.exponent - 1)
            spectrum = torch.view_as_complex(spectrum.movedim(1, -1).contiguous())
            return self.stft.inverse(spectrum, planes.shape[-1] * self.stft.hop - 1)[..., :samples]

    def embed(self, visual: Tensor, seen: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Features for the predictor and for the velocity, (N, F', D) each, over so many padded frames of the STFT.

        Args:
            visual: (N, F, ...).
            seen: (N, F) bool; the features of other frames are zero.
            frames: of the padded spectrogram.
        """
        spare = max(0, -(-frames * self.stft.hop // SAMPLES_PER_FRAME) - visual.shape[1])
        if spare:
            visual = torch.cat([visual, visual[:, -1:].expand(-1, spare, *visual.shape[2:])], dim=1)
            seen = F.pad(seen, (0, spare))
        found = [part(visual) * seen[..., None] for part in self._encoders()]
        if self.adapter is not None:
            found = [self.adapter(features) for features in found]
        return found[0], found[-1]

    def flow(self, x: Tensor, predicted: Tensor, visual: Tensor, time: Tensor) -> Tensor:
        """The velocity of state x (N, 2, bins, frames) at time (N,)."""
        return self.velocity(torch.cat([x, predicted], dim=1), visual, time)

    def extract(self, mixture: Tensor, visual: Tensor, seen: Tensor, steps: int = 1) -> Tensor:
        """The talker of each row: steps of Euler from the predictor's output; the paper takes one.

        The paper begins 1e-4 of noise off that output. It is left out: nothing is drawn.

        Args:
            mixture: (N, T), at any level; silence gives silence.
            visual, seen: see `embed`.
            steps: evaluations of the velocity; 0 for the predictor alone.

        Returns:
            (N, T).
        """
        peak = mixture.abs().amax(-1, keepdim=True)
        planes = self.transform(torch.where(peak > 0, mixture / peak.clamp_min(1e-12), 0.0))
        first, second = self.embed(visual, seen, planes.shape[-1])
        predicted = self.predictor(planes, first).float()
        x, size = predicted, (1 - self.start) / max(steps, 1)
        for step in range(steps):
            time = x.new_full((len(x),), self.start + step * size)
            x = x + size * self.flow(x, predicted, second, time)
        return self.inverse(x, mixture.shape[-1]) * peak
