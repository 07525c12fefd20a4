"""Gaussian priors, and mixtures of Gaussians, with known posteriors, for the tests of samplers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

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


@dataclass(frozen=True)
class Modes:
    """p(x) = sum_i weights_i N(means_i, stds_i^2) of every sample of a source."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]


class MixtureProduct:
    """A bound product prior of independent sources, each i.i.d. samples from a mixture of Gaussians."""

    def __init__(self, sources: list[Modes], sigma_data: float) -> None:
        self.sources, self.sigma_data, self.evaluations = sources, sigma_data, 0

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        self.evaluations += 1
        return torch.stack([self._mean(modes, x[:, k], sigma) for k, modes in enumerate(self.sources)], dim=1)

    @staticmethod
    def _mean(modes: Modes, x: Tensor, sigma: float) -> Tensor:
        weight, mean, std = (x.new_tensor(values) for values in (modes.weights, modes.means, modes.stds))
        total = std.square() + sigma**2
        x = x[..., None]
        share = (weight.log() - 0.5 * total.log() - (x - mean).square() / (2 * total)).softmax(-1)
        return (share * (mean + std.square() / total * (x - mean))).sum(-1)

    def deviation(self, samples: int) -> None:
        return None

    def posterior(self, y: float, std: float) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (K,) and covariance (K, K) of the sources given y, and the weight of each mode of the first."""
        logs, means, covariances, first = [], [], [], []
        for choice in product(*(range(len(modes.weights)) for modes in self.sources)):
            w, m, s = (
                torch.tensor([getattr(modes, name)[i] for modes, i in zip(self.sources, choice, strict=True)]).double()
                for name in ("weights", "means", "stds")
            )
            variance = s.square()
            total = variance.sum() + std**2
            logs.append(w.log().sum() - 0.5 * total.log() - (y - m.sum()) ** 2 / (2 * total))
            means.append(m + variance / total * (y - m.sum()))
            covariances.append(variance.diag() - torch.outer(variance, variance) / total)
            first.append(choice[0])
        share = torch.stack(logs).softmax(0)
        mean = (share[:, None] * torch.stack(means)).sum(0)
        off = torch.stack(means) - mean
        covariance = (share[:, None, None] * (torch.stack(covariances) + off[:, :, None] * off[:, None])).sum(0)
        weights = torch.zeros(len(self.sources[0].weights)).double().index_add(0, torch.tensor(first), share)
        return mean, covariance, weights


def white(*stds: float) -> Tensor:
    """(K, 1, 1)."""
    return torch.tensor(stds, dtype=torch.float64).square()[:, None, None]


def bind(likelihood: Likelihood, y: Tensor, layout: tuple[str, ...] = (NOISE,)) -> BoundLikelihood:
    """A likelihood bound to y of (B, T)."""
    return likelihood.bind(Observation(tuple(map(str, range(len(y)))), y, None, None, layout))
