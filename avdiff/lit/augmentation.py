"""Random variation of clean training clips: other faces, cameras and microphones than those that were recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avdiff.audio.representation import STFT
from avdiff.types import SAMPLE_RATE

SIZE = 96  # px, of a mouth crop
_BLOCK = 8  # px, of the transform of JPEG and of most video codecs


@dataclass(frozen=True)
class VisualAugmentation:
    """Geometry, light, camera and loss of frames of mouth crops, drawn once a clip. Ours.

    A smooth random warp that stays for the whole clip changes the shape of mouth, nose and chin: it makes many faces of the
    few that were filmed. All lengths are standard deviations or half ranges in pixels of a 96 x 96 crop.

    Attributes:
        mirror: probability of a mirror image.
        shift: half range of the translation.
        drift: standard deviation of the change of the translation from the first frame to the last.
        turn: standard deviation of the rotation in degrees.
        scale: standard deviation of the logarithm of the scale of each axis.
        warp: standard deviation of the displacement at the points of a 5 x 5 grid.
        light: standard deviation of the logarithms of gamma and contrast, and of the slope of the illumination.
        blur: probability of a lower resolution.
        noise: greatest standard deviation of the sensor noise in grey levels.
        compress: probability of quantised 8 x 8 blocks.
        hide: probability that a rectangle hides part of the picture for a part of the clip.
        drop: probability that some frames repeat the one before.
        late: probability that the whole clip is one frame early or late.
    """

    mirror: float = 0.5
    shift: float = 5.0
    drift: float = 1.0
    turn: float = 4.0
    scale: float = 0.08
    warp: float = 1.3
    light: float = 0.25
    blur: float = 0.3
    noise: float = 8.0
    compress: float = 0.3
    hide: float = 0.15
    drop: float = 0.15
    late: float = 0.2

    def __call__(self, crops: Tensor) -> Tensor:
        """Vary crops (B, F, 96, 96) uint8; the same shape and type."""
        return torch.stack([self._camera(self._geometry(self._timing(clip))) for clip in crops])

    def _timing(self, clip: Tensor) -> Tensor:
        frames = len(clip)
        place = torch.arange(frames, device=clip.device)
        if _coin(self.late):
            place = (place + (1 if _coin(0.5) else -1)).clamp(0, frames - 1)
        if _coin(self.drop):
            kept = torch.rand(frames, device=clip.device) > 0.05 + 0.25 * float(torch.rand(()))
            place = torch.where(kept, place, 0).cummax(0).values
        return clip[place]

    def _geometry(self, clip: Tensor) -> Tensor:
        """Affine map and smooth warp: float (F, 96, 96)."""
        frames, device = len(clip), clip.device
        angle = math.radians(self.turn) * torch.randn((), device=device)
        scale = (self.scale * torch.randn(2, device=device)).exp()
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        matrix = turn * scale
        if _coin(self.mirror):
            matrix = matrix * torch.tensor([-1.0, 1.0], device=device)
        start = self.shift * (2 * torch.rand(2, device=device) - 1)
        course = torch.linspace(-0.5, 0.5, frames, device=device)[:, None]
        offset = (start + course * self.drift * torch.randn(2, device=device)) * 2 / SIZE  # (F, 2)
        axis = (torch.arange(SIZE, device=device) + 0.5) * 2 / SIZE - 1
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)  # (96, 96, 2): x, y
        points = self.warp * 2 / SIZE * torch.randn(1, 2, 5, 5, device=device)
        warp = F.interpolate(points, (SIZE, SIZE), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
        place = (grid + warp) @ matrix.T + offset[:, None, None]
        return F.grid_sample(clip[:, None].float(), place, padding_mode="border", align_corners=False)[:, 0]

    def _camera(self, clip: Tensor) -> Tensor:
        """Light, resolution, something in front, compression and noise: uint8 (F, 96, 96)."""
        frames, device = len(clip), clip.device
        axis = torch.linspace(-1, 1, SIZE, device=device)
        slope_x, slope_y, contrast, gamma = self.light * torch.randn(4, device=device)
        clip = (clip / 255).clamp(0, 1) ** gamma.exp() * (1 + slope_x * axis[None] + slope_y * axis[:, None])
        clip = ((clip - 0.45) * contrast.exp() + 0.45) * 255
        if _coin(self.blur):
            small = int(SIZE / (1.3 + 2 * float(torch.rand(()))))
            clip = F.interpolate(clip[:, None], (small, small), mode="area")
            clip = F.interpolate(clip, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
        if _coin(self.hide):
            height, width = (int(v) for v in torch.randint(12, 44, (2,)))
            top, left = (int(torch.randint(SIZE - size, ())) for size in (height, width))
            first = int(torch.randint(frames, ()))
            last = first + int(torch.randint(1, frames + 1, ()))
            clip[first:last, top : top + height, left : left + width] = 255 * torch.rand((), device=device)
        if _coin(self.compress):
            clip = _quantised(clip, 4 + 20 * float(torch.rand(())))
        clip = clip + self.noise * torch.rand((), device=device) * torch.randn_like(clip)
        return clip.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class AcousticAugmentation:
    """Microphone and room of clean speech, drawn once a clip: a smooth response, a band limit, early reflections. Ours.

    Attributes:
        response_db: standard deviation of the response at seven points from 0 to 8 kHz, linear between them.
        tilt_db: half range of a tilt, in dB from 0 to 8 kHz on a scale of square roots.
        narrow: probability of a low pass between 3 and 7 kHz.
        room: probability of reverberation.
        decay: least and greatest reverberation time in s.
        direct_db: least and greatest ratio of direct to reflected energy in dB.
    """

    response_db: float = 3.0
    tilt_db: float = 8.0
    narrow: float = 0.15
    room: float = 0.3
    decay: tuple[float, float] = (0.1, 0.5)
    direct_db: tuple[float, float] = (3.0, 20.0)

    def __call__(self, audio: Tensor, stft: STFT) -> Tensor:
        """Vary clips (B, T) at 16 kHz; the level is left to who scales them."""
        audio = self._reverberated(audio)
        return stft.inverse(
            stft(audio) * self.response(len(audio), stft.bins, audio.device)[..., None], audio.shape[-1]
        )

    def response(self, count: int, bins: int, device: torch.device) -> Tensor:
        """Gains (count, bins) of as many microphones."""
        place = torch.linspace(0, 1, bins, device=device).sqrt()
        points = self.response_db * torch.randn(count, 1, 7, device=device)
        decibel = F.interpolate(points, 512, mode="linear", align_corners=True)[:, 0]
        decibel = decibel[:, (place * 511).long()]
        decibel = decibel + self.tilt_db * (2 * torch.rand(count, 1, device=device) - 1) * (place - 0.5)
        cut = 3 / 8 + 4 / 8 * torch.rand(count, 1, device=device)
        over = (place.square() - cut).clamp_min(0) * 8  # kHz beyond the cut
        narrow = (torch.rand(count, 1, device=device) < self.narrow).float()
        return 10 ** ((decibel - narrow * (60 * over).clamp_max(60)) / 20)

    def _reverberated(self, audio: Tensor) -> Tensor:
        """Clips with exponentially decaying reflections behind the direct sound, the direct sound in place."""
        wet = torch.rand(len(audio), device=audio.device) < self.room
        if not wet.any():
            return audio
        count, (low, high) = int(wet.sum()), self.decay
        seconds = low + (high - low) * torch.rand(count, 1, device=audio.device)
        time = torch.arange(1, int(high * SAMPLE_RATE) + 1, device=audio.device) / SAMPLE_RATE
        late = torch.randn(count, len(time), device=audio.device) * (-6.9 * time / seconds).exp() * (time > 0.002)
        least, most = self.direct_db
        ratio = least + (most - least) * torch.rand(count, 1, device=audio.device)
        late = late * 10 ** (-ratio / 20) / late.square().sum(1, keepdim=True).sqrt()
        size = audio.shape[-1] + len(time)
        spectrum = torch.fft.rfft(audio[wet], size) * torch.fft.rfft(F.pad(late, (1, 0)), size)
        out = audio.clone()
        out[wet] += torch.fft.irfft(spectrum, size)[:, : audio.shape[-1]]
        return out


def _coin(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _quantised(clip: Tensor, step: float) -> Tensor:
    """Pictures (F, 96, 96) through a coarse cosine transform of their 8 x 8 blocks, higher frequencies coarser."""
    index = torch.arange(_BLOCK, device=clip.device)
    basis = (math.pi / _BLOCK * index[:, None] * (index + 0.5)).cos() * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    blocks = clip.unflatten(1, (-1, _BLOCK)).unflatten(3, (-1, _BLOCK)).transpose(2, 3)  # (F, 12, 12, 8, 8)
    steps = step * (1 + 0.5 * (index[:, None] + index))
    values = basis @ blocks @ basis.T
    values = (values / steps).round() * steps
    return (basis.T @ values @ basis).transpose(2, 3).flatten(3).flatten(1, 2)
