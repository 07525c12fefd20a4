"""A separation against its references, source by source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from avdiff.errors import UserError
from avdiff.metrics.base import Undefined
from avdiff.metrics.estoi import estoi
from avdiff.metrics.pesq import pesq
from avdiff.metrics.si_sdr import si_sdr
from avdiff.types import OFFSCREEN, ROLES, SPEAKER, Role, check_layout, source_names


@dataclass(frozen=True)
class Metric:
    """How a source is scored.

    Attributes:
        measure: (estimate (T,), reference (T,), sample rate) -> value; raises `Undefined` where there is none.
        roles: of the sources that it makes sense for.
    """

    measure: Callable[[Tensor, Tensor, int], float]
    roles: tuple[Role, ...]


METRICS: dict[str, Metric] = {
    "si_sdr": Metric(lambda estimate, reference, _: si_sdr(estimate, reference), ROLES),
    "estoi": Metric(estoi, (SPEAKER, OFFSCREEN)),
    "pesq": Metric(pesq, (SPEAKER, OFFSCREEN)),
}


@dataclass(frozen=True)
class Score:
    """One row of a table of results.

    Attributes:
        source: its name (speaker1, ..., offscreen, noise).
        metric: its name.
        mixture: value of the unprocessed mixture, NaN where there is none.
        estimate: value of the estimate, NaN where there is none.
        reason: why a value is NaN; empty otherwise.
    """

    source: str
    metric: str
    mixture: float
    estimate: float
    reason: str = ""


def score(
    estimate: Tensor,
    reference: Tensor,
    mixture: Tensor,
    layout: tuple[Role, ...],
    sample_rate: int,
    metrics: Sequence[str] = ("si_sdr", "estoi", "pesq"),
) -> list[Score]:
    """Every metric of every source it applies to, for the estimate and for the mixture as if it were one.

    Args:
        estimate: (K, T), in the order of the layout, raw.
        reference: (K, T).
        mixture: (T,).
        layout: one role a source.
        sample_rate: Hz.
        metrics: names from METRICS.

    Raises:
        UserError: an unknown metric.
        ValueError: shapes that do not go together.
    """
    check_layout(layout)
    if unknown := [name for name in metrics if name not in METRICS]:
        raise UserError(f"there is no metric {unknown[0]!r}; the metrics are {', '.join(METRICS)}")
    expected = (len(layout), *mixture.shape)
    if mixture.ndim != 1 or estimate.shape != expected or reference.shape != expected:
        raise ValueError(
            f"estimate {tuple(estimate.shape)}, reference {tuple(reference.shape)} and mixture {tuple(mixture.shape)} "
            f"do not go together; expected ({len(layout)}, T), ({len(layout)}, T) and (T,)"
        )
    rows = []
    for name, role, found, clean in zip(source_names(layout), layout, estimate, reference, strict=True):
        for metric in metrics:
            if role in METRICS[metric].roles:
                before, why_before = _value(METRICS[metric], mixture, clean, sample_rate)
                after, why_after = _value(METRICS[metric], found, clean, sample_rate)
                rows.append(Score(name, metric, before, after, why_after or why_before))
    return rows


def _value(metric: Metric, estimate: Tensor, reference: Tensor, sample_rate: int) -> tuple[float, str]:
    try:
        return metric.measure(estimate, reference, sample_rate), ""
    except Undefined as reason:
        return math.nan, str(reason)
