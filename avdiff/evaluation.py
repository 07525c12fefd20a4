"""Estimates of a list of mixtures against their references: the scores of every clip, none computed twice."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import torch
from torch import Tensor

from avdiff.audio.consistency import make_consistent
from avdiff.errors import UserError
from avdiff.files import key_parts, stamp, whole
from avdiff.lit.store import FAILURE, RECORD
from avdiff.metrics.asr import Heard, Recogniser
from avdiff.metrics.evaluate import CORE, METRICS, Metric, best_order, score
from avdiff.metrics.table import NO_MIXTURE, Row, Score
from avdiff.metrics.wer import GridRecogniser, without_letter
from avdiff.metrics.words import normalise, word_errors
from avdiff.types import NOISE, SAMPLE_RATE, SPEAKER, Role, source_names

WORD_ERRORS = "wer"  # of talkers; lower is better. Of GRID sentences the letter is left out
BEST_ORDER = "si_sdr_pit"  # of talkers who are seen, two or more: the estimates taken in the order that fits best
GRID_MODEL = "pocketsphinx en-us, GRID grammar"
SCORES = "scores.json"
FORMAT = 3  # of these files; scores of an earlier one are computed anew
SCENE = "scene"  # share of noises whose scene is recognised: in the mixture, in the estimate of the noise
SCENE_RESIDUAL = "scene_residual"  # the same of the mixture minus the estimates of talkers: a control
SELECTED = "_selected"  # of the noises whose scene is recognised when they are clean: the paper's rule
GIVEN_UP = "not separated"  # how the reason begins of clips that a method could not do
SLACK = 160  # samples by which an estimate's file may be longer or shorter: a frame of a transform
CLIPS_A_PROCESS = 16  # fewer are not worth the start of another process


class Reference(Protocol):
    """A mixture whose parts are known. The mixture is NaN all over where the list does not give it."""

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
    @property
    def layout(self) -> tuple[Role, ...]: ...


class References(Protocol):
    """A list of mixtures whose parts are known, made when they are asked for."""

    def entries(self) -> Sequence[Listed]: ...
    def __getitem__(self, index: int) -> Reference: ...
    def version(self, index: int) -> str: ...
    def scenes(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Scoring:
    """What is computed, and of what.

    Attributes:
        metrics: of `choose_metrics`.
        consistent: the estimates are first made to add up to the mixture (`avdiff.audio.consistency`). Off for raw ones.
        recognisers: whose word errors are counted, with what each hears in the clean signal as the truth.
        scenes: a classifier by which the noise is judged, where the list says what scenes it is of.
        workers: processes; None for one a core, and fewer where there is little to do.
    """

    metrics: dict[str, Metric] = field(default_factory=lambda: {name: METRICS[name] for name in CORE})
    consistent: bool = False
    recognisers: Sequence[Recogniser] = ()
    scenes: Recogniser | None = None
    workers: int | None = None

    @property
    def form(self) -> str:
        """Of the estimates."""
        return "consistent" if self.consistent else "raw"


@dataclass(frozen=True)
class Scored:
    """All rows of a list.

    Attributes:
        rows: one a clip, source, metric and model.
        infos: by condition, what the method said of each clip (seconds, evaluations), where it did.
        missing: clips without any estimate.
        seconds: of one core a clip, by metric.
    """

    rows: list[Row]
    infos: dict[str, list[dict[str, Any]]]
    missing: int
    seconds: dict[str, float]


def score_folder(
    folder: Path,
    references: References,
    scoring: Scoring,
    *,
    scores: Path | None = None,
    transcripts: Path | None = None,
    watch: Callable[[str, float], None] | None = None,
) -> Scored:
    """Score a folder of estimates, `<folder>/<clip>/<source>.wav`: by avdiff or by anything else.

    Args:
        folder: with a folder a clip; sources are named as in `avdiff.types.source_names`.
        references: the list. A clip or source that has no file is kept, as NaN.
        scoring: what is computed.
        scores: folder for the scores of every clip; None to keep them beside the estimates. What is there, and of these
            very files and references, is not computed again.
        transcripts: folder for what recognisers heard; None for `scores`.
        watch: told the stage and the share of it that is done.

    Raises:
        UserError: there is no estimate at all, or a file has another sample rate.
    """
    entries, kept = references.entries(), scores or folder
    for entry in entries:
        key_parts(entry.key)
    if not any((folder / entry.key).is_dir() for entry in entries):
        raise UserError(
            f"{folder} has no estimate of any of the {len(entries)} mixtures of the list; "
            f"expected folders like {folder / entries[0].key} with {', '.join(source_names(entries[0].layout))} as .wav"
        )
    todo = [
        i for i, entry in enumerate(entries) if not _known(_stamp(folder, entry, references, i), entry, kept, scoring)
    ]
    job = partial(_score_clip, folder, references, kept, scoring.metrics, scoring.consistent)
    for done, _ in enumerate(_spread(job, todo, scoring.workers), start=1):
        if watch is not None:
            watch("scores", done / len(todo))
    rows, infos, spent = list[Row](), dict[str, list[dict[str, Any]]](), dict[str, list[float]]()
    wanted = {*scoring.metrics, BEST_ORDER, WORD_ERRORS}
    for entry in entries:
        known = json.loads(_scores_file(kept, entry.key).read_text(encoding="utf-8"))
        told = _read_record(folder / entry.key)
        infos.setdefault(known["condition"], []).extend([told] if told else [])
        rows += [Row(known["condition"], entry.key, **row) for row in known["scores"] if row["metric"] in wanted]
        rows += _against_posterior(known["condition"], entry, told)
        for metric, seconds in known["seconds"].items():
            spent.setdefault(metric, []).append(seconds)
    for recogniser in scoring.recognisers:
        rows += _heard_errors(folder, references, scoring, Heard(recogniser, transcripts or kept), watch)
    if scoring.scenes is not None:
        rows += _scenes(folder, references, scoring, Heard(scoring.scenes, transcripts or kept), watch)
    missing = sum(not (folder / entry.key).is_dir() for entry in entries)
    return Scored(rows, infos, missing, {metric: float(np.mean(of)) for metric, of in spent.items()})


def read_estimates(folder: Path, key: str, layout: tuple[Role, ...], samples: int) -> tuple[Tensor, dict[str, str]]:
    """The estimates of a clip.

    Returns:
        (K, T) float32, NaN for sources without a usable file; and by source why it has none.

    Raises:
        UserError: a file has another sample rate than 16000 Hz.
    """
    sources, reasons = torch.full((len(layout), samples), math.nan), dict[str, str]()
    lost = None if (folder / key / RECORD).is_file() else _read_record(folder / key).get("failure")
    missing = "there is no estimate" if lost is None else f"{GIVEN_UP}: {lost}"
    for k, name in enumerate(source_names(layout)):
        file = folder / key / f"{name}.wav"
        if not file.is_file():
            reasons[name] = missing
            continue
        try:
            found, rate = soundfile.read(os.fsencode(file), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            reasons[name] = f"the estimate cannot be read: {error.error_string}"
            continue
        if rate != SAMPLE_RATE:
            raise UserError(f"{file} has {rate} Hz; estimates are scored at {SAMPLE_RATE} Hz: resample them")
        if found.shape[1] != 1 or abs(len(found) - samples) > SLACK:
            reasons[name] = f"the estimate has {len(found)} samples in {found.shape[1]} channels, not {samples} in one"
            continue
        sources[k] = 0.0
        sources[k, : len(found)] = torch.from_numpy(found[:samples, 0])
    return sources, reasons


def _to_score(folder: Path, entry: Listed, reference: Reference, consistent: bool) -> tuple[Tensor, dict[str, str]]:
    """`read_estimates`, made to add up where that is asked for and all are there."""
    estimates, reasons = read_estimates(folder, entry.key, entry.layout, len(reference.mixture))
    if consistent and _heard(reference) is None:
        raise UserError(
            f"--consistent makes estimates add up to the mixture, and the list gives no mixture of {entry.key}; give it, or "
            "leave --consistent out"
        )
    if consistent and not reasons:
        estimates = make_consistent(estimates, reference.mixture)
    return estimates, reasons


def _heard(reference: Reference) -> Tensor | None:
    """The mixture, if the list gives it."""
    return None if reference.mixture.isnan().all() else reference.mixture


def _scores_file(kept: Path, key: str) -> Path:
    return kept / key / SCORES


def identity(references: References, index: int) -> str:
    """A short name of a mixture's `version`."""
    return hashlib.blake2b(references.version(index).encode(), digest_size=8).hexdigest()


def _stamp(folder: Path, entry: Listed, references: References, index: int) -> dict[str, Any]:
    """What the scores of a clip are of: size and time of its files, and which mixture."""
    files = {name: folder / entry.key / f"{name}.wav" for name in source_names(entry.layout)}
    files["failure"] = folder / entry.key / FAILURE
    found = {name: of for name, file in files.items() if (of := stamp(file))}
    return {**found, "mixture": identity(references, index)}


def _read_scores(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_record(folder: Path) -> dict[str, Any]:
    info = (_read_scores(folder / RECORD) or _read_scores(folder / FAILURE)).get("info", {})
    return info if isinstance(info, dict) else {}


def _current(stamp: dict[str, Any], entry: Listed, kept: Path, form: str) -> dict[str, Any]:
    """The scores of a clip that are still of its files and its mixture, or none."""
    known = _read_scores(_scores_file(kept, entry.key))
    whole = known.keys() >= {"condition", "metrics", "scores", "seconds"}  # else it is damaged, and made anew
    same = known.get("format") == FORMAT and known.get("form") == form and known.get("stamp") == stamp
    return known if same and whole else {}


def _known(stamp: dict[str, Any], entry: Listed, kept: Path, scoring: Scoring) -> bool:
    known = _current(stamp, entry, kept, scoring.form)
    return bool(known) and set(scoring.metrics) <= set(known["metrics"])


def _spread(job: Callable[[int], None], todo: Sequence[int], workers: int | None) -> Iterator[None]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or min(cores, -(-len(todo) // CLIPS_A_PROCESS))
    if min(count, len(todo)) <= 1:
        yield from map(job, todo)
        return
    with ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.map(job, todo)


def _score_clip(
    folder: Path, references: References, kept: Path, metrics: dict[str, Metric], consistent: bool, index: int
) -> None:
    """Add to the scores of one clip what is missing in them."""
    entry, form = references.entries()[index], "consistent" if consistent else "raw"
    stamp, reference = _stamp(folder, entry, references, index), references[index]
    known = _current(stamp, entry, kept, form)
    estimates, reasons = _to_score(folder, entry, reference, consistent)
    scores: list[Score] = []
    seconds: dict[str, float] = known.get("seconds", {})
    new = {name: metric for name, metric in metrics.items() if name not in known.get("metrics", ())}
    for metric in dict.fromkeys(new.values()):
        names = {name: of for name, of in new.items() if of == metric}
        begin = time.process_time()
        scores += score(estimates, reference.sources, _heard(reference), entry.layout, SAMPLE_RATE, names)
        seconds |= dict.fromkeys(names, time.process_time() - begin)
    if not known:
        scores += _best_order(reference, estimates)
        if reference.transcripts:
            begin = time.process_time()
            scores += _grid_errors(reference, estimates)
            seconds[WORD_ERRORS] = time.process_time() - begin
    told = [
        replace(row, estimate=math.nan, reason=reasons[row.source]) if row.source in reasons else row for row in scores
    ]
    record = {
        "format": FORMAT,
        "condition": reference.condition,
        "form": form,
        "stamp": stamp,
        "metrics": [*known.get("metrics", ()), *new],
        "seconds": seconds,
        "scores": [*known.get("scores", ()), *map(asdict, told)],
    }
    with whole(_scores_file(kept, entry.key)) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _against_posterior(condition: str, entry: Listed, told: dict[str, Any]) -> list[Row]:
    """What a method said of its draws against the posterior, where it knows that."""
    return [
        Row(condition, entry.key, name, f"posterior_{figure}", *values)
        for name, of in zip(source_names(entry.layout), told.get("posterior") or (), strict=False)
        for figure, values in of.items()
    ]


def _best_order(reference: Reference, estimates: Tensor) -> list[Score]:
    """SI-SDR of visible talkers with the estimates in the order that gives the best mean; none for fewer than two."""
    talkers = [k for k, role in enumerate(reference.layout) if role == SPEAKER]
    if len(talkers) < 2:
        return []
    clean, found = reference.sources[talkers], best_order(estimates[talkers], reference.sources[talkers])
    layout: tuple[Role, ...] = (SPEAKER,) * len(talkers)
    scores = score(found, clean, _heard(reference), layout, SAMPLE_RATE, metrics=["si_sdr"])
    return [replace(row, metric=BEST_ORDER) for row in scores]


@lru_cache
def _grid_recogniser() -> GridRecogniser:
    return GridRecogniser()


def _grid_errors(reference: Reference, estimates: Tensor) -> list[Score]:
    """Word errors of talkers whose sentence is known, by the recogniser that knows the grammar."""
    talkers = [k for k, role in enumerate(reference.layout) if role != NOISE]
    recogniser = _grid_recogniser()
    mixture = _heard(reference)
    heard = None if mixture is None else without_letter(recogniser.transcribe(mixture))
    return [
        _errors(source_names(reference.layout)[k], without_letter(said), heard, without_letter(found), GRID_MODEL)
        for k, said in zip(talkers, reference.transcripts, strict=True)
        for found in [recogniser.transcribe(estimates[k])]
    ]


def _errors(source: str, said: str, in_mixture: str | None, in_estimate: str, model: str) -> Score:
    """One row of word errors: a rate a clip, weighted by the words of the reference, so that means are the corpus's."""
    after, words = word_errors(said, in_estimate)
    before = math.nan if in_mixture is None else word_errors(said, in_mixture)[0]
    reason = "" if in_mixture is not None else NO_MIXTURE
    reason = reason if words else "the recogniser hears no word in the clean signal"
    rates = [count / words if words else math.nan for count in (before, after)]
    return Score(source, WORD_ERRORS, rates[0], rates[1], reason, model, weight=words)


def _heard_errors(
    folder: Path,
    references: References,
    scoring: Scoring,
    heard: Heard,
    watch: Callable[[str, float], None] | None,
) -> list[Row]:
    """Word errors of a published recogniser: truth is what it hears in the clean signal."""
    rows, entries, block = list[Row](), references.entries(), 32
    for start in range(0, len(entries), block):
        cases: list[tuple[int, Reference, Tensor, dict[str, str]]] = []
        for index in range(start, min(start + block, len(entries))):
            reference = references[index]
            estimates, reasons = _to_score(folder, entries[index], reference, scoring.consistent)
            cases.append((index, reference, estimates, reasons))
        signals = [
            signal
            for _, reference, estimates, _ in cases
            for signal in (reference.mixture, *reference.sources, *estimates)
        ]
        # Noise has no words: it is left out by giving silence, which no recogniser is asked about.
        roles = [role for _, reference, _, _ in cases for role in (SPEAKER, *reference.layout, *reference.layout)]
        audible = [s if role != NOISE else torch.zeros(1) for s, role in zip(signals, roles, strict=True)]
        texts = iter([normalise(text) for text in heard.transcribe(audible)])
        for index, reference, _, reasons in cases:
            in_mixture = next(texts)
            mixture = None if _heard(reference) is None else in_mixture
            clean, found = ([next(texts) for _ in reference.layout] for _ in range(2))
            for k, role in enumerate(reference.layout):
                if role != NOISE:
                    name = source_names(reference.layout)[k]
                    told = _errors(name, clean[k], mixture, found[k], heard.recogniser.model)
                    if name in reasons:
                        told = replace(told, estimate=math.nan, reason=reasons[name])
                    rows.append(Row(reference.condition, entries[index].key, **asdict(told)))
        if watch is not None:
            watch("words", min(1.0, (start + block) / len(entries)))
    return rows


def _scenes(
    folder: Path,
    references: References,
    scoring: Scoring,
    heard: Heard,
    watch: Callable[[str, float], None] | None,
) -> list[Row]:
    """Which scene a classifier takes the noise for: of every mixture, and of those it recognises when clean."""
    truth, rows, entries = references.scenes(), list[Row](), references.entries()
    for index, entry in enumerate(entries):
        reference = references[index]
        estimates, reasons = _to_score(folder, entry, reference, scoring.consistent)
        noise = reference.layout.index(NOISE)
        names = source_names(reference.layout)
        lost = next((reasons[name] for k, name in enumerate(names) if k != noise and name in reasons), "")
        residual = reference.mixture - sum(estimates[k] for k in range(len(names)) if k != noise)
        signals = [reference.sources[noise], reference.mixture, estimates[noise], residual]
        clean, mixture, estimate, rest = (float(name == truth[entry.key]) for name in heard.transcribe(signals))
        for metric, found, reason in ((SCENE, estimate, reasons.get(names[noise], "")), (SCENE_RESIDUAL, rest, lost)):
            for name, weight in ((metric, 1.0), (metric + SELECTED, clean)):
                value = math.nan if reason else found
                told = Score("noise", name, mixture, value, reason, heard.recogniser.model, weight)
                rows.append(Row(reference.condition, entry.key, **asdict(told)))
        if watch is not None:
            watch("scenes", (index + 1) / len(entries))
    return rows
