"""Networks of variational autoencoders of speech frames: posterior, prior and decoder.

Frames are independent of each other given the lips. Layer sizes and nonlinearities are those of the public code of "Audio-visual
Speech Enhancement Using Conditional Variational Auto-Encoders" (Sadeghi et al., TASLP 2020): one hidden layer each, tanh
in posterior and decoder, ReLU for the lips; audio and lips are summed before the nonlinearity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from avdiff.nets.film import resample_time


class Gaussian(NamedTuple):
    """A normal distribution with independent components.

    Attributes:
        mean, log_variance: (..., D).
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, by standard normal noise of the mean's shape."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Of z (..., D) but for a constant, (...). With the 1/2 that released code of Langevin and point-estimate EM lacks."""
        distance = (z - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (distance + self.log_variance).sum(-1)

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(self || other), (...)."""
        ratio = self.log_variance - other.log_variance
        distance = (self.mean - other.mean).square() * (-other.log_variance).exp()
        return 0.5 * (ratio.exp() + distance - ratio - 1).sum(-1)


class GaussianMixture(NamedTuple):
    """Two normal distributions, one of which a draw comes from.

    Attributes:
        weight: probability of the first, a number.
        first, second: components.
    """

    weight: Tensor
    first: Gaussian
    second: Gaussian

    @property
    def mean(self) -> Tensor:
        """(..., D)."""
        return self.weight * self.first.mean + (1 - self.weight) * self.second.mean

    def log_prob(self, z: Tensor) -> Tensor:
        """Of z (..., D) but for a constant, (...)."""
        first = self.first.log_prob(z) + self.weight.log()
        return torch.logaddexp(first, self.second.log_prob(z) + (1 - self.weight).log())


def _gaussian(values: Tensor) -> Gaussian:
    mean, log_variance = values.chunk(2, -1)
    return Gaussian(mean, log_variance.clamp(-10.0, 10.0))


class LipProjection(nn.Module):
    """Lip features to what posterior, prior and decoder share of them: Linear, ReLU. Unseen frames get a learned vector.

    Args:
        inputs: size of a lip feature.
        dim: of the output.
    """

    def __init__(self, inputs: int = 192, dim: int = 128) -> None:
        super().__init__()
        self.dim = dim
        self.project = nn.Linear(inputs, dim)
        self.unseen = nn.Parameter(torch.zeros(dim))

    def forward(self, features: Tensor, seen: Tensor, frames: int) -> Tensor:
        """Features (B, pictures, inputs), seen (B, pictures) bool -> (B, frames, dim), pictures repeated to the frames."""
        v = torch.where(seen[..., None], self.project(features).relu(), self.unseen)
        return resample_time(v.transpose(1, 2), frames).transpose(1, 2)


class Posterior(nn.Module):
    """q(z | x[, v]) of a frame.

    Args:
        bins: of a frame.
        latent: size of z.
        hidden: units.
        lips: size of v; 0 for none.
        floor: power added before the logarithm. The public code feeds the power itself.
    """

    def __init__(self, bins: int, latent: int = 32, hidden: int = 128, lips: int = 0, floor: float = 1e-4) -> None:
        super().__init__()
        self.floor = floor
        self.audio = nn.Linear(bins, hidden)
        self.lips = nn.Linear(lips, hidden, bias=False) if lips else None
        self.head = nn.Linear(hidden, 2 * latent)

    def forward(self, power: Tensor, v: Tensor | None = None) -> Gaussian:
        """Power (..., bins), v (..., lips) -> a Gaussian of (..., latent)."""
        x = self.audio(0.2 * (power + self.floor).log() + 1)  # about zero mean and unit deviation
        if self.lips is not None:
            assert v is not None
            x = x + self.lips(v)
        return _gaussian(self.head(x.tanh()))


class LipPrior(nn.Module):
    """p(z | v) of a frame: Linear, ReLU, Linear."""

    def __init__(self, lips: int, latent: int = 32, hidden: int = 128) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(lips, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))

    def forward(self, v: Tensor) -> Gaussian:
        """(..., lips) -> a Gaussian of (..., latent)."""
        return _gaussian(self.net(v))


class Decoder(nn.Module):
    """ln sigma²(z[, v]) of every bin of a frame."""

    def __init__(self, bins: int, latent: int = 32, hidden: int = 128, lips: int = 0) -> None:
        super().__init__()
        self.latent = nn.Linear(latent, hidden)
        self.lips = nn.Linear(lips, hidden, bias=False) if lips else None
        self.output = nn.Linear(hidden, bins)

    def offset(self, v: Tensor | None) -> Tensor | None:
        """What the lips add before the nonlinearity, (..., hidden); the same for every z."""
        if self.lips is None:
            return None
        assert v is not None
        return self.lips(v)

    def forward(self, z: Tensor, offset: Tensor | None = None) -> Tensor:
        """(..., latent) and what `offset` says -> (..., bins)."""
        x = self.latent(z)
        return self.output((x if offset is None else x + offset).tanh())
