"""Gaussian priors with known posteriors, for the tests of samplers."""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood, Likelihood
from avdiff.types import NOISE, Observation


class GaussianProduct:
    """A bound product prior: independent sources, each i.i.d. blocks of D samples from N(0, C_k).

    Args:
        covariances: (K, D, D).
        sigma_data: what the sampler is told.
    """

    def __init__(self, covariances: Tensor, sigma_data: float) -> None:
        self.covariances, self.sigma_data, self.evaluations = covariances, sigma_data, 0

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        self.evaluations += 1
        c = self.covariances.to(x)
        wiener = c @ torch.linalg.inv(c + sigma**2 * torch.eye(c.shape[-1]).to(x))
        blocks = x.unflatten(-1, (-1, c.shape[-1]))
        return torch.einsum("kde,bkne->bknd", wiener, blocks).flatten(-2)

    def deviation(self, samples: int) -> None:
        return None

    def posterior(self, y: Tensor, std: float) -> tuple[Tensor, Tensor]:
        """Mean (K, D) and covariance (K, D, K, D) of the sources given y = sum of sources + std * n, y of (D,)."""
        sources, size = self.covariances.shape[:2]
        joint = torch.block_diag(*self.covariances)
        total = self.covariances.sum(0) + std**2 * torch.eye(size, dtype=joint.dtype)
        gain = torch.cat(list(self.covariances)) @ torch.linalg.inv(total)  # (K D, D)
        covariance = joint - gain @ torch.cat(list(self.covariances)).T
        return (gain @ y).view(sources, size), covariance.view(sources, size, sources, size)


def white(*stds: float) -> Tensor:
    """(K, 1, 1)."""
    return torch.tensor(stds, dtype=torch.float64).square()[:, None, None]


def bind(likelihood: Likelihood, y: Tensor, layout: tuple[str, ...] = (NOISE,)) -> BoundLikelihood:
    """A likelihood bound to y of (B, T)."""
    return likelihood.bind(Observation(tuple(map(str, range(len(y)))), y, None, None, layout))
