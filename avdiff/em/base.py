"""What an EM method promises, and the Itakura-Saito cost that all of them lower."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avdiff.priors.variance import VariancePrior
from avdiff.rng import ClipNoise
from avdiff.types import NOISE, Observation, Role

FLOOR = 1e-6  # variance that every bin has besides its sources', relative to a mixture of root mean square 1

#: told how many iterations are done, of how many at most, and the shares (B, K, frames, bins) by then
Watch = Callable[[int, int, Callable[[], Tensor]], None]


def cost(power: Tensor, variance: Tensor) -> Tensor:
    """-ln p(x) a bin but for a constant: mean of |x|² / V + ln V over the last two axes.

    Minus its least value it is the Itakura-Saito divergence of |x|² and V.
    """
    return (power / variance + variance.log()).mean((-2, -1))


@dataclass(frozen=True)
class Outcome:
    """What an EM method found.

    Attributes:
        shares: (B, K, frames, bins), the part of each bin that belongs to each source; they sum to 1.
        costs: of each clip after each of its iterations, nats a bin, length B.
        evaluations: of a decoder, a source.
    """

    shares: Tensor
    costs: list[list[float]]
    evaluations: int = 0


class MixtureEM(nn.Module, ABC):
    """Parameters of a mixture estimated by expectation-maximisation, without training on mixtures.

    Attributes:
        visual_input: see `avdiff.separators.base.Separator`.
    """

    visual_input: str = "none"

    @property
    @abstractmethod
    def prior(self) -> VariancePrior:
        """Whose STFT is used."""

    def restricted(self, speakers: Sequence[int]) -> MixtureEM:
        """The model of mixtures of some of a recording's speakers: see `avdiff.separators.base.Separator.restricted`."""
        return self

    @abstractmethod
    def estimate(
        self, power: Tensor, observation: Observation, *, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        """Fit the model to a mixture.

        Args:
            power: (B, frames, bins) of the mixture at root mean square 1; see `VariancePrior`.
            observation: what it is of; its samples are not used.
            rng: keyed to the clips.
            watch: see `Watch`.
        """


class Stopping:
    """Clips that go on: a clip stops when its cost changes by less than a tolerance. Others do not change what it gets.

    Args:
        clips: in the batch.
        tolerance: nats a bin; 0 for never.
        like: gives the device.
    """

    def __init__(self, clips: int, tolerance: float, like: Tensor) -> None:
        self.running = torch.ones(clips, dtype=torch.bool, device=like.device)
        self.costs: list[list[float]] = [[] for _ in range(clips)]
        self.tolerance, self._last = tolerance, like.new_full((clips,), torch.inf)

    def step(self, cost: Tensor) -> bool:
        """Take in the costs (B,) of an iteration; whether any clip goes on."""
        for costs, value, running in zip(self.costs, cost.tolist(), self.running.tolist(), strict=True):
            costs.extend([value] * running)
        self.running &= (self._last - cost).abs() >= self.tolerance
        self._last = cost
        return bool(self.running.any())

    def keep(self, new: Tensor, old: Tensor) -> Tensor:
        """New values (B, ...) of the clips that go on, old ones of the others."""
        return torch.where(self.running.view(-1, *[1] * (new.ndim - 1)), new, old)


def talkers_of(layout: tuple[Role, ...]) -> int:
    """How many of a layout's sources talk; they come first."""
    return len(layout) - layout.count(NOISE)


def completed(shares: Tensor) -> Tensor:
    """Shares (B, K, frames, bins) whose last source takes what is left, so that they sum to 1."""
    return torch.cat([shares[:, :-1], 1 - shares[:, :-1].sum(1, keepdim=True)], dim=1)
