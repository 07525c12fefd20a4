"""A score network behind the EDM preconditioning (Karras et al., arXiv 2206.00364), waveform in, waveform out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.audio.representation import STFT
from avdiff.nets.imports import load_buddy
from avdiff.nets.ncsnpp import NCSNpp
from avdiff.nets.visual import LipSpectrum, VisualEncoder
from avdiff.priors.base import ConditionalDiffusionPrior
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME

_LOG_ERROR = (-10.0, 5.0)  # span of the log of the error's variance, relative to a linear denoiser's


class DenoiserOutput(NamedTuple):
    """The denoised waveform, and how sure the network is of it.

    Attributes:
        mean: (N, T).
        variance: (N, bins, frames) of the error of the mean, that of white noise with as much energy in the bin; None for a
            network that does not say.
    """

    mean: Tensor
    variance: Tensor | None


class EDMPrior(ConditionalDiffusionPrior):
    """D(x; sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4, v), in the spectrogram of x.

    With sd the deviation of the data, c_skip = sd²/(sigma²+sd²), c_out = sigma sd/sqrt(sigma²+sd²) and
    c_in = 1/sqrt(sigma²+sd²) (Karras et al., Table 1). Where `spectrum` is set, sd depends on frequency: the skip path is
    then the best linear (Wiener) denoiser and the network sees whitened input. With `heard`, sd also follows what the lips
    say of the voice from moment to moment. Both are ours; flat is the published form.

    Args:
        network: raw F, spectrogram to spectrogram.
        sigma_data: standard deviation of the training data in waveform units (BUDDy: 0.05).
        encoder: lips to features; None for a prior without video.
        adapter: features to the network's conditioning vectors; its attribute `dim` must be the network's cond_dim, less
            that of `heard`.
        heard: features to the level of the voice in each band, which scales the spectrum and joins the conditioning vector;
            measured on the training data, then kept. None for the published form.
        freeze_encoder: keep the encoder as it is and in eval mode.
        coloured: let sd depend on frequency, as measured on the training data.
        n_fft, hop: of the Hann-windowed STFT. SSNAPS: 510 and 160; BUDDy: 510 and 128.
        frame_multiple: spectrograms are padded to a multiple of this many frames, and of the network's own. 4 keeps
            them in step with video at hop 160; BUDDy: 16.
        window: samples of a training clip.
        sample_rate: Hz.
    """

    spectrum: Tensor
    null_feature: Tensor

    def __init__(
        self,
        network: NCSNpp,
        sigma_data: float = 0.05,
        encoder: VisualEncoder | None = None,
        adapter: nn.Module | None = None,
        heard: LipSpectrum | None = None,
        freeze_encoder: bool = True,
        coloured: bool = False,
        n_fft: int = 510,
        hop: int = 160,
        frame_multiple: int = 4,
        window: int = 64_000,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        super().__init__()
        if (encoder is None) != (adapter is None) or (encoder is None) != (network.cond_dim is None):
            raise ValueError("a prior with video needs all three of encoder, adapter and a network with cond_dim")
        given = (int(adapter.dim) if adapter is not None else 0) + (heard.dim if heard is not None else 0)  # type: ignore[arg-type]
        if given != (network.cond_dim or 0):
            raise ValueError(f"the conditioning vectors have {given} values, the network takes {network.cond_dim}")
        self.network, self.encoder, self.adapter, self.heard = network, encoder, adapter, heard
        self.conditional = encoder is not None
        self.local = network.local_stem is not None
        self.sigma_data, self.sample_rate, self.window = sigma_data, sample_rate, window
        self.coloured = coloured
        self.stft = STFT(n_fft, hop)
        self.frame_multiple = math.lcm(network.time_multiple, frame_multiple)
        #: deviation of the data in each bin relative to white noise of the same power; all ones is flat
        self.register_buffer("spectrum", torch.ones(n_fft // 2 + 1))
        if encoder is not None:
            self.null_feature = nn.Parameter(torch.randn(encoder.dim) * 0.1)
            if freeze_encoder:
                encoder.freeze()
        if heard is not None:
            heard.requires_grad_(False)

    @classmethod
    def from_buddy(cls, checkpoint: str | Path | Mapping[str, Any]) -> EDMPrior:
        """The speech prior of BUDDy (arXiv 2405.04272), without video, from its published checkpoint.

        Args:
            checkpoint: the file, or what it holds.

        Raises:
            UserError: no such file, or one that does not hold exactly the tensors of NCSN++M.
        """
        return cls(load_buddy(checkpoint), sigma_data=0.05, hop=128, frame_multiple=16, window=65_536)

    @property
    def evaluated(self) -> nn.Module:
        return self.network

    def embed(self, visual: Tensor, mask: Tensor | None = None) -> Tensor:
        assert self.encoder is not None, "this prior takes no video"
        assert self.adapter is not None, "this prior takes no video"
        features = self.encoder(visual)
        levels = None if self.heard is None else self.heard(features)
        if mask is not None:
            features = torch.where(mask[..., None], features, self.null_feature.to(features.dtype))
            levels = None if levels is None else levels * mask[..., None]
        vectors = self.adapter(features)
        return vectors if levels is None else torch.cat([vectors, levels.to(vectors.dtype)], dim=-1)

    def null(self, count: int, frames: int) -> Tensor:
        assert self.adapter is not None, "this prior takes no video"
        vectors = self.adapter(self.null_feature.expand(1, frames, -1))
        if self.heard is not None:
            vectors = F.pad(vectors, (0, self.heard.dim))
        return vectors.expand(count, -1, -1)

    def scalings(self, sigma: Tensor, gains: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in of shape (N, 1, bins, 1 or frames) and c_noise (N,), always in float32.

        Args:
            sigma: (N,), or (N, bins, frames) for noise whose level differs from bin to bin.
            gains: (N, bins, frames) of `heard`, on the deviation of the data.
        """
        sigma, sd = sigma.float(), self._deviation(gains)
        level = sigma if sigma.ndim == 1 else sigma.square().mean((1, 2)).sqrt()
        sigma = sigma[:, None, None, None] if sigma.ndim == 1 else sigma[:, None]
        total = sigma.square() + sd.square()
        c_skip = sd.square() / total
        c_out = sigma * sd * total.rsqrt()
        c_in = total.rsqrt()
        c_noise = level.log() / 4
        return c_skip, c_out, c_in, c_noise

    def _deviation(self, gains: Tensor | None) -> Tensor:
        """Of the data: (1, 1, bins, 1), or (N, 1, bins, frames) with gains."""
        sd = (self.sigma_data * self.spectrum)[None, None, :, None]
        return sd if gains is None else sd * gains[:, None]

    def deviation(self, samples: int, cond: Tensor | None = None) -> Tensor | None:
        if not self.coloured:
            return None
        frames = samples // self.stft.hop + 1
        sd = (self.sigma_data * self.spectrum[None, :, None]).expand(-1, -1, frames)
        padded = frames + -frames % self.frame_multiple
        gains = None if cond is None else self._gains(self._fit(cond.transpose(1, 2), padded), padded)
        return sd if gains is None else sd * gains[..., :frames]

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.predict(x, sigma, cond).mean

    def wiener(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(N, T) -> (N, T): the best linear denoiser for the data's long-term spectrum, c_skip x. No network, no lips."""
        c_skip, _, _, _ = self.scalings(sigma)
        return self.stft.inverse(c_skip[:, 0] * self.stft(x.float()), x.shape[-1])

    def estimate(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, variance = self.predict(x, sigma, cond)
        if variance is None:
            return super().estimate(x, sigma, cond)
        return mean, variance

    def predict(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> DenoiserOutput:
        """`denoise` or `estimate`, by the shape of sigma."""
        with _float32(x):
            noisy = self._spectrogram(x)
            spare = noisy.shape[-1] - (x.shape[-1] // self.stft.hop + 1)
            if sigma.ndim > 1:
                sigma = F.pad(sigma, (0, spare), mode="replicate")
            cond = None if cond is None else self._fit(cond.transpose(1, 2), noisy.shape[-1])
            gains = None if cond is None else self._gains(cond, noisy.shape[-1])
            c_skip, c_out, c_in, c_noise = self.scalings(sigma, gains)
            whitened, local = c_in * noisy, self._relative(noisy, sigma, gains)
        raw = self.network(whitened, c_noise, cond, local)
        with _float32(x):
            raw, log_error = raw.float().tensor_split([2], dim=1)
            mean = self._waveform(c_skip * noisy + c_out * raw, x.shape[-1])
            if not self.local:
                return DenoiserOutput(mean, None)
            variance = c_out.square() * log_error.clamp(*_LOG_ERROR).exp()
            return DenoiserOutput(mean, variance[:, 0, :, : variance.shape[-1] - spare])

    def _spectrogram(self, x: Tensor) -> Tensor:
        """(N, T) -> (N, 2, bins, frames), real and imaginary part, frames padded to what the network takes."""
        noisy = torch.view_as_real(self.stft(x.float())).movedim(-1, 1)
        return F.pad(noisy, (0, -noisy.shape[-1] % self.frame_multiple))

    def _waveform(self, clean: Tensor, samples: int) -> Tensor:
        """Undoes `_spectrogram`."""
        clean = clean[..., : samples // self.stft.hop + 1].movedim(1, -1).contiguous()
        return self.stft.inverse(torch.view_as_complex(clean), samples)

    def _relative(self, noisy: Tensor, sigma: Tensor, gains: Tensor | None) -> Tensor | None:
        """ln(sigma / sd) / 4 in every bin, (N, bins, frames), which the network is given with `local`."""
        if not self.local:
            return None
        sigma = sigma[:, None, None] if sigma.ndim == 1 else sigma
        return (sigma / self._deviation(gains)[:, 0]).log().expand(noisy[:, 0].shape) / 4

    def _gains(self, cond: Tensor, frames: int) -> Tensor | None:
        """What fitted vectors (N, D, F) say of the deviation, (N, bins, frames); None without `heard`."""
        if self.heard is None:
            return None
        levels = cond[:, -self.heard.dim :].float()
        if self.encoder is not None and self.encoder.frozen:
            levels = levels.detach()  # only the vectors beside them are trained
        return self.heard.gains(levels, frames)

    def _fit(self, cond: Tensor, frames: int) -> Tensor:
        """Cut or extend (N, D, F) so that its frames cover the padded spectrogram evenly."""
        wanted = math.ceil(frames * self.stft.hop / SAMPLES_PER_FRAME)
        if cond.shape[-1] < wanted:
            cond = F.pad(cond, (0, wanted - cond.shape[-1]), mode="replicate")
        return cond[..., :wanted]


def _float32(x: Tensor) -> torch.autocast:
    """The precision of all that stands around the network, whatever the caller's."""
    return torch.autocast(x.device.type, enabled=False)
