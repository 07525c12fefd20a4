"""Scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from avdiff.metrics.base import clip_pair

CONVENTION = (
    "SI-SDR in dB: `si_sdr` keeps the means of the signals, `si_sdr_zero_mean` takes them off first, as the figures of many "
    "other systems do; recordings with an offset differ in the two."
)


def si_sdr(estimate: Tensor, reference: Tensor, zero_mean: bool = False) -> float:
    """SI-SDR in dB (Le Roux et al., arXiv 1811.02508). A perfect estimate gives about 110 dB.

    Args:
        estimate, reference: (T,).
        zero_mean: take the mean off both first, as the definition of SI-SNR does; off, an offset is an error like any other.

    Raises:
        Undefined: one is silent or not finite.
    """
    found, clean = clip_pair(estimate, reference)
    return float(scale_invariant_signal_distortion_ratio(torch.from_numpy(found), torch.from_numpy(clean), zero_mean))
