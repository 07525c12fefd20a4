"""The mixture itself as a start: no prior is asked, no network runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, PosteriorSampler
from avdiff.samplers.conditional import gaussian_of


@dataclass(frozen=True)
class MixtureShares(PosteriorSampler):
    """x_k = share y: a warm start for `DAPS`, which then begins at a noise level that hides what is wrong with it.

    The UDiffSE family starts so, each source at the mixture itself (`avdiff.samplers.paradiffuse`).

    Attributes:
        share: of the mixture that every source gets; None for equal parts, which add up to it.
    """

    share: float | None = None

    @property
    def needs_closed_form(self) -> bool:
        return True

    @property
    def random(self) -> bool:
        return False

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
        share = 1 / shape[1] if self.share is None else self.share
        return share * gaussian_of(likelihood, "MixtureShares").mixture[:, None].expand(shape)
