"""What a posterior sampler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise

# times the larger of the noise level and the data: a diverging sample soon gets there, and no other does, since a single click in
# N samples of silence is sqrt(N) times as loud as their root mean square: 700 in half a minute
TOO_FAR = 1000.0


@dataclass(frozen=True)
class Progress:
    """Where a sampler is; handed to its callback after every annealing step.

    Attributes:
        step: steps done, 1 to `steps`. Those of a warm start come first.
        steps: steps in all.
        sigma: noise level just done, in waveform units.
        denoised: (B, K, T) current estimate; zero for clips that have diverged.
    """

    step: int
    steps: int
    sigma: float
    denoised: Tensor


class Callback(Protocol):
    def __call__(self, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Failure:
    """Where a clip's sampling diverged.

    Attributes:
        step: of the sampler, from 1.
        sigma: noise level there, in waveform units.
        cause: the likely one, and what to change.
    """

    step: int
    sigma: float
    cause: str

    def __str__(self) -> str:
        return f"sampling diverged at step {self.step}, noise level {self.sigma:.3g}: {self.cause}"


class Divergence(UserError):
    """The state of some clips left every plausible range. Raised when the others are done.

    Attributes:
        failures: row of the batch -> what happened to it.
        samples: (B, K, T) what the sampler has of the other clips; NaN in the rows that failed.
    """

    def __init__(self, failures: dict[int, Failure], samples: Tensor) -> None:
        self.failures, self.samples = failures, samples
        row, first = next(iter(failures.items()))
        rows = ", ".join(map(str, sorted(failures)))
        more = f" (clip {row})" if len(failures) > 1 else ""
        super().__init__(f"clip(s) {rows} of {len(samples)} were given up; {first}{more}")

    @property
    def clips(self) -> list[int]:
        """Rows of the batch that failed."""
        return sorted(self.failures)


@dataclass
class Watchdog:
    """Stops clips that diverge, one by one: the rows of a batch have nothing to do with each other.

    Attributes:
        limit: no sample is louder than this, in waveform units.
        failures: row of the batch -> where it diverged.
    """

    limit: float
    failures: dict[int, Failure] = field(default_factory=dict)

    def check(self, x: Tensor, *, step: int, sigma: float, cause: str) -> Tensor:
        """x, (B, K, T), with zeros in place of clips that are not finite or beyond the limit, now or before.

        Args:
            step: of the sampler, from 1.
            sigma: noise level.
            cause: what is to blame if a clip that was fine so far no longer is.

        Raises:
            Divergence: no clip is left.
        """
        fine = x.flatten(1).abs().amax(1) <= self.limit  # False for NaN too
        if fine.all() and not self.failures:
            return x
        for row in (~fine).nonzero().flatten().tolist():
            self.failures.setdefault(row, Failure(step, sigma, cause))
        if len(self.failures) == len(x):
            raise Divergence(self.failures, torch.full_like(x, torch.nan))
        return self.zeroed(x)

    def zeroed(self, x: Tensor) -> Tensor:
        """x, (B, K, T), with zeros in place of clips that have diverged."""
        return self._replaced(x, 0.0) if self.failures else x

    def done(self, x: Tensor) -> Tensor:
        """x, (B, K, T), at the end of sampling.

        Raises:
            Divergence: some clips failed; it has the samples of the others.
        """
        if self.failures:
            raise Divergence(self.failures, self.lost(x))
        return x

    def lost(self, x: Tensor) -> Tensor:
        """x, (B, K, T), with NaN in place of clips that have diverged."""
        return self._replaced(x, torch.nan) if self.failures else x

    def started(self, fit: Fit) -> Tensor:
        """Take over the failures of a sampler that gave the start, and its samples of the other clips."""
        self.failures.update(fit.failures)
        return self.zeroed(fit.samples)

    def _replaced(self, x: Tensor, value: float) -> Tensor:
        rows = torch.tensor(sorted(self.failures), device=x.device)
        return x.index_fill(0, rows, value)


@dataclass(frozen=True)
class Fit:
    """A posterior sample and the product of priors that it is of, with all that was estimated from the mixture.

    Attributes:
        samples: (B, K, T) at the priors' level; NaN in the rows that failed.
        prior: the one that was given, or one made of it.
        failures: row of the batch -> what happened to it.
    """

    samples: Tensor
    prior: BoundPrior
    failures: Mapping[int, Failure] = field(default_factory=dict)

    def checked(self) -> Tensor:
        """The samples.

        Raises:
            Divergence: some clips failed; it has the samples of the others.
        """
        if self.failures:
            raise Divergence(dict(self.failures), self.samples)
        return self.samples


class PosteriorSampler(ABC):
    """Draws from p(x | y) given a product prior and a likelihood. Subclasses are frozen dataclasses."""

    @property
    def needs_closed_form(self) -> bool:
        """Whether it works only with a likelihood that is Gaussian."""
        return False

    @property
    def random(self) -> bool:
        """Whether the result depends on the noise: whether several of one mixture differ."""
        return True

    @abstractmethod
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
        """One posterior sample.

        Args:
            shape: (B, K, T).
            like: a tensor that gives device and dtype.

        Returns:
            (B, K, T) at the priors' level.

        Raises:
            Divergence: some clips failed; it has the samples of the others.
        """

    def fit(
        self,
        prior: BoundPrior,
        likelihood: BoundLikelihood,
        shape: tuple[int, int, int],
        *,
        like: Tensor,
        rng: ClipNoise,
        callback: Callback | None = None,
    ) -> Fit:
        """`sample`, with the prior that another sampler goes on with: the one given, unless this one estimates parts of it.

        Raises:
            Divergence: no clip is left.
        """
        try:
            return Fit(self.sample(prior, likelihood, shape, like=like, rng=rng, callback=callback), prior)
        except Divergence as divergence:
            if len(divergence.failures) == len(divergence.samples):
                raise
            return Fit(divergence.samples, prior, divergence.failures)
