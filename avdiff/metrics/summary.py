"""Means of a table of results with their uncertainty, and whether one method is better than another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, wilcoxon

from avdiff.metrics.table import NO_MIXTURE, Row

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """Rows of one condition, role, metric and model taken together.

    Attributes:
        condition: of the benchmark.
        role: of the sources.
        metric: its name.
        sources: how many had a value for mixture and estimate (where the list gives no mixture: for the estimate); the means
            are over these.
        undefined: how many had not (or, for word errors, no word in their reference).
        mixture: mean of the unprocessed mixtures; NaN, as is the improvement, where the list gives none.
        estimate: mean of the estimates.
        improvement: mean of estimate minus mixture.
        error: standard error of the improvement, over sources.
        low, high: of the improvement, 95 % bootstrap interval over mixtures.
        estimate_low, estimate_high: of the estimate, likewise.
        model: the network or recogniser that was asked; empty for a formula.
    """

    condition: str
    role: str
    metric: str
    sources: int
    undefined: int
    mixture: float
    estimate: float
    improvement: float
    error: float
    low: float = math.nan
    high: float = math.nan
    estimate_low: float = math.nan
    estimate_high: float = math.nan
    model: str = ""


@dataclass(frozen=True)
class Comparison:
    """One method against another on the mixtures that both have.

    Attributes:
        condition, role, metric, model: of the rows.
        method, other: the two.
        mixtures: with a value for both.
        difference: mean over mixtures of method minus other.
        low, high: of the difference, 95 % bootstrap interval over mixtures.
        p: of Wilcoxon's signed-rank test, two-sided; 1 where all differences are zero.
        p_holm: the same, corrected by Holm for all comparisons of the table.
        data: the list of mixtures, where a table has several.
    """

    condition: str
    role: str
    metric: str
    model: str
    method: str
    other: str
    mixtures: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    data: str = ""


def summarise(rows: Iterable[Row]) -> list[Mean]:
    """Means over the sources of one role, by condition, metric and model, in the order in which they first occur.

    Word errors are weighted by the words of their references, which makes them those of the whole corpus.
    """
    return [_mean(*key, group) for key, group in _groups(rows).items()]


def _groups(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.condition, row.role, row.metric, row.model), []).append(row)
    return groups


def titled(metric: str, model: str) -> str:
    """A metric as a table calls it, with the network or recogniser that was asked, if one was."""
    return f"{metric} ({model})" if model else metric


def _usable(row: Row) -> bool:
    compared = math.isfinite(row.mixture) or row.reason == NO_MIXTURE
    return compared and math.isfinite(row.estimate) and row.weight > 0


def _mean(condition: str, role: str, metric: str, model: str, rows: Sequence[Row]) -> Mean:
    kept = [row for row in rows if _usable(row)]
    undefined = len(rows) - len(kept)
    if not kept:
        nan = math.nan
        return Mean(condition, role, metric, 0, undefined, nan, nan, nan, nan, model=model)
    weights = np.array([row.weight for row in kept])
    before, after = (np.array([getattr(row, name) for row in kept]) for name in ("mixture", "estimate"))
    gains = after - before
    error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    clips = [row.clip for row in kept]
    mixture, estimate, gain = (float(np.average(values, weights=weights)) for values in (before, after, gains))
    (low, high), (estimate_low, estimate_high) = (interval(values, weights, clips) for values in (gains, after))
    return Mean(
        condition, role, metric, len(kept), undefined, mixture, estimate, gain, error, low, high, estimate_low,
        estimate_high, model,
    )  # fmt: skip


def interval(values: np.ndarray, weights: np.ndarray, clips: Sequence[str]) -> tuple[float, float]:
    """95 % bootstrap interval (percentiles) of a weighted mean. Mixtures are drawn: the sources of one are not independent.

    Args:
        values, weights: (n,) of sources.
        clips: the mixture of each.

    Returns:
        Both ends; NaN for fewer than two mixtures, and for values that are not known. The same rows give the same interval.
    """
    _, place = np.unique(np.asarray(clips), return_inverse=True)
    if place.max(initial=0) < 1 or not np.isfinite(values).all():
        return math.nan, math.nan
    sums, counts = np.bincount(place, weights * values), np.bincount(place, weights)
    found = bootstrap(
        (sums, counts),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def compare(tables: Mapping[str, Sequence[Row]], data: str = "") -> list[Comparison]:
    """Every two methods, on every condition, role, metric and model that both have, corrected by `holm` as if these were all.

    Args:
        tables: rows by method; of several seeds of one method, a mixture's values are averaged.
        data: the list that they are of.
    """
    values = {method: {key: _by_clip(group) for key, group in _groups(rows).items()} for method, rows in tables.items()}
    methods, found = list(tables), list[Comparison]()
    for i, method in enumerate(methods):
        for other in methods[i + 1 :]:
            for key, mine in values[method].items():
                theirs = values[other].get(key, {})
                clips = sorted(mine.keys() & theirs.keys())
                if len(clips) < 2:
                    continue
                gaps = np.array([mine[clip] - theirs[clip] for clip in clips])
                low, high = interval(gaps, np.ones(len(gaps)), clips)
                p = float(wilcoxon(gaps).pvalue) if gaps.any() else 1.0
                condition, role, metric, model = key
                found.append(
                    Comparison(
                        condition,
                        role,
                        metric,
                        model,
                        method,
                        other,
                        len(clips),
                        float(gaps.mean()),
                        low,
                        high,
                        p,
                        p,
                        data,
                    )
                )
    return holm(found)


def _by_clip(rows: Sequence[Row]) -> dict[str, float]:
    """A mixture's mean over the sources of the group."""
    sums: dict[str, tuple[float, float]] = {}
    for row in rows:
        if math.isfinite(row.estimate) and row.weight > 0:
            total, weight = sums.get(row.clip, (0.0, 0.0))
            sums[row.clip] = total + row.weight * row.estimate, weight + row.weight
    return {clip: total / weight for clip, (total, weight) in sums.items()}


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of a table, such as those of all its lists, with `p_holm` for so many tests.

    S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    order = sorted(range(len(comparisons)), key=lambda i: comparisons[i].p)
    corrected, largest = dict[int, float](), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * comparisons[i].p))
        corrected[i] = largest
    return [Comparison(**{**vars(c), "p_holm": corrected[i]}) for i, c in enumerate(comparisons)]
