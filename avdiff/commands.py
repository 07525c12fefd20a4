"""The commands for people; avdiff.cli reads their arguments."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from avdiff.console import console
from avdiff.errors import UserError, printable, printable_lines
from avdiff.extras import check as check_extras
from avdiff.files import packaged
from avdiff.types import SPEAKER

if TYPE_CHECKING:
    from avdiff.batch import Outcome
    from avdiff.evaluation import References, Scoring
    from avdiff.metrics.table import Score
    from avdiff.recording import SeparationReport
    from avdiff.separators.base import Separator
    from avdiff.study import Named, Study
    from datamodules.mixtures import MixtureList
    from datamodules.recordings import RecordedMixture

# where no method is named: one that finishes, as the paper's settings do not on a processor
BENCHMARKED = "ssnaps_fast"


@dataclass(frozen=True)
class Measures:
    """What `evaluate` and `benchmark` compute: their options of these names."""

    metric: Sequence[str]
    nisqa: Path | None
    dnsmos: Path | None
    wer: Sequence[str]
    scenes: Path | None
    consistent: bool
    workers: int | None

    def scoring(self, references: References, metrics: Sequence[str] | None = None) -> Scoring:
        """With its networks loaded.

        Args:
            references: the list.
            metrics: where the options name none; None for the core ones.
        """
        from avdiff.audio.scenes import classes_of
        from avdiff.evaluation import Scoring
        from avdiff.metrics.asr import load_recogniser
        from avdiff.metrics.evaluate import CORE, choose_metrics
        from avdiff.scene.ensemble import load_ensemble

        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers is {self.workers}; give at least 1")
        chosen = choose_metrics(self.metric or metrics or CORE, self.nisqa, self.dnsmos)
        recognisers = [load_recogniser(model, _device("auto")) for model in self.wer]
        scenes = None
        if self.scenes is not None:
            scenes = load_ensemble(self.scenes, classes_of(references.scenes().values()))
        return Scoring(chosen, self.consistent, recognisers, scenes, self.workers)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name} is no device that avdiff runs on; give auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name} was given but torch sees no CUDA GPU here; give --device cpu")
    return device


def _say(text: str) -> None:
    """Tell the user, to whom brackets are brackets."""
    console().print(printable_lines(text), markup=False, highlight=False, soft_wrap=True)


def separate(
    video: Sequence[Path],
    mixture: Path | None,
    face: Sequence[Path],
    mouth: Sequence[Path],
    offscreen: int | Literal["auto"],
    check: bool,
    output: Path | None,
    stretch: int,
    faces: str,
    device: str,
    method: str,
    draws: int | None,
    seed: int,
    tell: Callable[[BaseException], str | None],
) -> None:
    """One WAV for every face, one for an unseen talker if there is one, one for the noise."""
    from avdiff.batch import recordings_of, separate_each
    from avdiff.benchmark import digest
    from avdiff.files import stamp
    from avdiff.methods import method_config
    from avdiff.recording import default_folder, separate_file, separate_mixture
    from avdiff.video.decode import check_file
    from avdiff.video.detectors import find_detector
    from datamodules.real import VIDEO

    if not video and mixture is None and len(mouth) == 1 and not face:
        mixture = mouth[0]
    if (not video) == (mixture is None):
        raise UserError(
            "give either one video (avdiff separate talk.mp4) or --mixture with a --face or --mouth for every talker"
        )
    if video and (face or mouth):
        raise UserError(
            f"{'--face' if face else '--mouth'} goes with --mixture; a video is searched for faces itself"
            f" (--mixture {video[0]} takes its sound alone)"
        )
    several = len(video) > 1 or any(path.is_dir() for path in video)
    sources = recordings_of(video, VIDEO) if several else [*video, *([mixture] if mixture else [])]
    for path in () if several else (*sources, *face, *mouth):
        check_file(path)
    for path in (*sources, *face, *mouth, *([output] if output else [])):
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            raise UserError(f"the name {str(path)!a} is not UTF-8, and the files to be written name it; rename it")
    check_extras("video")
    where = _device(device)
    separator = _drawing(method, draws).to(where)
    detector = find_detector(faces)

    settings: dict[str, object] = {}
    if several:
        config = hashlib.blake2b(yaml_text(method_config(method)).encode(), digest_size=8).hexdigest()
        settings = {"method": method, "config": config, "weights": digest(separator)}

    def made(source: Path) -> dict[str, object]:
        found = {"draws": draws, "seed": seed, "offscreen": offscreen, "check": check, "stretch": stretch}
        return {**settings, **found, "faces": type(detector).__name__, "recording": stamp(source)}

    def run(source: Path, folder: Path) -> SeparationReport:
        if several:
            check_file(source)
        told: dict[str, Any] = {"offscreen": offscreen, "check": check, "seed": seed, "detector": detector}
        told |= {"stretch": stretch, "device": where}
        with _bars() as bars:
            if not video:
                return separate_mixture(source, face, separator, folder, mouths=mouth, watch=_watcher(bars), **told)
            kept = made(source) if several else None
            return separate_file(source, separator, folder, made=kept, watch=_watcher(bars), **told)

    if several:
        _separate_each(sources, separate_each(sources, run, output or Path(), made, tell))
        return
    _tell_voices(run(sources[0], output or default_folder(sources[0])), separator.spreads)


def _tell_voices(report: SeparationReport, spreads: bool) -> None:
    """Print what was made of one recording."""
    spread = ["spread, dB"] * spreads
    sure = report.confidence
    trust = [] if sure is None else ["confidence"]
    table = Table(Column("file", overflow="fold"), "level, dB", *trust, *spread, "face seen, s", box=None)
    for k, item in enumerate(report.sources):
        seen = ", ".join(f"{a:.2f}-{b:.2f}" for a, b in item.seen) or "-"
        apart = [f"{item.spread:.1f}"] * spreads
        if sure is not None:
            apart = [f"{sure.overall(k):.2f}" if item.confidence else "-", *apart]
        table.add_row(escape(printable(str(item.path))), f"{item.decibels:.1f}", *apart, seen)
    console().print(table)
    for note in report.notes:
        _say(note)
    _say(f"{report.seconds:.1f} s. Open {report.folder / 'report.html'}")


def _separate_each(sources: Sequence[Path], outcomes: Iterable[Outcome]) -> None:
    """Separate recordings and print what became of each, then all in one table.

    Raises:
        UserError: some failed.
    """
    table = Table("recording", "people", "s", Column("voices in", overflow="fold"), box=None)
    failed = 0
    for number, outcome in enumerate(outcomes, 1):
        name = printable(outcome.recording.name)
        count = f"{number} of {len(sources)}: {name}"
        if outcome.reason is not None:
            failed += 1
            _say(f"{count}: not separated: {outcome.reason}")
            table.add_row(escape(name), "-", "-", "not separated")
            continue
        folder = escape(printable(str(outcome.folder)))
        if outcome.report is None:
            _say(f"{count} was separated before")
            table.add_row(escape(name), "-", "-", f"{folder} (before)")
            continue
        people = sum(source.role == SPEAKER for source in outcome.report.sources)
        _say("\n".join([f"{count}: {people} {'person' if people == 1 else 'people'}", *outcome.report.notes]))
        table.add_row(escape(name), str(people), f"{outcome.report.seconds:.1f}", folder)
    console().print(table)
    if failed:
        raise UserError(
            f"{failed} of {len(sources)} recordings could not be separated, for the reasons above; the others are done"
        )


def models() -> None:
    """List every network preset with its parameters and the operations of one 4 s forward."""
    from avdiff.priors.table import model_table
    from avdiff.separators.table import system_table

    table = Table("preset", "parameters", "GFLOP, network", "GFLOP, video", "what it is", box=None)
    for row in (*model_table(), *system_table()):
        table.add_row(
            row.name,
            f"{row.parameters:,}",
            f"{row.denoiser_operations / 1e9:.2f}",
            f"{row.video_operations / 1e9:.2f}",
            row.summary,
        )
    screen = console(120)
    screen.print(table)
    screen.print(
        "Operations of one evaluation for 4 s at 16 kHz, 2 a multiply-add; the video is encoded once a separation. "
        "Supervised systems: of one talker; RAVSS, of two and noise."
    )


def demo(output: Path, method: str, seed: int) -> None:
    """Separate two embedded talkers and noise, then the same with one of them off-screen; prints scores, leaves a report."""
    from avdiff.demo import Case, run_demo
    from avdiff.methods import load_method
    from avdiff.metrics.si_sdr import CONVENTION
    from avdiff.metrics.table import figure
    from datamodules.mixtures import collate
    from datamodules.synthetic.benchmark import EmbeddedBenchmark

    check_extras("synthetic", "video", "metrics")
    titles = {
        "speakers2": "Two talkers who are seen, and noise",
        "offscreen2": "One talker who is seen, one who is not, and noise",
    }
    items = EmbeddedBenchmark("test", tuple(titles), clips=1)
    cases = [
        Case(item.condition, titles[item.condition], collate([item]), item.sources)
        for item in (items[i] for i in range(len(items.entries())))
    ]
    separator = load_method(method)
    output.mkdir(parents=True, exist_ok=True)  # not below the bars: what cannot be made is told in one line
    with _bars() as bars:
        results = run_demo(cases, separator, output, seed, _watcher(bars))
    for case, separation, scores in results:
        table = Table("source", "metric", "mixture", "estimate", title=case.title, title_justify="left", box=None)
        for row in scores:
            table.add_row(row.source, row.metric, figure(row.mixture), figure(row.estimate))
        console().print(table)
        _say(f"{separation.info['seconds']:.1f} s, {separation.info['evaluations']} evaluations a source\n")
    _say(CONVENTION)
    _say(f"Open {output / 'report.html'}; the figures are in {output / 'metrics.csv'}.")


def _drawing(method: str, draws: int | None) -> Separator:
    """A method, with so many draws where that is asked for."""
    from avdiff.methods import load_method
    from avdiff.separators.posterior import PosteriorSeparator

    separator = load_method(method)
    if draws is None:
        return separator
    if not isinstance(separator, PosteriorSeparator) or not separator.samples:
        raise UserError(
            f"--draws {draws} is for methods that draw, and {method} does not; add --method ssnaps_fast, or leave --draws out"
        )
    if draws < 1:
        raise UserError(f"--draws is {draws}; give at least 1")
    return load_method(method, [f"draws={draws}"])


def benchmark(
    file: Path | None,
    method: str | None,
    set: Sequence[str],
    clips: int | None,
    condition: Sequence[str],
    split: str,
    lips: Literal["right", "withheld", "swapped"],
    output: Path | None,
    devices: int,
    batch: int,
    seed: int | None,
    part: str | None,
    wandb: str | None,
    measures: Measures,
    run: Callable[[Sequence[str]], None],
) -> None:
    """A benchmark or sweep file, or the embedded benchmark for one method; goes on where it stopped."""
    for name, number in (("--clips", clips), ("--batch", batch), ("--devices", devices)):
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}; give at least 1")
    if file is not None:
        file = packaged(file)
        given = {
            "--method": method,
            "--set": set,
            "--clips": clips,
            "--condition": condition,
            "--split": split != "test",
            "--lips": lips != "right",
            "--seed": seed is not None,
        }
        _refuse(given, f"a file, which says this itself; change {file}")
        if _is_sweep(file):
            given = {
                "--part": part,
                "--devices": devices != 1,
                "--batch": batch != 1,
                "--wandb": wandb,
                **{f"--{name}": of for name, of in vars(measures).items()},
                "--workers": measures.workers is not None,
            }
            _refuse(given, f"a sweep, whose command has its options; change {file}")
            _sweep(file, output, run)
        else:
            _study(file, output, devices, batch, part, wandb, measures)
        return
    if part is not None:
        raise UserError("--part goes with a benchmark file; for one method give --condition")
    method, clips, seed = method or BENCHMARKED, clips or 50, seed or 0
    from avdiff.benchmark import run_benchmark
    from avdiff.lit.callbacks import SeparationProgress
    from avdiff.methods import load_method, method_config, method_file
    from avdiff.sweep import point_name
    from datamodules.mixtures import Mixtures, WrongLips
    from datamodules.synthetic.benchmark import EmbeddedBenchmark

    folder = output or Path("results", "embedded" if split == "test" else f"embedded_{split}")
    path = method_file(method)
    separator = load_method(method, set)
    try:
        embedded = EmbeddedBenchmark(split, condition or None, clips)
    except ValueError as error:
        raise UserError(str(error)) from error
    if embedded.left_out:
        _say(embedded.left_out)
    mixtures: MixtureList = embedded if lips == "right" else WrongLips(embedded, lips)
    settings = path.read_text(encoding="utf-8") if not set else yaml_text(method_config(method, set))
    results = run_benchmark(
        "_".join([path.stem, *([] if lips == "right" else [lips]), *([point_name(set)] if set else [])]),
        separator,
        Mixtures(mixtures, batch),
        mixtures,
        folder,
        settings=settings,
        seed=seed,
        scoring=measures.scoring(mixtures),
        devices=devices,
        callbacks=[SeparationProgress()],
        noises=embedded.kinds_of_noise(),
    )
    if results is not None:
        _say(results.summary.read_text(encoding="utf-8"))
        _say(f"{results.csv} has every figure.")
        if wandb is not None:
            from avdiff.report.wandb_log import log_means

            log_means(wandb, path.stem, set, results.means, results.csv)


def _refuse(given: Mapping[str, Any], what: str) -> None:
    """Options that were given do not go with something."""
    if odd := [name for name, of in given.items() if of]:
        raise UserError(f"{odd[0]} is not for {what}, or leave {odd[0]} out")


def _is_sweep(file: Path) -> bool:
    """Whether a file is a sweep; what cannot be read is not, and is told of as a benchmark file."""
    from avdiff.schema import read_yaml

    try:
        told = read_yaml(file, "benchmark file")
    except UserError:
        return False
    return isinstance(told, dict) and "parameters" in told


def yaml_text(config: dict[str, Any]) -> str:
    """A mapping as YAML."""
    import yaml

    return yaml.safe_dump(config)


def _study(
    file: Path, output: Path | None, devices: int, batch: int, part: str | None, wandb: str | None, measures: Measures
) -> None:
    """Every method on every list of a benchmark file, and their table."""
    from avdiff.lit.callbacks import SeparationProgress
    from avdiff.study import read_paper, read_study, run_study
    from avdiff.study_page import write_study_page
    from datamodules.mixtures import FirstMixtures, Mixtures

    study, out = read_study(file), output or Path("results", "tables", file.stem)
    lists: dict[str, MixtureList] = {}

    def build(told: Named, clips: int | None) -> MixtureList:
        key = yaml_text(vars(told))
        if key not in lists:
            lists[key] = _mixture_list(file, told)
        return lists[key] if clips is None else FirstMixtures(lists[key], clips)

    with _bars() as bars:
        results = run_study(
            study,
            out,
            build,
            lambda references: Mixtures(cast("MixtureList", references), batch),
            lambda references: measures.scoring(references, study.metrics),
            part=_part(part),
            devices=devices,
            callbacks=lambda: [SeparationProgress()],
            paper=read_paper(),
            command=f"avdiff benchmark {file}",
            watch=_watcher(bars),
        )
    if results is None:
        return
    page = write_study_page(study, results, lambda data: build(study.data[data], None))
    _say((out / "table.md").read_text(encoding="utf-8"))
    _say(f"Open {page}; table.csv, efforts.csv, comparisons.csv and rows/ are beside it.")
    if wandb is not None:
        from avdiff.report.wandb_log import log_tables

        tables: dict[str, Sequence[Any]] = {
            "table": results.lines,
            "efforts": results.efforts,
            "comparisons": results.comparisons,
        }
        log_tables(wandb, study.name, yaml_text(vars_of(study)), tables, page)


def _part(given: str | None) -> tuple[int, int]:
    """ "2/8", from 1, as (1, 8)."""
    if given is None:
        return 0, 1
    first, _, count = given.partition("/")
    if not (first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise UserError(f"--part is {given!r}; give one of N parts as in 2/8")
    return int(first) - 1, int(count)


def vars_of(study: Study) -> dict[str, Any]:
    """A benchmark file's content, for its record."""
    from dataclasses import asdict

    return asdict(study)


def _mixture_list(file: Path, told: Named) -> MixtureList:
    from jsonargparse import ArgumentError, ArgumentParser

    from avdiff.allowed import restrict
    from avdiff.methods import account
    from avdiff.schema import not_finite
    from datamodules.mixtures import MixtureList

    restrict()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=MixtureList)
    of = {"class_path": told.class_path, "init_args": told.init_args}
    try:
        config = parser.parse_object({"data": of})
        if odd := not_finite(config.data):
            raise ValueError(f"{odd}; give a finite number")
        found = parser.instantiate(config).data
    except (ArgumentError, AttributeError, KeyError, ImportError, ValueError, TypeError) as error:
        raise UserError(f"{file} does not describe a list of mixtures: {account(error)}") from error
    if not found.entries():
        raise UserError(f"{file} describes a list without a mixture, of {told.class_path}; give it one at least")
    return found


def _sweep(file: Path, output: Path | None, run: Callable[[Sequence[str]], None]) -> None:
    """The grid that `wandb sweep` would run, by the same command line, without a server."""
    from avdiff.methods import check_method
    from avdiff.sweep import read_sweep, write_sweep_table

    sweep, out = read_sweep(file), output or Path("results", "sweeps", file.stem)
    for name, value in sweep.settings():  # a value that cannot be, before the first point takes its time
        check_method(sweep.method, [f"{name}={value}"])
    for point in sweep.points():
        run([*sweep.arguments(point), "--output", str(out)])
    table = write_sweep_table(sweep, out)
    _say(table.read_text(encoding="utf-8"))


def speed(
    preset: str, speakers: Sequence[int], steps: int | None, compile: bool, device: str, out: Path | None
) -> None:
    """The ladder of `avdiff.speed` as tables, and as JSON."""
    from avdiff.speed import (
        COLUMNS,
        EXPLAINED,
        EXTRAPOLATED,
        PAPER_SECONDS,
        PRESETS,
        environment,
        run_ladder,
        write_json,
    )

    if preset not in PRESETS:
        raise UserError(f"there is no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    if odd := [count for count in speakers if count < 1]:
        raise UserError(f"--speakers has {odd[0]}; give numbers of at least 1")
    if steps is not None and steps < 0:
        raise UserError(f"--steps is {steps}; give at least 1, or 0 for all")
    if out is not None and out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file")
    where = _device(device)
    gpu = where.type == "cuda"
    about = environment(preset, where)
    with _bars() as bars:
        found = run_ladder(
            sorted(set(speakers)),
            PRESETS[preset],
            where,
            steps=(20 if gpu else 3) if steps is None else steps,
            compiles=gpu or compile,
            watch=_watcher(bars),
        )
    screen = console(160)
    for count in sorted(set(speakers)):
        rows = [row for row in found if row.speakers == count]
        title = f"{count} speaker{'s' if count > 1 else ''} and noise, 4 s"
        table = Table(title=title, title_justify="left", box=None)
        table.add_column("rung", no_wrap=True)
        for head in (*COLUMNS, ""):
            table.add_column(head, justify="left" if not head else "right")
        for row in rows:
            table.add_row(*row.cells())
        screen.print(table)
        if count in PAPER_SECONDS:
            screen.print(f"The paper: {PAPER_SECONDS[count]} s, its own code on an H200 (Table VII).\n")
    screen.print(EXPLAINED)
    if any(row.extrapolated for row in found):
        screen.print(EXTRAPOLATED)
    screen.print(", ".join(f"{name} {of}" for name, of in about.items()) + ".")
    if out is not None:
        write_json(out, about, found)
        screen.print(f"{out} has every figure.")


def report(results: Sequence[Path], output: Path) -> None:
    """The tables of benchmark files and ladders of speed, one after the other, in one Markdown file."""
    import json

    from avdiff.report.collection import collect
    from avdiff.speed import markdown

    parts = []
    for path in results:
        if path.suffix == ".json" and path.is_file():
            try:
                parts.append(markdown(json.loads(path.read_text(encoding="utf-8"))))
            except (AttributeError, ValueError, KeyError, RecursionError, TypeError) as error:
                raise UserError(f"{path} is not what avdiff benchmark speed --out writes; leave it out") from error
        elif (path / "table.md").is_file():
            parts.append(_table_of(path / "table.md"))
        else:
            raise UserError(
                f"{path} has no table.md; give folders that avdiff benchmark FILE left, or files of avdiff benchmark speed --out"
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(collect(parts), encoding="utf-8")
    _say(f"{output} has {len(parts)} tables.")


def _table_of(file: Path) -> str:
    """A table that `avdiff benchmark FILE` wrote."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is damaged: it is not UTF-8; make it again with avdiff benchmark, or leave it out"
        ) from error
    if not text.startswith("# "):
        raise UserError(
            f"{file} begins with no title, which avdiff benchmark FILE gives it; make it again, or leave it out"
        )
    return text


def wandb(project: str, entity: str | None, json: Path | None) -> None:
    """The workspace and the report of experiments/wandb.yaml, to W&B or to a file."""
    from avdiff.report.wandb_layout import apply_layout, write_layout

    if json is not None:
        _say(f"{write_layout(entity or 'entity', project, json)} has the workspace; nothing was sent.")
        return
    for address in apply_layout(entity, project):
        _say(f"Open {address}")


def evaluate(
    folder: Path,
    mixtures: str,
    speech: Path | None,
    noise: Path | None,
    clips: int | None,
    condition: Sequence[str],
    output: Path | None,
    measures: Measures,
) -> None:
    """Score a folder of estimates, by avdiff or by anything else, against a list of mixtures."""
    from avdiff.benchmark import tabulate
    from avdiff.evaluation import score_folder

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one with <clip>/<source>.wav")
    references = _references(mixtures, speech, noise, clips, condition)
    scoring = measures.scoring(references)
    here = folder.resolve()
    out = output or here.with_name(f"{here.name}_scores")
    with _bars() as bars:
        scored = score_folder(
            folder,
            references,
            scoring,
            scores=out / f"clips_{scoring.form}",
            transcripts=out / "transcripts",
            watch=_watcher(bars),
        )
    results = tabulate(out, f"scores_{scoring.form}", scored, {}, scoring)
    _say(results.summary.read_text(encoding="utf-8"))
    _say(f"{results.csv} has every figure.")


def _references(
    name: str, speech: Path | None, noise: Path | None, clips: int | None, condition: Sequence[str]
) -> MixtureList:
    """A list by what a user calls it: embedded, embedded_val, a .jsonl of `avdiff prepare lists`, or a .csv."""
    from datamodules.lists import ListFile
    from datamodules.mixtures import FirstMixtures
    from datamodules.synthetic.benchmark import EmbeddedBenchmark
    from datamodules.wav_list import WavList

    if clips is not None and clips < 1:
        raise UserError(f"--clips is {clips}; give at least 1")
    if name in ("embedded", "embedded_val"):
        try:
            return EmbeddedBenchmark("test" if name == "embedded" else "val", condition or None, clips or 50)
        except ValueError as error:
            raise UserError(str(error)) from error
    if condition:
        raise UserError("--condition chooses lists of the embedded benchmark; leave it out for another list")
    if name.endswith(".csv"):
        found = WavList(Path(name))
        return found if clips is None else FirstMixtures(found, clips)
    if name.endswith(".jsonl"):
        if speech is None or noise is None:
            raise UserError(f"{name} names clips of packs; give both packs: --speech FOLDER --noise FOLDER")
        return ListFile(Path(name), speech, noise, clips)
    raise UserError(
        f"--list {name} is no list; give embedded, embedded_val, a .jsonl file of avdiff prepare lists, or a .csv file "
        "with the columns clip, source, reference"
    )


def recordings(
    data: Path, clips: int, part: Sequence[str], output: Path, method: str, set: Sequence[str], seed: int
) -> None:
    """Real mixtures as files through `separate`, scored against their parts."""
    import csv

    from avdiff.benchmark import METRICS
    from avdiff.methods import load_method
    from avdiff.metrics.si_sdr import CONVENTION
    from avdiff.metrics.summary import summarise
    from avdiff.metrics.table import Row, figure
    from avdiff.recording import separate_file, separate_mixture
    from avdiff.separators.base import NotSeparated
    from avdiff.video.detectors import find_detector
    from avdiff.video.remembered import RememberedFaces
    from datamodules.recordings import KNOWN, STRANGERS, VOICES, RecordedMixtures
    from datamodules.synthetic.corpus import cache_folder

    if clips < 1:
        raise UserError(f"--clips is {clips}; give at least 1")
    cases = RecordedMixtures(data, output / "input", clips, part or (KNOWN, STRANGERS))
    separator = load_method(method, set)
    detector = RememberedFaces(find_detector(), cache_folder().with_name("faces") / "recordings.npz")
    rows: list[Row] = []
    with _bars() as bars:
        watch = _watcher(bars)
        for index, case in enumerate(cases):
            watch("mixtures", index / len(cases))
            runs = {"faces": (case.mixture, partial(separate_mixture, case.mixture, case.faces))}
            if case.video is not None:
                runs = {"video": (case.video, partial(separate_file, case.video)), **runs}
            for form, (heard, run) in runs.items():
                try:
                    report = run(separator, output / f"{case.key}_{form}", seed=seed, detector=detector)
                except NotSeparated as failure:
                    _say(f"{case.key}: {failure}; not scored")
                    continue
                if len(report.sources) != len(case.layout):
                    found = len(report.sources) - 1
                    _say(f"{case.key}: {found} faces were found instead of {len(case.faces)}; not scored")
                    continue
                scores = _against_parts(heard, [source.path for source in report.sources], case, METRICS)
                rows += [Row(f"{case.row}_{form}", case.key, s.source, s.metric, s.mixture, s.estimate) for s in scores]
            detector.save()
        watch("mixtures", 1.0)
    with (output / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("case", "clip", "source", "metric", "mixture", "estimate"))
        table.writerows(
            (r.condition, r.clip, r.source, r.metric, f"{r.mixture:.4f}", f"{r.estimate:.4f}") for r in rows
        )
    shown = Table("case", "role", "metric", "sources", "mixture", "estimate", "improvement", box=None)
    for column in shown.columns[:3]:
        column.no_wrap = True
    for m in summarise(rows):
        if m.metric == OTHER_VOICE:  # a share of the sources in metrics.csv, their number here
            figures = [figure(share * m.sources, ".0f") for share in (m.mixture, m.estimate, m.improvement)]
            shown.add_row(m.condition, m.role, "nearer other voice", str(m.sources), *figures)
        elif m.sources:
            figures = [figure(m.mixture), figure(m.estimate), figure(m.improvement, "+.2f")]
            shown.add_row(m.condition, m.role, m.metric, str(m.sources), *figures)
    console(100).print(shown)
    _say(CONVENTION)
    for row, voices in VOICES.items():
        if any(r.condition.startswith(f"{row}_") for r in rows):
            _say(f"{row}: {voices}.")
    _say(f"{output / 'metrics.csv'} has every figure; every folder beside it has a report.html.")


OTHER_VOICE = "other_voice"  # of a speaker: 1 where the estimate is nearer the other speaker than the right one, else 0


def _against_parts(
    heard: Path, estimates: Sequence[Path], case: RecordedMixture, metrics: Sequence[str]
) -> list[Score]:
    """The scores of a mixture that was separated as a file: those of the metrics, and OTHER_VOICE where two speak."""
    import soundfile

    from avdiff.audio.io import read_audio, resample
    from avdiff.metrics.evaluate import score
    from avdiff.metrics.table import Score
    from avdiff.types import SAMPLE_RATE, source_names
    from datamodules.recordings import RATE

    references = resample(case.sources, RATE, SAMPLE_RATE)
    samples, rate = read_audio(heard)
    mixture = _fit(resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE), references.shape[1])
    found = torch.stack(
        [
            _fit(resample(torch.from_numpy(samples), rate, SAMPLE_RATE), references.shape[1])
            for samples, rate in (soundfile.read(path, dtype="float32") for path in estimates)
        ]
    )
    scores = score(found, references, mixture, case.layout, SAMPLE_RATE, metrics)
    if len(case.faces) != 2:
        return scores
    for k, source in enumerate(source_names(case.layout)[:2]):
        before, after = (_nearer(x, references[1 - k], references[k]) for x in (mixture, found[k]))
        scores.append(Score(source, OTHER_VOICE, before, after))
    return scores


def _nearer(estimate: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> float:
    """1 where the SI-SDR with the one (T,) exceeds that with the other, else 0; NaN of a silent estimate."""
    from avdiff.metrics.base import Undefined
    from avdiff.metrics.si_sdr import si_sdr

    try:
        return float(si_sdr(estimate, one) > si_sdr(estimate, other))
    except Undefined:
        return float("nan")


def _fit(x: torch.Tensor, length: int) -> torch.Tensor:
    """Cut or pad with zeros at the end: codecs add a few samples."""
    return torch.nn.functional.pad(x, (0, max(0, length - len(x))))[:length]


def sample(prior: str, clips: int, steps: int, guidance: float, seed: int, output: Path | None) -> None:
    """Clips that a prior makes up, in numbers beside validation clips of the embedded corpus."""
    import csv

    from avdiff.audio.io import write_wav
    from avdiff.audio.statistics import describe, summary
    from avdiff.draw import draw
    from avdiff.priors.store import load_prior
    from avdiff.types import SAMPLE_RATE
    from datamodules.embedded import EmbeddedNoise, EmbeddedSpeech

    for name, value in {"--clips": clips, "--steps": steps}.items():
        if value < 1:
            raise UserError(f"{name} is {value}; give at least 1")
    if not math.isfinite(guidance):
        raise UserError(f"--guidance is {guidance}; give a number, 0 for none")
    network = load_prior(prior)
    data = (EmbeddedSpeech if network.conditional else EmbeddedNoise)(clips=1, val_clips=clips, batch_size=clips)
    data.prepare_data()
    data.setup("validate")
    corpus = next(iter(data.val_dataloader()))
    level = network.sigma_data / corpus["audio"].square().mean(-1, keepdim=True).sqrt().clamp_min(1e-4)
    sets = {"corpus": corpus["audio"] * level}
    with _bars() as bars:
        watch = _watcher(bars)
        sorts = {"without lips": None, "with lips": corpus["visual"]} if network.conditional else {"samples": None}
        for name, visual in sorts.items():
            made = []
            for i in range(clips):
                watch(name, i / clips)
                lips = None if visual is None else (visual[i : i + 1], corpus["seen"][i : i + 1])
                made.append(
                    draw(
                        network,
                        1,
                        corpus["audio"].shape[1],
                        *(lips or ()),
                        steps=steps,
                        guidance=guidance,
                        seed=seed + i,
                    )[0]
                )
            watch(name, 1.0)
            sets[name] = torch.stack(made)
    folder = output or Path("results", "samples", Path(prior).name)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {}
    for name, audio in sets.items():
        for i, clip in enumerate(audio):
            write_wav(folder / f"{name.replace(' ', '_')}_{i:02d}.wav", clip, SAMPLE_RATE)
        described = [describe(clip, SAMPLE_RATE, pitch=network.conditional) for clip in audio]
        columns[name] = summary(described, audio, sets["corpus"] if name == "with lips" else None)
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    table = Table("", *columns, box=None)
    with (folder / "samples.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("figure", *columns))
        for row in rows:
            figures = [columns[name].get(row) for name in columns]
            table.add_row(row, *("-" if value is None else f"{value:.2f}" for value in figures))
            lines.writerow((row, *("" if value is None else f"{value:.4g}" for value in figures)))
    console().print(table)
    _say(f"The clips and samples.csv are in {folder}.")


def export(checkpoint: Path, preset: str, output: Path) -> None:
    """A training checkpoint as the folder of a prior or of a supervised system."""
    from avdiff.priors import presets as priors
    from avdiff.priors.store import export_checkpoint
    from avdiff.separators import presets as systems
    from avdiff.separators.store import export_system

    if preset in systems.PRESETS:
        export_system(checkpoint, preset, output)
    elif preset in priors.PRESETS:
        export_checkpoint(checkpoint, preset, output)
    else:
        known = ", ".join((*priors.PRESETS, *systems.PRESETS))
        raise UserError(f"there is no preset {preset!r}; the presets are {known}")


def _bars() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _watcher(bars: Progress) -> Callable[[str, float], None]:
    """A bar for every stage that is heard of."""
    tasks: dict[str, TaskID] = {}

    def watch(stage: str, share: float) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=1.0)
        bars.update(tasks[stage], completed=share)

    return watch
