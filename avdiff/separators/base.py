"""What a separation method promises, whatever is inside."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avdiff.errors import UserError
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.types import ClipInfo, Observation, Separation


class NotSeparated(UserError):
    """A recording, or a part of it, could not be separated; the sentence says why."""


def separation(
    observation: Observation,
    sources: Tensor,
    info: dict[str, Any],
    failures: Mapping[int, str] | None = None,
    figures: Sequence[Mapping[str, Any]] | None = None,
) -> Separation:
    """Result of a method. Clips that it gave up, or whose mixture is not finite, are NaN.

    Args:
        observation: that was separated.
        sources: (B, K, T).
        info: see `Separation`.
        failures: row -> why the method gave it up.
        figures: of each clip, see `ClipInfo`.
    """
    reasons: list[str | None] = [(failures or {}).get(row) for row in range(len(observation.key))]
    for row in (~observation.mixture.isfinite().all(-1)).nonzero().flatten().tolist():
        reasons[row] = "the mixture holds values that are not finite; mend the recording"
    if any(reasons):
        lost = torch.tensor([reason is not None for reason in reasons], device=sources.device)
        sources = torch.where(lost[:, None, None], torch.nan, sources)
    clips = tuple(map(ClipInfo, figures or [{}] * len(reasons), reasons))
    return Separation(observation.key, observation.layout, sources, info, clips)


class Separator(nn.Module):
    """One method: a mixture (and lips) in, every source out."""

    @property
    def visual_input(self) -> str:
        """Content of `Observation.visual`: "mouth" (uint8 96x96 crops), "features" (computed before) or "none"."""
        return "mouth"

    @property
    def oracle(self) -> bool:
        """Whether it must be told the sources themselves (`Observation.truth`): an oracle to compare with, no method."""
        return False

    @property
    def spreads(self) -> bool:
        """Whether a separation comes with the spread of several draws (`Separation.std`)."""
        return False

    def restricted(self, speakers: Sequence[int]) -> Separator:
        """The method for mixtures of some of a recording's speakers; itself, unless it knows who they are by their order.

        Args:
            speakers: that are there, by their indices in the recording's layout.
        """
        return self

    @abstractmethod
    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        """Estimate every source of the layout, at the level that it has in the mixture. Raw: nothing is made to add up.

        A clip that cannot be separated is NaN, with the reason in `Separation.failures`; the others of the batch are as they
        would be without it.
        """

    def forward(self, mixture: Any, **options: Any) -> Separation:
        """Separate arrays of any rate: `avdiff.separators.arrays.separate_arrays`, which has the arguments."""
        from avdiff.separators.arrays import (
            separate_arrays,
        )  # it knows long recordings, whose separator is one of these

        return separate_arrays(self, mixture, **options)

    __call__: Callable[..., Separation]
