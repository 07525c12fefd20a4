"""How much of an estimate is other sources, and how much is in no source: SIR and SAR."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from avdiff.extras import lazy
from avdiff.metrics.base import Undefined, clip_array

fast_bss_eval = lazy("fast_bss_eval")

FILTER = 512  # taps by which a source may be distorted without counting as error (BSS Eval's)


def interference_and_artifacts(
    estimates: Tensor, references: Tensor, wanted: Sequence[int]
) -> list[tuple[float, float] | Undefined]:
    """SIR and SAR in dB (Vincent, Gribonval and Fevotte, 2006), in the order given: nothing is permuted.

    Args:
        estimates: (K, T).
        references: (K, T), every source of the mixture, the noise too: what leaks from it is interference.
        wanted: sources to score; the others' estimates are not looked at.

    Returns:
        For each wanted source the two, or why it has none: an estimate that is silent or not finite, any reference that
        is, or references of which one is a filtered copy of others. A lone source has no interference: its SIR is inf.
    """
    try:
        clean = torch.from_numpy(np.stack([clip_array(reference, "reference") for reference in references]))
    except Undefined as reason:
        return [Undefined("a reference of the mixture" + str(reason).removeprefix("the reference"))] * len(wanted)
    results: list[tuple[float, float] | Undefined] = []
    usable = clean.clone()  # what is not scored is taken as perfect
    for k in wanted:
        try:
            usable[k] = torch.from_numpy(clip_array(estimates[k], "estimate"))
        except Undefined:
            continue
    try:
        _, sir, sar = fast_bss_eval.bss_eval_sources(clean, usable, filter_length=FILTER, compute_permutation=False)
    except RuntimeError:  # torch.linalg's
        return [Undefined("one source of the mixture is a filtered copy of others")] * len(wanted)
    for k in wanted:
        try:
            clip_array(estimates[k], "estimate")
            results.append((float(sir[k]) if len(clean) > 1 else math.inf, float(sar[k])))
        except Undefined as reason:
            results.append(reason)
    return results
