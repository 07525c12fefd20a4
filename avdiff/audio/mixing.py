"""The one definition of levels: the level of a signal is its mean power over the clip, silences included, in dB."""

from __future__ import annotations

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
