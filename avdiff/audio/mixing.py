"""The one definition of levels: the level of a signal is its mean power over the clip, silences included, in dB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor


def power(x: Tensor) -> Tensor:
    """Mean square over the last axis: (..., T) -> (...)."""
    # Summed in double precision: else the last bit, and with it a benchmark, would depend on the number of threads.
    return x.double().square().mean(-1).to(x.dtype)


def ratio_db(target: Tensor, interference: Tensor) -> Tensor:
    """10 log10 of the ratio of powers (SNR, SIR): (..., T), (..., T) -> (...)."""
    return 10 * torch.log10(power(target) / power(interference))


def scale_to_ratio(interference: Tensor, target: Tensor, db: Tensor | float) -> Tensor:
    """The interference at the level where `ratio_db(target, result)` is `db`.

    Args:
        interference: (..., T), scaled.
        target: (..., T), left alone.
        db: wanted ratio, a number or (...).

    Raises:
        ValueError: either is silent, so that no level gives the ratio.
    """
    if not (bool((power(interference) > 0).all()) and bool((power(target) > 0).all())):
        raise ValueError("a level was asked for between signals of which one is silent; leave silent clips out")
    gain = 10 ** ((ratio_db(target, interference) - db) / 20)
    return interference * gain[..., None]


@dataclass(frozen=True)
class Levels:
    """The range that each ratio of a mixture is drawn from, evenly, in dB.

    Attributes:
        sir: of the first talker to each other one.
        snr: of the weakest talker to the noise.
    """

    sir: tuple[float, float]
    snr: tuple[float, float]

    def draw(self, uniform: Callable[[float, float], float]) -> tuple[float, float]:
        """An SIR and an SNR. A range of one value takes nothing from the random numbers.

        Args:
            uniform: gives an even draw from a range.
        """
        sir, snr = (low if low == high else float(uniform(low, high)) for low, high in (self.sir, self.snr))
        return sir, snr


# SSNAPS (arXiv 2602.01394): one talker, two, and three who are equally loud, for training of comparators and for its tests.
PAPER_LEVELS: Mapping[int, Levels] = MappingProxyType(
    {
        1: Levels(sir=(0.0, 0.0), snr=(-5.0, 10.0)),
        2: Levels(sir=(-5.0, 5.0), snr=(-3.0, 3.0)),
        3: Levels(sir=(0.0, 0.0), snr=(15.0, 15.0)),
    }
)


def mix(speech: Tensor, noise: Tensor, sir: float, snr: float) -> Tensor:
    """The sources of one mixture at their levels; the first talker is left as it is.

    Args:
        speech: (K, T), one row a talker.
        noise: (T,).
        sir: dB of the first talker to each other one.
        snr: dB of the weakest talker to the noise.

    Returns:
        (K + 1, T), the noise last; their sum is the mixture.

    Raises:
        ValueError: one of them is silent.
    """
    speech = torch.cat([speech[:1], scale_to_ratio(speech[1:], speech[:1], sir)])
    weakest = speech[int(power(speech).argmin())]
    return torch.cat([speech, scale_to_ratio(noise, weakest, snr)[None]])
