"""Priors of EM methods: Gaussian in every bin of an STFT, with a variance that latent variables decide."""

from __future__ import annotations

from torch import Tensor, nn

from avdiff.audio.representation import STFT
from avdiff.types import SAMPLE_RATE


class VariancePrior(nn.Module):
    """s_fn ~ N_c(0, sigma²_fn): complex bins of an STFT, independent given their variances (Leglaive et al., 2018).

    Spectra here are (..., frames, bins), power relative to white noise of unit variance, so that audio of root mean square 1
    has a mean of about 1.

    Args:
        n_fft: samples of a window. 64 ms, as in the public code of arXiv 2008.07191's successors.
        hop: samples between frames; two frames a picture.
    """

    sample_rate: int = SAMPLE_RATE

    def __init__(self, n_fft: int = 1024, hop: int = 320) -> None:
        super().__init__()
        self.stft = STFT(n_fft, hop)

    @property
    def bins(self) -> int:
        """Frequency bins of a frame."""
        return self.stft.bins

    def transform(self, x: Tensor) -> Tensor:
        """(..., T) -> complex (..., frames, bins), white noise of unit variance having power 1."""
        return self.stft(x).mT / self.stft.energy.sqrt()

    def power(self, x: Tensor) -> Tensor:
        """(..., T) -> (..., frames, bins)."""
        spectrum = self.transform(x)
        return spectrum.real.square() + spectrum.imag.square()

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Undoes `transform`: complex (..., frames, bins) -> (..., samples)."""
        return self.stft.inverse(spectrum.mT * self.stft.energy.sqrt(), samples)
