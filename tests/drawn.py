"""Mixtures drawn from the model that EM methods assume, whose best linear estimate is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.em.mixture import Talkers
from avdiff.nets.vae import Decoder, Gaussian


@dataclass(frozen=True)
class Drawn:
    """A batch of mixtures of talkers and noise, in the domain of the model.

    Attributes:
        talkers: decoders and priors, with a start that knows nothing: the prior's mean.
        sources: complex (B, K + 1, N, F), noise last.
        variances: the true ones, of the same shape.
        z: true latent variables, (B, K, N, D).
    """

    talkers: Talkers
    sources: Tensor
    variances: Tensor
    z: Tensor

    @property
    def mixture(self) -> Tensor:
        return self.sources.sum(1)

    @property
    def power(self) -> Tensor:
        return self.mixture.abs().square()

    def sdr(self, shares: Tensor) -> Tensor:
        """Of the estimates that shares (B, K + 1, N, F) give, in dB, (K + 1,)."""
        error = (shares * self.mixture[:, None] - self.sources).abs().square()
        return 10 * torch.log10(self.sources.abs().square().sum((0, 2, 3)) / error.sum((0, 2, 3)))

    def oracle(self) -> Tensor:
        """SDR of the Wiener filter with the true variances."""
        return self.sdr(self.variances / self.variances.sum(1, keepdim=True))


def draw(
    talkers: int, clips: int = 1, frames: int = 60, bins: int = 129, latent: int = 4, seed: int = 0, rank: int = 2
) -> Drawn:
    """Every talker has a random decoder and N(0, I); the noise is NMF."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    decoders = []
    for _ in range(talkers):
        decoder = Decoder(bins, latent, 32).requires_grad_(False)
        for parameter, scale in (
            (decoder.latent.weight, 0.8),
            (decoder.latent.bias, 0.5),
            (decoder.output.weight, 0.5),
        ):
            parameter.copy_(scale * normal(*parameter.shape))
        decoder.output.bias.copy_(normal(bins))
        decoders.append(decoder)

    def log_variance(z: Tensor) -> Tensor:
        parts = [decoder(z[..., k, :, :]) for k, decoder in enumerate(decoders)]
        return torch.stack(parts, -3) if parts else z.new_zeros(*z.shape[:-1], bins)

    z = normal(clips, talkers, frames, latent)
    noise = 0.3 * normal(clips, frames, rank).square() @ normal(clips, rank, bins).square()
    variances = torch.cat([log_variance(z).exp(), noise[:, None] + 1e-3], 1)
    sources = (variances / 2).sqrt() * torch.complex(normal(*variances.shape), normal(*variances.shape))
    zero = torch.zeros_like(z)
    start = Talkers(log_variance, Gaussian(zero, zero), zero, torch.ones(clips, talkers, frames))
    return Drawn(start, sources, variances, z)
