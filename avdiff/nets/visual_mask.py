"""A visual mask network: the supervised kind before diffusion and transformers, the comparator of arXiv 2008.07191.

After Gabbay et al. (arXiv 1711.08789): the log spectrogram of the mixture and the lips of one talker, encoded apart, joined and
decoded. What it gives is a gain for every bin of the mixture's STFT; lips are features, and all convolutions run in time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.audio.representation import FrameSTFT, squared_magnitude
from avdiff.nets.film import resample_time
from avdiff.nets.visual import VisualEncoder
from avdiff.types import SAMPLES_PER_FRAME

_FLOOR = 1e-3  # magnitude, relative to the mixture's level, below which its logarithm is cut off


class _Block(nn.Module):
    """Residual dilated convolution in time, each moment normalised by itself."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv0 = nn.Conv1d(dim, dim, 3, padding=dilation, dilation=dilation)
        self.conv1 = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, T) -> (N, dim, T)."""
        h = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.conv1(F.silu(self.conv0(h)))


class VisualMask(nn.Module):
    """One talker out of a mixture, by their lips: a gain in [0, 1] for every bin.

    Args:
        encoder: lips to features.
        freeze_encoder: keep the encoder as it is, in eval mode.
        dim: channels.
        audio_dilations: of the blocks over the mixture alone.
        dilations: of the blocks over mixture and lips.
        n_fft, hop: of the Hann-windowed STFT; the hop divides a video frame.
        window: samples of a training clip.
    """

    def __init__(
        self,
        encoder: VisualEncoder,
        freeze_encoder: bool = True,
        dim: int = 256,
        audio_dilations: tuple[int, ...] = (1, 2),
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2, 4),
        n_fft: int = 510,
        hop: int = 160,
        window: int = 64_000,
    ) -> None:
        super().__init__()
        if SAMPLES_PER_FRAME % hop:
            raise ValueError(f"hop is {hop}; a video frame of {SAMPLES_PER_FRAME} samples must be a multiple of it")
        self.encoder, self.window = encoder, window
        if freeze_encoder:
            encoder.freeze()
        self.stft = FrameSTFT(n_fft, hop)
        self.heard = nn.Conv1d(self.stft.bins, dim, 1)
        self.audio = nn.Sequential(*(_Block(dim, dilation) for dilation in audio_dilations))
        self.lips = nn.Linear(encoder.dim, dim)
        self.join = nn.Conv1d(2 * dim, dim, 1)
        self.blocks = nn.Sequential(*(_Block(dim, dilation) for dilation in dilations))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Conv1d(dim, self.stft.bins, 1)

    def mask(self, spectrum: Tensor, visual: Tensor, seen: Tensor) -> Tensor:
        """The gain of every bin.

        Args:
            spectrum: of the mixture at root mean square 1, complex (N, bins, frames).
            visual: (N, F, ...).
            seen: (N, F) bool; the features of other frames are zero.

        Returns:
            (N, bins, frames).
        """
        frames = spectrum.shape[-1]
        # The first layer makes the video 40 ms blocks of the spectrogram: whole ones, the last of which is cut.
        wanted = -(-frames * self.stft.hop // SAMPLES_PER_FRAME)
        features = self.encoder(visual) * seen[..., None]
        lips = F.pad(self.lips(features).transpose(1, 2), (0, max(0, wanted - visual.shape[1])))[..., :wanted]
        lips = resample_time(lips, wanted * SAMPLES_PER_FRAME // self.stft.hop)[..., :frames]
        level = (squared_magnitude(spectrum) / self.stft.energy + _FLOOR**2).log() / 4
        heard = self.audio(self.heard(level))
        x = self.blocks(self.join(torch.cat([heard, lips.to(heard.dtype)], dim=1)))
        return torch.sigmoid(self.out(self.norm(x.transpose(1, 2)).transpose(1, 2)).float())

    def spectrum(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T) -> its STFT, with silence to whole video frames, at root mean square 1; that root mean square (N, 1)."""
        x = self.padded(mixture)
        rms = x.square().mean(-1, keepdim=True).sqrt()
        return self.stft(torch.where(rms > 0, x / rms.clamp_min(1e-12), 0.0)), rms

    def padded(self, x: Tensor) -> Tensor:
        """(N, T) with silence to whole video frames."""
        return F.pad(x, (0, -x.shape[-1] % SAMPLES_PER_FRAME))

    def extract(self, mixture: Tensor, visual: Tensor, seen: Tensor) -> Tensor:
        """The talker of each row: (N, T), (N, F, ...), (N, F) bool -> (N, T). Silence gives silence."""
        spectrum, rms = self.spectrum(mixture)
        masked = self.mask(spectrum, visual, seen) * spectrum
        return self.stft.inverse(masked, (spectrum.shape[-1] - 1) * self.stft.hop)[..., : mixture.shape[-1]] * rms
