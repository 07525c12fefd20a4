"""What lies below any voice: an offset of the converter, and how it drifts."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import oaconvolve
from torch import Tensor

from avdiff.types import SAMPLE_RATE

LONG = SAMPLE_RATE // 10  # samples of the mean, which is nearly nothing above 20 Hz


def without_rumble(x: Tensor) -> Tensor:
    """Take from a signal its running mean: below 10 Hz little is left, and nothing of a constant; above 20 Hz little changes.

    Args:
        x: (n,) at 16 kHz. What lies more than 0.05 s away has no influence.
    """
    window = np.hanning(LONG + 3)[1:-1]
    samples = x.double().numpy()
    mean = oaconvolve(samples, window, "same") / oaconvolve(np.ones_like(samples), window, "same")
    return torch.from_numpy(samples - mean).to(x.dtype)
