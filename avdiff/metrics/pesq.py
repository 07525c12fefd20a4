"""Perceptual evaluation of speech quality, wide and narrow band."""

from __future__ import annotations

from torch import Tensor

from avdiff.extras import lazy
from avdiff.metrics.base import Undefined, clip_pair
from avdiff.types import SAMPLE_RATE

itu = lazy("pesq")


def pesq(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """PESQ wide band (ITU-T P.862.2), MOS-LQO from 1 to 4.64.

    Args:
        estimate, reference: (T,).
        sample_rate: Hz; wide band is defined at 16000 alone.

    Raises:
        ValueError: another sample rate.
        Undefined: one is silent or not finite, no utterance is found, or the clip is under 1/4 s.
    """
    return _pesq(estimate, reference, sample_rate, "wb")


def pesq_narrow(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """PESQ narrow band (ITU-T P.862.1), MOS-LQO from 1 to 4.55. Papers that say "PESQ" mean either; say which.

    Args and errors are those of `pesq`; the recommendation's own filter limits the band at 16000 Hz.
    """
    return _pesq(estimate, reference, sample_rate, "nb")


def _pesq(estimate: Tensor, reference: Tensor, sample_rate: int, band: str) -> float:
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"PESQ takes {SAMPLE_RATE} Hz; resample from {sample_rate} Hz first")
    found, clean = clip_pair(estimate, reference)
    try:
        return float(itu.pesq(sample_rate, clean, found, band))
    except (itu.PesqError, ValueError) as error:  # ValueError: its own arithmetic met a NaN
        cause = error.args[0] if error.args else error
        raise Undefined(cause.decode() if isinstance(cause, bytes) else str(cause)) from error
