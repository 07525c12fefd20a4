"""A separation against its references, source by source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_distortion_ratio

from avdiff.errors import UserError
from avdiff.extras import need
from avdiff.metrics.base import Undefined
from avdiff.metrics.bss import interference_and_artifacts
from avdiff.metrics.dnsmos import Dnsmos
from avdiff.metrics.estoi import estoi
from avdiff.metrics.nisqa import DIMENSIONS, Nisqa
from avdiff.metrics.pesq import pesq, pesq_narrow
from avdiff.metrics.si_sdr import si_sdr
from avdiff.metrics.table import NO_MIXTURE, Score
from avdiff.types import OFFSCREEN, ROLES, SPEAKER, Role, check_layout, source_names

TALKERS: tuple[Role, ...] = (SPEAKER, OFFSCREEN)
CORE = ("si_sdr", "estoi", "pesq")


class Metric(Protocol):
    """How the sources of a mixture are scored.

    Attributes:
        roles: of the sources that it makes sense for.
        model: the network that is asked, told beside its figures; empty for a formula.
    """

    @property
    def roles(self) -> tuple[Role, ...]: ...
    @property
    def model(self) -> str: ...

    def values(
        self, estimates: Tensor, references: Tensor, wanted: Sequence[int], sample_rate: int
    ) -> list[Mapping[str, float] | Undefined]:
        """The figures of the wanted sources by name, or why one has none.

        Args:
            estimates, references: (K, T), every source of the mixture.
            wanted: sources to score.
            sample_rate: Hz.
        """
        ...


@dataclass(frozen=True)
class OfPairs:
    """A metric of one estimate and its reference.

    Attributes:
        name: of its figure.
        measure: (estimate (T,), reference (T,), sample rate) -> value; raises `Undefined` where there is none.
    """

    name: str
    measure: Callable[[Tensor, Tensor, int], float]
    roles: tuple[Role, ...] = TALKERS
    model: str = ""

    def values(
        self, estimates: Tensor, references: Tensor, wanted: Sequence[int], sample_rate: int
    ) -> list[Mapping[str, float] | Undefined]:
        def value(k: int) -> dict[str, float]:
            return {self.name: self.measure(estimates[k], references[k], sample_rate)}

        return _of_each(wanted, value)


@dataclass(frozen=True)
class BssEval:
    """`sir` and `sar`, of an estimate and all references."""

    roles: tuple[Role, ...] = ROLES
    model: str = ""

    def values(
        self, estimates: Tensor, references: Tensor, wanted: Sequence[int], sample_rate: int
    ) -> list[Mapping[str, float] | Undefined]:
        pairs = interference_and_artifacts(estimates, references, wanted)
        return [p if isinstance(p, Undefined) else {"sir": p[0], "sar": p[1]} for p in pairs]


@dataclass(frozen=True)
class NisqaScores:
    """`nisqa`, the overall quality, and its four dimensions, of the estimate alone."""

    network: Nisqa
    roles: tuple[Role, ...] = TALKERS
    model: str = "NISQA v2.0"

    def values(
        self, estimates: Tensor, references: Tensor, wanted: Sequence[int], sample_rate: int
    ) -> list[Mapping[str, float] | Undefined]:
        def dimensions(k: int) -> dict[str, float]:
            told = self.network.dimensions(estimates[k], sample_rate)
            return {nisqa_name(dimension): value for dimension, value in told.items()}

        return _of_each(wanted, dimensions)


def _of_each(
    wanted: Sequence[int], values: Callable[[int], Mapping[str, float]]
) -> list[Mapping[str, float] | Undefined]:
    """The values of each source, or why there are none."""
    found: list[Mapping[str, float] | Undefined] = []
    for k in wanted:
        try:
            found.append(values(k))
        except Undefined as reason:
            found.append(reason)
    return found


def nisqa_name(dimension: str) -> str:
    """Of its figure in tables: the overall score is plain `nisqa`."""
    return "nisqa" if dimension == DIMENSIONS[0] else f"nisqa_{dimension}"


def _si_sdr(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    return si_sdr(estimate, reference)


def _si_sdr_zero_mean(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    return si_sdr(estimate, reference, zero_mean=True)


_BSS_EVAL = BssEval()
METRICS: dict[str, Metric] = {
    "si_sdr": OfPairs("si_sdr", _si_sdr, ROLES),
    "si_sdr_zero_mean": OfPairs("si_sdr_zero_mean", _si_sdr_zero_mean, ROLES),
    "estoi": OfPairs("estoi", estoi),
    "pesq": OfPairs("pesq", pesq),
    "pesq_nb": OfPairs("pesq_nb", pesq_narrow),
    "sir": _BSS_EVAL,
    "sar": _BSS_EVAL,
}
NEEDS = {"estoi": "pystoi", "pesq": "pesq", "pesq_nb": "pesq", "sir": "fast_bss_eval", "sar": "fast_bss_eval"}
NISQA_METRICS = tuple(map(nisqa_name, DIMENSIONS))
NAMES = (*METRICS, *NISQA_METRICS, "dnsmos")


def choose_metrics(names: Iterable[str], nisqa: Path | None = None, dnsmos: Path | None = None) -> dict[str, Metric]:
    """Metrics by name.

    Args:
        names: from NAMES.
        nisqa: the weights that `nisqa` and its dimensions need.
        dnsmos: folder of the networks that `dnsmos` needs.

    Raises:
        UserError: an unknown name, or a metric without its weights or its package.
    """
    available = dict(METRICS)
    if nisqa is not None:
        available.update(dict.fromkeys(NISQA_METRICS, NisqaScores(Nisqa(nisqa))))
    if dnsmos is not None:
        available["dnsmos"] = OfPairs("dnsmos", Dnsmos(dnsmos), TALKERS, "DNSMOS P.835")
    for name in names:
        if name not in NAMES:
            raise UserError(f"there is no metric {name!r}; the metrics are {', '.join(NAMES)}")
        if name not in available:
            flag = "--dnsmos FOLDER" if name == "dnsmos" else "--nisqa PATH/nisqa.tar"
            raise UserError(f"the metric {name} needs weights that do not come with the package; give them: {flag}")
        if name in NEEDS:
            need(NEEDS[name])  # before anything is separated
    return {name: available[name] for name in names}


def score(
    estimate: Tensor,
    reference: Tensor,
    mixture: Tensor | None,
    layout: tuple[Role, ...],
    sample_rate: int,
    metrics: Mapping[str, Metric] | Sequence[str] = CORE,
) -> list[Score]:
    """Every metric of every source it applies to, for the estimate and for the mixture as if it were one.

    Visible talkers and noise are scored in their order. Two or more off-screen talkers, whom nothing tells apart, are
    scored in the order that fits best, and their rows say so.

    Args:
        estimate: (K, T), in the order of the layout, raw.
        reference: (K, T).
        mixture: (T,); None where it is not known: rows then have no value for it, and say so.
        layout: one role a source.
        sample_rate: Hz.
        metrics: of `choose_metrics`, or names from METRICS.

    Raises:
        UserError: an unknown metric.
        ValueError: shapes that do not go together.
    """
    check_layout(layout)
    chosen = metrics if isinstance(metrics, Mapping) else choose_metrics(metrics)
    heard = reference[0] if mixture is None and reference.ndim == 2 and len(reference) else mixture
    shape = () if heard is None else tuple(heard.shape)
    expected = (len(layout), *shape)
    if len(shape) != 1 or estimate.shape != expected or reference.shape != expected:
        raise ValueError(
            f"estimate {tuple(estimate.shape)}, reference {tuple(reference.shape)} and mixture {shape} "
            f"do not go together; expected ({len(layout)}, T), ({len(layout)}, T) and (T,)"
        )
    hidden = [k for k, role in enumerate(layout) if role == OFFSCREEN]
    if permuted := len(hidden) > 1:
        estimate = estimate.clone()
        estimate[hidden] = best_order(estimate[hidden], reference[hidden])
    rows = dict[tuple[int, str], Score]()
    for metric in dict.fromkeys(chosen.values()):
        wanted = [k for k, role in enumerate(layout) if role in metric.roles]
        before: list[Mapping[str, float] | Undefined] = [Undefined(NO_MIXTURE)] * len(wanted)
        if mixture is not None:
            before = metric.values(mixture.expand_as(reference), reference, wanted, sample_rate)
        after = metric.values(estimate, reference, wanted, sample_rate)
        for name in (name for name, of in chosen.items() if of == metric):
            for k, *pair in zip(wanted, before, after, strict=True):
                (x, why_x), (y, why_y) = (_figure(found, name) for found in pair)
                source = source_names(layout)[k]
                rows[k, name] = Score(
                    source, name, x, y, why_y or why_x, metric.model, permuted=permuted and k in hidden
                )
    return [rows[k, name] for k in range(len(layout)) for name in chosen if (k, name) in rows]


def best_order(estimates: Tensor, references: Tensor) -> Tensor:
    """Estimates (K, T) in the order of the references (K, T) that gives the best mean SI-SDR."""
    given = estimates.nan_to_num(posinf=0.0, neginf=0.0)
    _, order = permutation_invariant_training(given[None], references[None], scale_invariant_signal_distortion_ratio)
    return estimates[order[0]]


def _figure(found: Mapping[str, float] | Undefined, name: str) -> tuple[float, str]:
    if isinstance(found, Undefined):
        return math.nan, str(found)
    if not math.isfinite(found[name]):
        return math.nan, f"{name} is not finite"
    return found[name], ""
