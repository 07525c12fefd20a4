"""The posterior itself, where every source is Gaussian in every bin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, PosteriorSampler
from avdiff.samplers.conditional import Inner, NoiseStream, gaussian_of
from avdiff.samplers.local import LocalGaussian


@dataclass(frozen=True)
class ExactPosterior(PosteriorSampler):
    """One draw from the posterior of independent N(0, v_k) in every bin, v_k being what the priors know beforehand.

    With priors that are told the sources (`avdiff.priors.oracle`) no sampler can do better, and every other is measured
    against it; with trained ones it is a Wiener filter by what the lips and the training data say in the mean. No denoiser is
    evaluated.

    Attributes:
        temperature: factor on the std of the draw; 1 is a posterior sample, 0 the posterior's mean.
    """

    temperature: float = 1.0

    @property
    def needs_closed_form(self) -> bool:
        return True

    @property
    def random(self) -> bool:
        return self.temperature > 0

    def sample(
        self,
        prior: BoundPrior,
        likelihood: BoundLikelihood,
        shape: tuple[int, int, int],
        *,
        like: Tensor,
        rng: ClipNoise,
        callback: Callback | None = None,
    ) -> Tensor:
        gaussian_of(likelihood, "ExactPosterior")
        std = prior.deviation(shape[-1])
        if std is None:
            raise UserError("ExactPosterior needs variances that a prior does not know; take priors that do, or DAPS")
        # the conditional of a state that is all noise: p(x0 | x_t) is then the prior
        far = Inner(1e6 * prior.sigma_data, 0.0, 0.0, std)
        draw = LocalGaussian(known=True, temperature=self.temperature)
        return draw.draw(like.new_zeros(shape), likelihood, far, NoiseStream(rng, shape, like))
