"""Extended short-time objective intelligibility."""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor

from avdiff.extras import lazy
from avdiff.metrics.base import Undefined, clip_pair

pystoi = lazy("pystoi")


def estoi(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """ESTOI (Jensen and Taal, 2016), at most 1; silent frames of the reference are left out.

    Args:
        estimate, reference: (T,).
        sample_rate: Hz.

    Raises:
        Undefined: one is silent or not finite, or less than about 0.4 s of the reference is not silent.
    """
    found, clean = clip_pair(estimate, reference)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)  # pystoi goes on with 1e-5
        try:
            return float(pystoi.stoi(clean, found, sample_rate, extended=True))
        except (RuntimeWarning, np.exceptions.AxisError) as error:
            raise Undefined("too little of the reference is not silent (ESTOI needs about 0.4 s)") from error
