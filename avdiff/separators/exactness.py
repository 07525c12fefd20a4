"""Draws of a sampler against the posterior that they should be of, where it is known."""

from __future__ import annotations

from torch import Tensor

from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise, stream_seed
from avdiff.samplers.exact import ExactPosterior
from avdiff.types import Observation

EXACT_STD = 2e-3  # of the mixture, of its own level: as good as none


def against_posterior(
    mean: Tensor, std: Tensor, draws: int, prior: BoundPrior, every: Observation, seed: int
) -> list[list[dict[str, tuple[float, float]]]]:
    """Bias and variance of draws, in units of the posterior's own variance, of every source of every clip.

    "bias" is |E x - mu|^2 over the posterior's variance, mu its mean: |mean of the draws - mu|^2 less what the mean of so few
    draws errs by chance. 0 is exact; small negative values are chance. "variance" is that of the draws over the posterior's; 1 is
    exact. The posterior's variance is measured on as many exact draws, so that the redundancy of the STFT is on both sides.

    Args:
        mean, std: of the draws, (B, K, T), at the priors' level.
        draws: how many, at least 2.
        prior: bound with so many draws; all its priors Gaussian in every bin.
        every: the mixtures at the priors' level, each `draws` times.
        seed: of the exact draws.

    Returns:
        By clip and source, name -> (of the mixture taken for the source, of the draws).
    """
    mixture = every.mixture
    shape = (len(mixture), mean.shape[1], mixture.shape[1])
    likelihood = GaussianLikelihood(EXACT_STD * prior.sigma_data).bind(every)
    noise = ClipNoise(stream_seed(seed, "exact"), every.key)
    exact, centre = (
        ExactPosterior(temperature).sample(prior, likelihood, shape, like=mixture, rng=noise).unflatten(0, (-1, draws))
        for temperature in (1.0, 0.0)
    )
    power = exact.var(1).sum(-1)
    centre, heard = centre[:, 0], mixture[::draws, None]
    bias = ((mean - centre).square() - std.square() / draws).sum(-1) / power
    plain = (heard - centre).square().sum(-1) / power
    variance = std.square().sum(-1) / power
    return [
        [
            {"bias": (p, b), "variance": (0.0, v)}
            for p, b, v in zip(plain[clip].tolist(), bias[clip].tolist(), variance[clip].tolist(), strict=True)
        ]
        for clip in range(len(mean))
    ]
