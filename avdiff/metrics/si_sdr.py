"""Scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from avdiff.metrics.base import clip_pair


def si_sdr(estimate: Tensor, reference: Tensor) -> float:
    """SI-SDR in dB (Le Roux et al., arXiv 1811.02508), means not removed. A perfect estimate gives about 110 dB.

    Args:
        estimate, reference: (T,).

    Raises:
        Undefined: one is silent or not finite.
    """
    found, clean = clip_pair(estimate, reference)
    return float(scale_invariant_signal_distortion_ratio(torch.from_numpy(found), torch.from_numpy(clean)))
