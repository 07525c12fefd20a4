"""What a separation method promises, whatever is inside."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import nn

from avdiff.errors import UserError
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.types import Observation, Separation


class NotSeparated(UserError):
    """A recording, or a part of it, could not be separated; the sentence says why."""


class Separator(nn.Module):
    """One method: a mixture (and lips) in, every source out.

    Attributes:
        visual_input: what `Observation.visual` must hold: "mouth" (uint8 96x96 crops), "features" (precomputed
            visual features) or "none".
    """

    visual_input: ClassVar[str] = "mouth"

    @abstractmethod
    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        """Estimate every source of the layout, at the level that it has in the mixture. Raw: nothing is made to add up.

        A clip that cannot be separated is NaN, with the reason in `Separation.failures`; the others of the batch are as they
        would be without it.
        """
