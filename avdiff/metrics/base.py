"""What every metric shares: one clip in, one number out, and a reason where there is none."""

from __future__ import annotations

import numpy as np
from torch import Tensor

SILENCE = 1e-8  # RMS below which a signal counts as silent: far under the last bit of 24-bit audio


class Undefined(ValueError):
    """A metric has no value for this clip; the message is the reason. Tables keep such a row, as NaN."""


def clip_pair(estimate: Tensor, reference: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays, once a metric can have a value for them.

    Args:
        estimate, reference: (T,).

    Raises:
        ValueError: shapes differ or are not (T,).
        Undefined: one is silent or not finite. (Otherwise SI-SDR of a silent estimate would be 0 dB, and ESTOI near 0.)
    """
    if estimate.ndim != 1 or estimate.shape != reference.shape:
        raise ValueError(
            f"estimate has shape {tuple(estimate.shape)} and reference {tuple(reference.shape)}; "
            "metrics take one clip at a time, both (samples,)"
        )
    return clip_array(estimate, "estimate"), clip_array(reference, "reference")


def clip_array(signal: Tensor, name: str) -> np.ndarray:
    """A signal (T,) as a float64 array, once a metric can have a value for it.

    Raises:
        Undefined: it is silent or not finite.
    """
    found = signal.detach().cpu().double().numpy()
    if not np.isfinite(found).all():
        raise Undefined(f"the {name} is not finite")
    if not np.sqrt(np.mean(found**2)) > SILENCE:
        raise Undefined(f"the {name} is silent")
    return found
