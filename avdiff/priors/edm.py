"""A score network behind the EDM preconditioning (Karras et al., arXiv 2206.00364), waveform in, waveform out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdiff.audio.representation import STFT
from avdiff.nets.imports import load_buddy
from avdiff.nets.ncsnpp import NCSNpp
from avdiff.nets.visual import VisualEncoder
from avdiff.priors.base import ConditionalDiffusionPrior
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME


class EDMPrior(ConditionalDiffusionPrior):
    """D(x; sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4, v), in the spectrogram of x.

    With sd the deviation of the data, c_skip = sd²/(sigma²+sd²), c_out = sigma sd/sqrt(sigma²+sd²) and
    c_in = 1/sqrt(sigma²+sd²) (Karras et al., Table 1). Where `spectrum` is set, sd depends on frequency: the skip path is
    then the best linear (Wiener) denoiser and the network sees whitened input. That is ours; flat is the published form.

    Args:
        network: raw F, spectrogram to spectrogram.
        sigma_data: standard deviation of the training data in waveform units (BUDDy: 0.05).
        encoder: lips to features; None for a prior without video.
        adapter: features to the network's conditioning vectors; its attribute `dim` must be the network's cond_dim.
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
        if adapter is not None and adapter.dim != network.cond_dim:
            raise ValueError(
                f"the adapter gives vectors of {adapter.dim}, the network takes cond_dim={network.cond_dim}"
            )
        self.network, self.encoder, self.adapter = network, encoder, adapter
        self.conditional = encoder is not None
        self.sigma_data, self.sample_rate, self.window = sigma_data, sample_rate, window
        self.freeze_encoder, self.coloured = freeze_encoder, coloured
        self.stft = STFT(n_fft, hop)
        self.frame_multiple = math.lcm(network.time_multiple, frame_multiple)
        #: deviation of the data in each bin relative to white noise of the same power; all ones is flat
        self.register_buffer("spectrum", torch.ones(n_fft // 2 + 1))
        if encoder is not None:
            self.null_feature = nn.Parameter(torch.randn(encoder.dim) * 0.1)
            if freeze_encoder:
                encoder.requires_grad_(False)

    @classmethod
    def from_buddy(cls, checkpoint: str | Path | Mapping[str, Any]) -> EDMPrior:
        """The speech prior of BUDDy (arXiv 2405.04272), without video, from its published checkpoint.

        Args:
            checkpoint: the file, or what it holds.

        Raises:
            UserError: no such file, or one that does not hold exactly the tensors of NCSN++M.
        """
        return cls(load_buddy(checkpoint), sigma_data=0.05, hop=128, frame_multiple=16, window=65_536)

    def train(self, mode: bool = True) -> EDMPrior:
        super().train(mode)
        if self.encoder is not None and self.freeze_encoder:
            self.encoder.eval()
        return self

    def embed(self, visual: Tensor, mask: Tensor | None = None) -> Tensor:
        assert self.encoder is not None, "this prior takes no video"
        assert self.adapter is not None, "this prior takes no video"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            features = self.encoder(visual)
        if mask is not None:
            features = torch.where(mask[..., None], features, self.null_feature.to(features.dtype))
        return self.adapter(features)

    def null(self, count: int, frames: int) -> Tensor:
        assert self.adapter is not None, "this prior takes no video"
        return self.adapter(self.null_feature.expand(1, frames, -1)).expand(count, -1, -1)

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in of shape (N, 1, bins, 1) and c_noise (N,), always in float32."""
        sigma = sigma.float()
        sd = (self.sigma_data * self.spectrum)[None, None, :, None]
        s = sigma[:, None, None, None]
        total = s.square() + sd.square()
        return sd.square() / total, s * sd * total.rsqrt(), total.rsqrt(), sigma.log() / 4

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        c_skip, c_out, c_in, c_noise = self.scalings(sigma)
        with torch.autocast(x.device.type, enabled=False):
            noisy = torch.view_as_real(self.stft(x.float())).movedim(-1, 1)  # (N, 2, bins, frames)
        frames = noisy.shape[-1]
        padded = F.pad(c_in * noisy, (0, -frames % self.frame_multiple))
        if cond is not None:
            cond = self._fit(cond.transpose(1, 2), padded.shape[-1])
        raw = self.network(padded, c_noise, cond)[..., :frames]
        with torch.autocast(x.device.type, enabled=False):
            clean = c_skip * noisy + c_out * raw.float()
            return self.stft.inverse(torch.view_as_complex(clean.movedim(1, -1).contiguous()), x.shape[-1])

    def _fit(self, cond: Tensor, frames: int) -> Tensor:
        """Cut or extend (N, D, F) so that its frames cover the padded spectrogram evenly."""
        wanted = math.ceil(frames * self.stft.hop / SAMPLES_PER_FRAME)
        if cond.shape[-1] < wanted:
            cond = F.pad(cond, (0, wanted - cond.shape[-1]), mode="replicate")
        return cond[..., :wanted]
