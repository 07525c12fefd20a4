"""A method on a list of mixtures whose parts are known: separate, score, and put in tables."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
import torch

from avdiff.errors import UserError
from avdiff.evaluation import BEST_ORDER, GIVEN_UP, References, Scored, Scoring, identity, score_folder
from avdiff.files import read_json, whole
from avdiff.lit.callbacks import SeparationWriter
from avdiff.lit.memory import PeakMemory
from avdiff.lit.separation import SeparationModule
from avdiff.metrics.evaluate import CORE
from avdiff.metrics.nisqa import LICENCE
from avdiff.metrics.si_sdr import CONVENTION
from avdiff.metrics.summary import Mean, summarise
from avdiff.metrics.table import NO_MIXTURE, Row, figure, gain, markdown_row, write_csv
from avdiff.separators.base import Separator

METRICS = CORE
SETTINGS = "settings.yaml"
MIXTURES = "mixtures.json"  # beside the clips, what they are of: key -> `identity`


@dataclass(frozen=True)
class Cost:
    """What the clips of one condition took.

    Attributes:
        condition: of the benchmark.
        clips: how many.
        seconds: a clip.
        evaluations: of the network, a source.
        memory: most bytes that a batch took, of the GPU, or of the process where there is none; NaN where it is not known.
    """

    condition: str
    clips: int
    seconds: float
    evaluations: float
    memory: float = math.nan


@dataclass(frozen=True)
class Results:
    """Tables of a benchmark.

    Attributes:
        rows: one a clip, source, metric and model.
        means: one a condition, role, metric and model.
        costs: one a condition.
        csv: where the rows are.
        summary: where means and costs are, as Markdown; the means are beside it as CSV.
        missing: clips without any estimate.
    """

    rows: list[Row]
    means: list[Mean]
    costs: list[Cost]
    csv: Path
    summary: Path
    missing: int = 0


def run_benchmark(
    name: str,
    separator: Separator,
    data: pl.LightningDataModule,
    references: References,
    out: Path,
    *,
    settings: str,
    seed: int = 0,
    scoring: Scoring | None = None,
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
            the clips, so that clips made otherwise are not taken for this run's; nor are those of other mixtures.
        seed: of the sampling noise.
        scoring: what is computed; None for the core metrics of raw estimates.
        accelerator: Lightning's.
        devices: processes.
        callbacks: for the trainer; a progress bar, for one.
        noises: kind of noise of each clip id; the summary then has SI-SDR by kind too.
        watch: told the stage ("scores") and the share of it that is done.

    Returns:
        The tables; None in all processes but the first.

    Raises:
        UserError: the clips in the folder were made with other settings, or of other mixtures.
    """
    folder, chosen = out / name, scoring or Scoring()
    claim_mixtures(folder, references)
    first = separate_list(
        folder,
        separator,
        data,
        settings=settings,
        seed=seed,
        accelerator=accelerator,
        devices=devices,
        callbacks=callbacks,
    )
    if not first:
        return None
    return tabulate(out, name, score_folder(folder, references, chosen, watch=watch), noises or {}, chosen)


def separate_list(
    folder: Path,
    separator: Separator,
    data: pl.LightningDataModule,
    *,
    settings: str,
    seed: int = 0,
    accelerator: str = "auto",
    devices: int = 1,
    callbacks: Sequence[pl.Callback] = (),
) -> bool:
    """Separate what is not in the folder yet; arguments as in `run_benchmark`.

    Returns:
        Whether this is the first process.

    Raises:
        UserError: the clips in the folder were made with other settings.
    """
    claim(folder, digest(separator), settings, seed)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        default_root_dir=folder,
        inference_mode=False,  # some samplers differentiate
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=bool(callbacks),
        callbacks=[PeakMemory(), SeparationWriter(folder), *callbacks],
    )
    trainer.predict(SeparationModule(separator, seed), datamodule=data, return_predictions=False)
    trainer.strategy.barrier()
    return trainer.is_global_zero


def tabulate(out: Path, name: str, scored: Scored, noises: Mapping[str, str], scoring: Scoring) -> Results:
    """Write the tables of scored estimates: rows first, then means.

    Args:
        out: folder.
        name: of the files.
        scored: the rows.
        noises: kind of noise of each clip id, or none.
        scoring: what was computed.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.csv"
    alone = _no_mixture(scored.rows)
    write_csv(file, scored.rows, without=("mixture",) if alone else ())
    means = summarise(scored.rows)
    costs = [cost_of(condition, of) for condition, of in scored.infos.items() if of]
    results = Results(scored.rows, means, costs, file, out / f"{name}.md", scored.missing)
    write_csv(
        out / f"{name}_summary.csv", means, without=("mixture", "improvement", "error", "low", "high") if alone else ()
    )
    results.summary.write_text(_markdown(name, results, noises, scored, scoring), encoding="utf-8")
    return results


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


def cost_of(condition: str, infos: Sequence[Mapping[str, Any]]) -> Cost:
    """The costs that a method told of clips, together; NaN where it told none."""

    def mean(values: Sequence[float]) -> float:
        return fmean(values) if values else math.nan

    seconds = [info["seconds"] / info.get("clips_in_batch", 1) for info in infos if "seconds" in info]
    evaluations = [info["evaluations"] for info in infos if "evaluations" in info]
    memory = max((info["memory_bytes"] for info in infos if "memory_bytes" in info), default=math.nan)
    return Cost(condition, len(infos), mean(seconds), mean(evaluations), memory)


def _no_mixture(rows: Sequence[Row]) -> bool:
    """Whether the list gives no mixture, so that there is nothing to improve on."""
    return any(row.reason == NO_MIXTURE for row in rows)


def _markdown(name: str, results: Results, noises: Mapping[str, str], scored: Scored, scoring: Scoring) -> str:
    alone = _no_mixture(results.rows)

    def between(low: float, high: float, form: str) -> str:
        return f"{figure(low, form)} to {figure(high, form)}" if math.isfinite(low) else "–"

    def line(m: Mean) -> str:
        compared = [figure(m.mixture), figure(m.estimate), gain(m.improvement, m.error), between(m.low, m.high, "+.2f")]
        single = [figure(m.estimate), between(m.estimate_low, m.estimate_high, ".2f")]
        first = [m.condition, m.role, m.metric, str(m.sources), str(m.undefined)]
        return markdown_row([*first, *(single if alone else compared), m.model])

    said = (
        f"Means over sources of {scoring.form} estimates, {'with' if alone else 'the improvement with its standard error and'} "
        "the 95 % bootstrap interval over mixtures; sources without a value are counted apart."
    )
    lines = [
        f"# {name}",
        "",
        said,
        *(
            [f"There is no improvement: {NO_MIXTURE} (a source named mixture, or the noise that completes it)."]
            if alone
            else []
        ),
        *([CONVENTION] if any(mean.metric.startswith("si_sdr") for mean in results.means) else []),
        "",
        markdown_row(
            ["condition", "role", "metric", "sources", "undefined"]
            + (["estimate", "95 %"] if alone else ["mixture", "estimate", "improvement", "95 %"])
            + ["model"]
        ),
        f"|---|---|---|{'---:|' * (4 if alone else 6)}---|",
        *map(line, results.means),
    ]
    head = lines[-2 - len(results.means) : len(lines) - len(results.means)]
    if results.costs:
        lines += [
            "",
            "| condition | clips | seconds a clip | evaluations a source | GiB |",
            "|---|---:|---:|---:|---:|",
            *(
                f"| {c.condition} | {c.clips} | {figure(c.seconds, '.1f')} | {figure(c.evaluations, '.0f')} "
                f"| {figure(c.memory / 2**30, '.1f')} |"
                for c in results.costs
            ),
        ]
    if noises:
        kinds = [replace(r, condition=f"{r.condition}, {noises[r.clip]}") for r in results.rows if r.metric == "si_sdr"]
        lines += ["", *head, *map(line, sorted(summarise(kinds), key=lambda mean: mean.condition))]
    if orders := swapped(results.rows):
        lines += ["", "Clips in which another order of the visible talkers fits better (`si_sdr_pit` takes it):", ""]
        lines += [f"- {condition}: {other} of {of}" for condition, (other, of) in orders.items()]
    if any(row.permuted for row in results.rows):
        lines += ["", "Off-screen talkers are scored in the order that fits best."]
    if results.missing:
        lines += ["", f"{results.missing} mixtures have no estimate; they are in the table, without a value."]
    if lost := {row.clip: row.reason for row in results.rows if row.reason.startswith(GIVEN_UP)}:
        lines += ["", f"Clips that could not be separated, {len(lost)}:", ""]
        lines += [f"- {clip}: {reason}" for clip, reason in lost.items()]
    speed = ", ".join(f"{metric} {1 / seconds:.2g}" for metric, seconds in scored.seconds.items() if seconds)
    lines += ["", f"Clips scored a second of one core, mixture and estimates: {speed}."]
    if any(row.model.startswith("NISQA") for row in results.rows):
        lines += ["", LICENCE]
    return "\n".join(lines) + "\n"


def digest(separator: Separator) -> str:
    """A short name of the weights."""
    found = hashlib.blake2b(digest_size=8)
    for name, value in separator.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def claim(folder: Path, weights: str, settings: str, seed: int) -> None:
    """Say whose the clips of a folder are, or refuse it.

    Args:
        folder: of the clips.
        weights: of the method, by `digest`.
        settings: its YAML.
        seed: of the sampling noise.

    Raises:
        UserError: the clips in the folder were made with other settings.
    """
    settings = f"seed: {seed}\nweights: {weights}\n---\n{settings.strip()}\n"
    file = folder / SETTINGS
    if not file.exists():
        with whole(file) as partial:  # the processes of a run all come by here
            partial.write_text(settings, encoding="utf-8")
    elif file.read_bytes() != settings.encode():
        raise UserError(
            f"the clips in {folder} were made with other settings or weights (see {file}); "
            "give another folder for the results, or remove that one"
        )


def claim_mixtures(folder: Path, references: References) -> None:
    """Say which mixtures the clips of a folder are of, or refuse it. A list that has more of them than before adds them.

    Args:
        folder: of the clips.
        references: the list.

    Raises:
        UserError: the list has another mixture by the name of one of them.
    """
    file = folder / MIXTURES
    mend = f"remove {folder} and run it again" if file.exists() else ""
    there: dict[str, str] = read_json(file, mend) if file.exists() else {}
    wanted = {entry.key: identity(references, index) for index, entry in enumerate(references.entries())}
    if other := [key for key, of in wanted.items() if there.get(key, of) != of]:
        raise UserError(
            f"the list was changed: {other[0]} in {folder} is of another mixture of that name (see {file}); "
            "give another folder for the results, or remove that one"
        )
    if wanted.keys() - there.keys():
        with whole(file) as partial:
            partial.write_text(json.dumps({**there, **wanted}, indent=1) + "\n", encoding="utf-8")
