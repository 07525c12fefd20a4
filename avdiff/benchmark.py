"""A method on a list of mixtures whose parts are known: separate, score, and put in tables."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_distortion_ratio

from avdiff.errors import UserError
from avdiff.lit.callbacks import SeparationWriter
from avdiff.lit.separation import SeparationModule
from avdiff.lit.store import SeparationStore
from avdiff.metrics.evaluate import Score, score
from avdiff.metrics.wer import GridRecogniser, without_letter, word_error_rate
from avdiff.separators.base import Separator
from avdiff.types import NOISE, SPEAKER, Role, source_names

METRICS = ("si_sdr", "estoi", "pesq")
WORD_ERRORS = "wer"  # of talkers whose words are known, the letter of GRID's sentences left out; lower is better
BEST_ORDER = "si_sdr_pit"  # of talkers who are seen, two or more: the estimates taken in the order that fits best
SCORES = "scores.json"
SETTINGS = "settings.yaml"


class Reference(Protocol):
    """A mixture whose parts are known."""

    @property
    def condition(self) -> str: ...
    @property
    def layout(self) -> tuple[Role, ...]: ...
    @property
    def sources(self) -> Tensor: ...
    @property
    def mixture(self) -> Tensor: ...
    @property
    def transcripts(self) -> tuple[str, ...]: ...


class Listed(Protocol):
    """A mixture by name."""

    @property
    def key(self) -> str: ...


class References(Protocol):
    """A list of mixtures whose parts are known, made when they are asked for."""

    def entries(self) -> Sequence[Listed]: ...
    def __getitem__(self, index: int) -> Reference: ...


@dataclass(frozen=True)
class Row:
    """One figure of one source of one clip.

    Attributes:
        condition: of the benchmark.
        clip: clip id.
        source: its name (speaker1, ..., offscreen, noise).
        metric: its name.
        mixture: value of the unprocessed mixture, NaN where there is none.
        estimate: value of the estimate, NaN where there is none.
    """

    condition: str
    clip: str
    source: str
    metric: str
    mixture: float
    estimate: float


@dataclass(frozen=True)
class Mean:
    """Rows of one condition, role and metric taken together.

    Attributes:
        condition: of the benchmark.
        role: of the sources.
        metric: its name.
        sources: how many had a value for mixture and estimate; the means are over these.
        undefined: how many had not.
        mixture: mean of the unprocessed mixtures.
        estimate: mean of the estimates.
        improvement: mean of estimate minus mixture.
        error: standard error of the improvement.
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


@dataclass(frozen=True)
class Cost:
    """What the clips of one condition took.

    Attributes:
        condition: of the benchmark.
        clips: how many.
        seconds: a clip.
        evaluations: of the network, a source.
    """

    condition: str
    clips: int
    seconds: float
    evaluations: float


@dataclass(frozen=True)
class Results:
    """Tables of a benchmark.

    Attributes:
        rows: one a clip, source and metric.
        means: one a condition, role and metric.
        costs: one a condition.
        csv: where the rows are.
        summary: where means and costs are, as Markdown; the means are beside it as CSV.
    """

    rows: list[Row]
    means: list[Mean]
    costs: list[Cost]
    csv: Path
    summary: Path


def run_benchmark(
    name: str,
    separator: Separator,
    data: pl.LightningDataModule,
    references: References,
    out: Path,
    *,
    settings: str,
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
    accelerator: str = "auto",
    devices: int = 1,
    callbacks: Sequence[pl.Callback] = (),
    noises: Mapping[str, str] | None = None,
    watch: Callable[[str, float], None] | None = None,
) -> Results | None:
    """Separate a list, score it and leave `<out>/<name>.csv`, `<name>.md` and `<name>_summary.csv`.

    Clips go to `<out>/<name>/`, each with its scores beside it; what is there is not made again, so a run that was
    stopped goes on, and more clips or metrics add to it.

    Args:
        name: of the method, for the files.
        separator: the method.
        data: the mixtures for `Trainer.predict`.
        references: the same mixtures with their parts.
        out: folder of the results.
        settings: whatever describes the method (its YAML). With the seed and a digest of the weights it is kept beside
            the clips, so that clips made otherwise are not taken for this run's.
        seed: of the sampling noise.
        metrics: names known to `avdiff.metrics.evaluate`.
        accelerator: Lightning's.
        devices: processes.
        callbacks: for the trainer; a progress bar, for one.
        noises: kind of noise of each clip id; the summary then has SI-SDR by kind too.
        watch: told the stage ("scores") and the share of it that is done.

    Returns:
        The tables; None in all processes but the first.

    Raises:
        UserError: the clips in the folder were made with other settings.
    """
    folder = out / name
    _claim(folder, f"seed: {seed}\nweights: {_digest(separator)}\n---\n{settings.strip()}\n")
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        default_root_dir=folder,
        inference_mode=False,  # some samplers differentiate
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=bool(callbacks),
        callbacks=[SeparationWriter(folder), *callbacks],
    )
    trainer.predict(SeparationModule(separator, seed), datamodule=data, return_predictions=False)
    trainer.strategy.barrier()
    if not trainer.is_global_zero:
        return None
    rows, costs = score_clips(SeparationStore(folder), references, metrics, watch)
    results = Results(rows, summarise(rows), costs, out / f"{name}.csv", out / f"{name}.md")
    _write_csv(results.csv, rows)
    _write_csv(out / f"{name}_summary.csv", results.means)
    results.summary.write_text(_markdown(name, results, noises or {}), encoding="utf-8")
    return results


def score_clips(
    store: SeparationStore,
    references: References,
    metrics: Sequence[str] = METRICS,
    watch: Callable[[str, float], None] | None = None,
) -> tuple[list[Row], list[Cost]]:
    """Score every clip of a list that is in a store.

    Args:
        store: the estimates. Scores are kept beside them and not computed again.
        references: the list; all its clips must be in the store.
        metrics: names known to `avdiff.metrics.evaluate`.
        watch: told the stage ("scores") and the share of it that is done.

    Returns:
        One row a clip, source and metric, and one cost a condition.
    """
    recogniser: GridRecogniser | None = None
    rows: list[Row] = []
    infos: dict[str, list[dict[str, Any]]] = {}
    entries = references.entries()
    for index, entry in enumerate(entries):
        clip = store.read(entry.key)
        file = store.path(entry.key) / SCORES
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"metrics": []}
        if not {*metrics, BEST_ORDER} <= set(known["metrics"]):
            reference = references[index]
            scores = score(
                clip.sources, reference.sources, reference.mixture, clip.layout, clip.sample_rate, metrics=metrics
            )
            scores += _best_order(reference, clip.sources, clip.sample_rate)
            if reference.transcripts:
                recogniser = recogniser or GridRecogniser()
                scores += _word_errors(recogniser, reference, clip.sources)
            known = {
                "condition": reference.condition,
                "metrics": [*metrics, BEST_ORDER],
                "scores": [asdict(row) for row in scores],
            }
            partial = file.with_suffix(".tmp")
            partial.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            partial.replace(file)
        infos.setdefault(known["condition"], []).append(clip.info)
        rows += [
            Row(known["condition"], entry.key, row["source"], row["metric"], row["mixture"], row["estimate"])
            for row in known["scores"]
            if row["metric"] in (*metrics, WORD_ERRORS, BEST_ORDER)
        ]
        if watch is not None:
            watch("scores", (index + 1) / len(entries))
    return rows, [_cost(condition, of) for condition, of in infos.items()]


def _best_order(reference: Reference, estimates: Tensor, sample_rate: int) -> list[Score]:
    """SI-SDR of visible talkers with the estimates in the order that gives the best mean; none for fewer than two."""
    talkers = [k for k, role in enumerate(reference.layout) if role == SPEAKER]
    if len(talkers) < 2:
        return []
    clean, found = reference.sources[talkers], estimates[talkers]
    _, order = permutation_invariant_training(found[None], clean[None], scale_invariant_signal_distortion_ratio)
    layout: tuple[Role, ...] = (SPEAKER,) * len(talkers)
    scores = score(found[order[0]], clean, reference.mixture, layout, sample_rate, metrics=["si_sdr"])
    return [replace(row, metric=BEST_ORDER) for row in scores]


def swapped(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """By condition: in how many clips another order of the visible talkers fits better, and of how many."""
    named = {(row.clip, row.source): row.estimate for row in rows if row.metric == "si_sdr"}
    other: dict[str, dict[str, bool]] = {}
    for row in rows:
        if row.metric == BEST_ORDER:
            moved = abs(row.estimate - named.get((row.clip, row.source), math.nan)) > 1e-3
            clips = other.setdefault(row.condition, {})
            clips[row.clip] = clips.get(row.clip, False) or moved
    return {condition: (sum(clips.values()), len(clips)) for condition, clips in other.items()}


def _word_errors(recogniser: GridRecogniser, reference: Reference, estimates: Tensor) -> list[Score]:
    talkers = [k for k, role in enumerate(reference.layout) if role != NOISE]
    heard = without_letter(recogniser.transcribe(reference.mixture))
    rows = []
    for k, said in zip(talkers, reference.transcripts, strict=True):
        words = [without_letter(said)]
        found = without_letter(recogniser.transcribe(estimates[k]))
        name = source_names(reference.layout)[k]
        rows.append(Score(name, WORD_ERRORS, word_error_rate(words, [heard]), word_error_rate(words, [found])))
    return rows


def _cost(condition: str, infos: Sequence[dict[str, Any]]) -> Cost:
    seconds = fmean(info["seconds"] / info["clips_in_batch"] for info in infos)
    return Cost(condition, len(infos), seconds, fmean(info["evaluations"] for info in infos))


def summarise(rows: Iterable[Row]) -> list[Mean]:
    """Means over the sources of one role, by condition and metric, in the order in which they first occur."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.condition, row.source.rstrip("0123456789"), row.metric), []).append(row)
    return [_mean(*key, group) for key, group in groups.items()]


def _mean(condition: str, role: str, metric: str, rows: Sequence[Row]) -> Mean:
    pairs = [(row.mixture, row.estimate) for row in rows if math.isfinite(row.mixture) and math.isfinite(row.estimate)]
    undefined, gains = len(rows) - len(pairs), [after - before for before, after in pairs]
    if not pairs:
        return Mean(condition, role, metric, 0, undefined, *[math.nan] * 4)
    error = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    before, after = (fmean(values) for values in zip(*pairs, strict=True))
    return Mean(condition, role, metric, len(pairs), undefined, before, after, fmean(gains), error)


def _write_csv(path: Path, rows: Sequence[Row] | Sequence[Mean]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(field.name for field in fields(rows[0]))
        table.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row)] for row in rows)


def _markdown(name: str, results: Results, noises: Mapping[str, str]) -> str:
    def line(m: Mean) -> str:
        return (
            f"| {m.condition} | {m.role} | {m.metric} | {m.sources} | {m.undefined} "
            f"| {m.mixture:.2f} | {m.estimate:.2f} | {m.improvement:+.2f} ± {m.error:.2f} |"
        )

    lines = [
        f"# {name}",
        "",
        "Means over sources, the improvement with its standard error; sources without a value are counted apart.",
        "",
        "| condition | role | metric | sources | undefined | mixture | estimate | improvement |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        *map(line, results.means),
        "",
        "| condition | clips | seconds a clip | evaluations a source |",
        "|---|---:|---:|---:|",
        *(f"| {c.condition} | {c.clips} | {c.seconds:.1f} | {c.evaluations:.0f} |" for c in results.costs),
    ]
    if noises:
        kinds = [replace(r, condition=f"{r.condition}, {noises[r.clip]}") for r in results.rows if r.metric == "si_sdr"]
        lines += ["", *lines[4:6], *map(line, sorted(summarise(kinds), key=lambda mean: mean.condition))]
    if orders := swapped(results.rows):
        lines += ["", "Clips in which another order of the visible talkers fits better (`si_sdr_pit` takes it):", ""]
        lines += [f"- {condition}: {other} of {of}" for condition, (other, of) in orders.items()]
    return "\n".join(lines) + "\n"


def _digest(separator: Separator) -> str:
    """A short name of the weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in separator.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _claim(folder: Path, settings: str) -> None:
    """Say whose the clips of a folder are, or refuse it."""
    file = folder / SETTINGS
    if file.exists() and file.read_text(encoding="utf-8") != settings:
        raise UserError(
            f"the clips in {folder} were made with other settings or weights (see {file}); "
            "give another folder for the results, or remove that one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(settings, encoding="utf-8")
