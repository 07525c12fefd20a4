"""A benchmark file: methods by lists of mixtures, to one table. What is done is not done again."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, ClassVar, cast

import lightning.pytorch as pl
import yaml
from pydantic import BeforeValidator

from avdiff.benchmark import Cost, claim, claim_mixtures, cost_of, digest, separate_list
from avdiff.errors import UserError
from avdiff.evaluation import GIVEN_UP, SCENE, SELECTED, WORD_ERRORS, References, Scored, Scoring, score_folder
from avdiff.methods import load_method, method_config
from avdiff.metrics.asr import MODELS, PAPER_PARAKEET
from avdiff.metrics.evaluate import CORE, METRICS, NAMES, choose_metrics
from avdiff.metrics.si_sdr import CONVENTION
from avdiff.metrics.summary import Comparison, Mean, compare, holm, summarise, titled
from avdiff.metrics.table import Row, figure, markdown_row, write_csv
from avdiff.schema import ONLY, Count, Label, Number, Text, checked, read_yaml

_FAILURES = (RuntimeError, ValueError, FileNotFoundError)  # of one method; the others go on
_ROWS, _TRANSCRIPTS = "rows", "transcripts"  # folders of a study beside those of its lists


def _several(value: Any) -> Any:
    """A text without brackets is one; a list in a list, as a YAML alias gives it, is its members."""
    if not isinstance(value, list):
        return (value,) if isinstance(value, str) else value
    return [text for part in value for text in (part if isinstance(part, list) else [part])]


Texts = Annotated[tuple[Text, ...], BeforeValidator(_several)]


@dataclass(frozen=True)
class Named:
    """A class and its arguments, as YAML files name them."""

    __pydantic_config__: ClassVar = ONLY

    class_path: Text
    init_args: dict[Text, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One method of a study.

    Attributes:
        method: its name, or its YAML file.
        seeds: of the sampling noise, from 0; 1 for a method that draws nothing.
        clips: only the first so many mixtures of every condition of a list, where it is slow; None for all.
        data: only these lists, by their names; empty for all.
        set: settings that differ, as `a.b.c=value`.
        paper: its name among the paper's figures.
    """

    __pydantic_config__: ClassVar = ONLY

    method: Text
    seeds: Count = 1
    clips: Count | None = None
    data: Texts = ()
    set: Texts = ()
    paper: Text | None = None


@dataclass(frozen=True)
class Study:
    """A benchmark file as it was read.

    Attributes:
        name: of the file.
        title: of the table.
        methods: by the label that the table gives them.
        data: by name, the class of a list of mixtures with its arguments.
        metrics: of the table.
        warmup: mixtures of a list whose seconds are not counted: the first ones.
        paper: by name of a list, its name among the paper's figures.
        notes: below the table.
    """

    __pydantic_config__: ClassVar = ONLY

    name: str
    title: Text
    methods: dict[Label, Entry]
    data: dict[Label, Named]
    metrics: Texts = CORE
    warmup: Number = 0
    paper: dict[Text, Text] = field(default_factory=dict)
    notes: Texts = ()


@dataclass(frozen=True)
class Line:
    """One figure of the table.

    Attributes:
        data, condition, role, metric, model: what it is of.
        method: its label; "mixture" for no processing.
        mixtures: how many were scored.
        seeds: of the sampling noise.
        sources, undefined: as in `avdiff.metrics.summary.Mean`.
        value, low, high: mean and 95 % bootstrap interval over mixtures.
        improvement: over the mixture.
        seed_deviation: standard deviation between the means of single seeds; NaN for one seed.
        paper: the paper's figure of this method on its own data; NaN where it has none.
    """

    data: str
    condition: str
    role: str
    metric: str
    model: str
    method: str
    mixtures: int
    seeds: int
    sources: int
    undefined: int
    value: float
    low: float
    high: float
    improvement: float
    seed_deviation: float
    paper: float


@dataclass(frozen=True)
class Effort:
    """What a method took on one condition of a list.

    Attributes:
        data, condition, method: what it is of.
        mixtures: how many were timed.
        seconds: a mixture.
        evaluations: of the network, a source.
        gib: most memory that a batch took, in GiB.
        missing: mixtures that it gave nothing for, or gave up.
        failure: why, where it failed as a whole.
        paper_seconds, paper_evaluations: the paper's figures of this method on its own machine; NaN where it has none.
    """

    data: str
    condition: str
    method: str
    mixtures: int
    seconds: float
    evaluations: float
    gib: float
    missing: int
    failure: str = ""
    paper_seconds: float = float("nan")
    paper_evaluations: float = float("nan")


@dataclass(frozen=True)
class Cell:
    """One method on one list with one seed."""

    data: str
    label: str
    entry: Entry
    seed: int

    def folder(self, out: Path) -> Path:
        """Of its estimates."""
        return out / slug(self.data) / f"{slug(self.label)}_seed{self.seed}"


@dataclass(frozen=True)
class StudyResults:
    """What a study leaves.

    Attributes:
        lines: the table.
        efforts: beside it.
        comparisons: between every two methods.
        rows: by list and label.
        folder: where everything is; table.md, table.csv, efforts.csv, comparisons.csv and rows/.
    """

    lines: list[Line]
    efforts: list[Effort]
    comparisons: list[Comparison]
    rows: dict[tuple[str, str], list[Row]]
    folder: Path


def read_study(file: Path) -> Study:
    """Read a benchmark file; $VARIABLES in it are those of the environment.

    Raises:
        UserError: it is missing, or not a benchmark file, or two of its names are one folder.
    """
    known = ", ".join(part.name for part in fields(Study) if part.name != "name")
    source, hint = f"{file} is no benchmark file", f"it holds {known}, see experiments/tables"
    told = _expand(read_yaml(file, "benchmark file"))
    if isinstance(told, dict):
        if "name" in told:
            raise UserError(f"{source}: name is not known here; {hint}")
        told = {**told, "name": file.stem, "methods": _labelled(told.get("methods"))}
    study = checked(Study, told, source, hint)
    for part in ("methods", "data", "metrics"):
        if not getattr(study, part):
            raise UserError(f"{source}: {part} is empty; {hint}")
    choose_metrics(name for name in study.metrics if name in METRICS or name not in NAMES)
    for kind, names, taken in (("methods", study.methods, ()), ("lists", study.data, (_ROWS, _TRANSCRIPTS))):
        folders: dict[str, str] = {}
        for name in names:
            if not re.search(r"\w", slug(name), re.ASCII) or slug(name).startswith(".") or slug(name) in taken:
                raise UserError(
                    f"{file} has the {kind} {name!r}, whose results would have no folder of their own; "
                    "give it another name, of letters and digits"
                )
            if (other := folders.setdefault(slug(name), name)) != name:
                raise UserError(
                    f"{file} has the {kind} {other!r} and {name!r}, whose results would share the folder {slug(name)!r}; "
                    "give one of them another name, of letters and digits"
                )
    for label, entry in study.methods.items():
        method_config(entry.method, entry.set)
        if unknown := set(entry.data) - set(study.data):
            raise UserError(
                f"{file}: {label} has data: {', '.join(sorted(unknown))}; the file's lists are {', '.join(study.data)}"
            )
    return study


def read_paper() -> dict[str, Any]:
    """The figures of SSNAPS: list -> role, or "cost" -> method -> metric -> value. What they are of: experiments/paper.yaml."""
    file = Path(str(resources.files("experiments") / "paper.yaml"))
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _labelled(methods: Any) -> Any:
    """A list of names as what it is short for."""
    if isinstance(methods, list) and all(isinstance(name, str) for name in methods):
        return {name: {"method": name} for name in methods}
    if isinstance(methods, dict):
        return {label: {"method": label} if of is None else of for label, of in methods.items()}
    return methods


def _expand(value: Any) -> Any:
    """Variables of the environment in every text."""
    if isinstance(value, str):
        found = os.path.expandvars(value)
        if left := re.search(r"\$\{?(\w+)", found):
            raise UserError(f"{value} needs the variable {left[1]}, which is not set: export {left[1]}=FOLDER")
        return found
    if isinstance(value, dict):
        return {key: _expand(of) for key, of in value.items()}
    return [_expand(of) for of in value] if isinstance(value, list) else value


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", label).strip("_")


def cells_of(study: Study) -> list[Cell]:
    """All that is to be separated, in an order that gives every method something early."""
    return [
        Cell(data, label, entry, seed)
        for data in study.data
        for label, entry in study.methods.items()
        if not entry.data or data in entry.data
        for seed in range(entry.seeds)
    ]


def run_study(
    study: Study,
    out: Path,
    build: Callable[[Named, int | None], References],
    load: Callable[[References], pl.LightningDataModule],
    scoring: Callable[[References], Scoring],
    *,
    part: tuple[int, int] = (0, 1),
    accelerator: str = "auto",
    devices: int = 1,
    callbacks: Callable[[], Sequence[pl.Callback]] = tuple,
    paper: Mapping[str, Any] | None = None,
    command: str = "",
    watch: Callable[[str, float], None] | None = None,
) -> StudyResults | None:
    """Separate, score, and put in one table; a run that was stopped goes on.

    Args:
        study: the file.
        out: folder for everything.
        build: (class with its arguments, number of clips or None) -> list of mixtures.
        load: the datamodule of a list.
        scoring: what is computed of a list.
        part: (i, n) does only every n-th piece of work, from i, and writes no table.
        accelerator, devices: of every method.
        callbacks: new ones for every trainer.
        paper: the paper's figures: list -> method -> metric -> value.
        command: that the table names.
        watch: told the stage and the share of it that is done.

    Returns:
        The results; None in all processes but the first, and for a part.

    Raises:
        UserError: a list cannot be made, or estimates in the folder are of other settings or other mixtures; or, of a part,
            which has no table to say so, a method failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    cells = cells_of(study)
    mine = cells[part[0] :: part[1]]
    failures: dict[Cell, str] = {}
    first = True
    _claim(mine, out)
    for cell in mine:
        claim_mixtures(cell.folder(out), build(study.data[cell.data], cell.entry.clips))
    for cell in mine:
        references = build(study.data[cell.data], cell.entry.clips)
        try:
            separator = load_method(cell.entry.method, cell.entry.set)
            first = separate_list(
                cell.folder(out),
                separator,
                load(references),
                settings=_settings(cell.entry),
                seed=cell.seed,
                accelerator=accelerator,
                devices=devices,
                callbacks=callbacks(),
            )
        except _FAILURES as error:
            failures[cell] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not first:
        return None
    scored: dict[Cell, Scored] = {}
    for cell in mine:
        if cell not in failures:
            references = build(study.data[cell.data], cell.entry.clips)
            scored[cell] = score_folder(
                cell.folder(out), references, scoring(references), transcripts=out / _TRANSCRIPTS, watch=watch
            )
    if part[1] > 1:
        if failures:
            told = [f"{c.label} failed on {c.data}, seed {c.seed}: {reason}" for c, reason in failures.items()]
            raise UserError(
                f"{'; '.join(told)}; the other work of this part is done: mend the method and run the part again"
            )
        return None
    return _tables(study, out, scored, failures, paper or {}, command)


def _settings(entry: Entry) -> str:
    return yaml.safe_dump(method_config(entry.method, entry.set)["model"])


def _claim(cells: Sequence[Cell], out: Path) -> None:
    """Refuse folders with clips of other settings before the first mixture is separated, not hours later."""
    for label, entry in {cell.label: cell.entry for cell in cells}.items():
        try:
            weights = digest(load_method(entry.method, entry.set))
        except _FAILURES:  # told when its turn comes
            continue
        for cell in cells:
            if cell.label == label:
                claim(cell.folder(out), weights, _settings(entry), cell.seed)


def _tables(
    study: Study,
    out: Path,
    scored: Mapping[Cell, Scored],
    failures: Mapping[Cell, str],
    paper: Mapping[str, Any],
    command: str,
) -> StudyResults:
    rows: dict[tuple[str, str], list[Row]] = {}
    for cell, of in scored.items():
        rows.setdefault((cell.data, cell.label), []).extend(of.rows)
    (out / _ROWS).mkdir(exist_ok=True)
    for (data, label), found in rows.items():
        if found:
            write_csv(out / _ROWS / f"{slug(data)}_{slug(label)}.csv", found)
    lines, efforts, comparisons = list[Line](), list[Effort](), list[Comparison]()
    for data in study.data:
        told = paper.get(study.paper.get(data, ""), {})
        lines += _lines(study, data, scored, rows, told)
        efforts += _efforts(study, data, scored, failures, told.get("cost", {}))
        tables = {label: rows[data, label] for label in study.methods if (data, label) in rows}
        comparisons += compare(tables, data)
    comparisons = holm(comparisons)
    results = StudyResults(lines, efforts, comparisons, rows, out)
    for name, table in (("table", lines), ("efforts", efforts), ("comparisons", comparisons)):
        if table:
            write_csv(out / f"{name}.csv", cast(Sequence[Any], table))
    (out / "table.md").write_text(markdown(study, results, command), encoding="utf-8")
    return results


def _lines(
    study: Study,
    data: str,
    scored: Mapping[Cell, Scored],
    rows: Mapping[tuple[str, str], list[Row]],
    paper: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> list[Line]:
    # the mixture's own figure, of the method that has most of its sources: one may have given clips up
    found, before, most = (
        list[Line](),
        dict[tuple[str, str, str, str], Line](),
        dict[tuple[str, str, str, str], float](),
    )
    for label, entry in study.methods.items():
        seeds = {
            cell.seed: summarise(of.rows) for cell, of in scored.items() if (cell.data, cell.label) == (data, label)
        }
        for mean in summarise(rows.get((data, label), ())):
            key = (mean.condition, mean.role, mean.metric, mean.model)
            single = [
                m.estimate for of in seeds.values() for m in of if key == (m.condition, m.role, m.metric, m.model)
            ]
            mixtures = len({row.clip for row in rows[data, label] if row.condition == mean.condition})
            deviation = stdev(single) if len(single) > 1 else float("nan")
            told = _papers(paper.get(mean.role, {}).get(entry.paper or "", {}), mean.metric, mean.model)
            found.append(_line(data, mean, label, mixtures, len(seeds), deviation, told))
            if (sources := mean.sources / max(1, len(seeds))) > most.get(key, -1):
                before[key], most[key] = _unprocessed(data, mean, mixtures, paper.get(mean.role, {})), sources
    return [*before.values(), *found]


def _line(data: str, mean: Mean, label: str, mixtures: int, seeds: int, deviation: float, paper: float) -> Line:
    return Line(
        data, mean.condition, mean.role, mean.metric, mean.model, label, mixtures, seeds, mean.sources, mean.undefined,
        mean.estimate, mean.estimate_low, mean.estimate_high, mean.improvement, deviation, paper,
    )  # fmt: skip


def _papers(figures: Mapping[str, float], metric: str, model: str) -> float:
    """The paper's figure beside one of ours, NaN where it has none. Words stand beside those of the same recogniser alone."""
    if metric == WORD_ERRORS:
        known = {PAPER_PARAKEET: "wer_parakeet", MODELS["whisper"]: "wer_whisper"}
        return figures.get(known.get(model, ""), float("nan")) / 100
    if metric == SCENE + SELECTED:
        return figures.get("scene_fused", float("nan")) / 100
    return figures.get(metric, float("nan"))


def _unprocessed(data: str, mean: Mean, mixtures: int, paper: Mapping[str, Mapping[str, float]]) -> Line:
    nan, told = float("nan"), _papers(paper.get("mixture", {}), mean.metric, mean.model)
    return Line(
        data, mean.condition, mean.role, mean.metric, mean.model, "mixture", mixtures, 1, mean.sources, mean.undefined,
        mean.mixture, nan, nan, 0.0, nan, told,
    )  # fmt: skip


def _efforts(
    study: Study,
    data: str,
    scored: Mapping[Cell, Scored],
    failures: Mapping[Cell, str],
    paper: Mapping[str, Mapping[str, float]],
) -> list[Effort]:
    found = list[Effort]()
    for label, entry in study.methods.items():
        told: dict[str, Any] = {f"paper_{name}": of for name, of in paper.get(entry.paper or "", {}).items()}
        cells = [cell for cell in scored if (cell.data, cell.label) == (data, label)]
        reasons = {reason for cell, reason in failures.items() if (cell.data, cell.label) == (data, label)}
        if reasons:
            nan = float("nan")
            found.append(Effort(data, "", label, 0, nan, nan, nan, 0, "; ".join(sorted(reasons))))
        costs: dict[str, list[Cost]] = {}
        for cell in cells:
            for condition, infos in scored[cell].infos.items():
                if timed := infos[study.warmup :]:
                    costs.setdefault(condition, []).append(cost_of(condition, timed))
        missing = sum(scored[cell].missing + len(given_up(scored[cell].rows)) for cell in cells)
        for condition, of in costs.items():
            seconds, evaluations = fmean(c.seconds for c in of), fmean(c.evaluations for c in of)
            memory = max(c.memory for c in of) / 2**30
            found.append(Effort(data, condition, label, of[0].clips, seconds, evaluations, memory, missing, **told))
    return found


def given_up(rows: Sequence[Row]) -> dict[str, str]:
    """Clips that a method could not separate, and why."""
    return {row.clip: row.reason for row in rows if row.reason.startswith(GIVEN_UP)}


def markdown(study: Study, results: StudyResults, command: str) -> str:
    """The table as people read it."""
    text = [f"# {_line_of(study.title)}", "", *([f"`{command}`", ""] if command else [])]
    if any(line.metric.startswith("si_sdr") for line in results.lines):
        text += [CONVENTION, ""]
    groups = dict.fromkeys((line.data, line.condition, line.role) for line in results.lines)
    for data, condition, role in groups:
        lines = [line for line in results.lines if (line.data, line.condition, line.role) == (data, condition, role)]
        columns = list(dict.fromkeys((line.metric, line.model) for line in lines))
        methods = list(dict.fromkeys(line.method for line in lines))
        cells = {(line.method, line.metric, line.model): line for line in lines}
        heads = [titled(*column) for column in columns]
        title = f"{data}: {condition}, {role}" if condition != data else f"{condition}, {role}"
        text += [f"## {_line_of(title)}", "", markdown_row(["method", "mixtures", *heads])]
        text += ["|---|---:|" + "---:|" * len(columns)]
        for method in methods:
            of = [cells.get((method, *column)) for column in columns]
            count = max(line.mixtures for line in of if line is not None)
            text.append(markdown_row([method, str(count), *map(_value, of)]))
            if any(line is not None and line.paper == line.paper for line in of):
                told = [f"{line.paper:g}" if line is not None and line.paper == line.paper else "–" for line in of]
                text.append(
                    markdown_row([f"{method}, the paper's figure on its data", "", *told]).replace("|  |", "| |")
                )
        text.append("")
    if len(study.methods) == 2:
        text += _gaps(results.comparisons)
    if timed := [effort for effort in results.efforts if not effort.failure]:
        text += [
            "## What it took",
            "",
            "| data | method | mixtures | seconds a mixture | evaluations a source | GiB | missing |",
        ]
        text += ["|---|---|---:|---:|---:|---:|---:|"]
        for e in timed:
            told = [figure(e.seconds), figure(e.evaluations, ".0f"), figure(e.gib), str(e.missing)]
            text.append(markdown_row([e.condition, e.method, str(e.mixtures), *told]))
            if e.paper_seconds == e.paper_seconds:
                line = f"{e.paper_seconds:g} | {e.paper_evaluations:g} | | |"
                text.append(f"| {e.condition} | {e.method}, the paper's figure on an H200 | | {line}")
        text.append("")
    for effort in results.efforts:
        if effort.failure:
            text += [f"{effort.method} failed on {effort.data}: {effort.failure}", ""]
    for (data, label), rows in results.rows.items():
        if lost := given_up(rows):
            clip, reason = next(iter(lost.items()))
            text += [
                f"{label} gave up {len(lost)} mixture{'s' if len(lost) > 1 else ''} of {data}; the first, {clip}: {reason}",
                "",
            ]
    for note in study.notes:
        text += [note, ""]
    text += [
        "Means over sources, in round brackets what is gained over the same mixtures unprocessed, in square ones 95 % bootstrap "
        "intervals over mixtures; `comparisons.csv` has paired tests of every two methods (Wilcoxon, Holm); how many sources had "
        "no value is in `table.csv`.",
        "",
        ", ".join(f"{name} {of}" for name, of in provenance().items()) + ".",
    ]
    return "\n".join(text) + "\n"


def _gaps(comparisons: Sequence[Comparison]) -> list[str]:
    """Paired differences of two methods as a table."""
    if not comparisons:
        return []
    first = comparisons[0]
    text = [
        f"## {first.method} minus {first.other}",
        "",
        "| data | condition | role | metric | mixtures | difference |",
        "|---|---|---|---|---:|---:|",
    ]
    text += [
        markdown_row(
            [
                *(c.data, c.condition, c.role, titled(c.metric, c.model), str(c.mixtures)),
                f"{figure(c.difference, '+.2f')} [{figure(c.low, '+.2f')}, {figure(c.high, '+.2f')}]",
            ]
        )
        for c in comparisons
    ]
    return [*text, ""]


def cell(line: Line | None) -> str:
    """A figure and, but for the mixture, what is gained over the mixtures that it is of; a dash for none."""
    if line is None or line.sources == 0:
        return "–"
    if line.method == "mixture" or not math.isfinite(line.improvement):
        return figure(line.value)
    return f"{line.value:.2f} ({line.improvement:+.2f})"


def _line_of(text: str) -> str:
    """A text as one line."""
    return " ".join(text.split())


def _value(line: Line | None) -> str:
    if line is None or line.sources == 0:
        return "–"
    between = f" [{line.low:.2f}, {line.high:.2f}]" if line.low == line.low else ""
    missing = f" ({line.undefined} undefined)" if line.undefined else ""
    return f"{cell(line)}{between}{missing}"


def provenance() -> dict[str, str]:
    """What a figure depends on beside its file: versions, machine, and the state of the repository."""
    found = {name: version(name) for name in ("avdiff", "torch")}
    found |= {"python": platform.python_version(), "machine": platform.machine()}
    try:
        run = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
        found["git"] = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["git"] = "not a repository"
    return found
