"""The commands for people; avdiff.cli reads their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from avdiff.errors import UserError


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name} is no device; give auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name} was given but torch sees no CUDA GPU here; give --device cpu")
    return device


def separate(
    video: Path | None,
    mixture: Path | None,
    face: Sequence[Path],
    offscreen: int,
    output: Path | None,
    stretch: int,
    mediapipe: Path | None,
    device: str,
    method: str,
    seed: int,
) -> None:
    """One WAV for every face, one for an unseen talker if there is one, one for the noise."""
    from avdiff.methods import load_method
    from avdiff.recording import separate_file, separate_mixture
    from avdiff.video.faces import DlibFaces, MediaPipeFaces

    if (video is None) == (mixture is None):
        raise UserError("give either one video (avdiff separate talk.mp4) or --mixture with a --face for every talker")
    if video is not None and face:
        raise UserError("--face goes with --mixture; a video is searched for faces itself")
    source = video if video is not None else mixture
    assert source is not None
    if not source.is_file():
        raise UserError(f"there is no file {source}; give the path of a recording")
    where = _device(device)
    separator = load_method(method).to(where)
    detector = DlibFaces() if mediapipe is None else MediaPipeFaces(mediapipe)
    folder = output or Path(f"{source.stem}_separated")
    run = partial(separate_mixture, source, face) if video is None else partial(separate_file, source)
    with _bars() as bars:
        report = run(
            separator,
            folder,
            offscreen=offscreen,
            seed=seed,
            detector=detector,
            stretch=stretch,
            device=where,
            watch=_watcher(bars),
        )
    table = Table("file", "level, dB", "face seen, s", box=None)
    for item in report.sources:
        seen = ", ".join(f"{a:.2f}-{b:.2f}" for a, b in item.seen) or "-"
        table.add_row(str(item.path), f"{item.decibels:.1f}", seen)
    out = Console()
    out.print(table)
    for note in report.notes:
        out.print(note)
    out.print(f"{report.seconds:.1f} s. Open {report.folder / 'report.html'}")


def models() -> None:
    """List every network preset with its parameters and the operations of one 4 s forward."""
    from avdiff.priors.table import model_table

    table = Table("preset", "parameters", "GFLOP, denoiser", "GFLOP, video", "what it is", box=None)
    for row in model_table():
        table.add_row(
            row.name,
            f"{row.parameters:,}",
            f"{row.denoiser_operations / 1e9:.2f}",
            f"{row.video_operations / 1e9:.2f}",
            row.summary,
        )
    console = Console(width=max(120, Console().width))
    console.print(table)
    console.print(
        "Operations of one evaluation for 4 s at 16 kHz, 2 a multiply-add; the video is encoded once a separation."
    )


def demo(output: Path, method: str, seed: int) -> None:
    """Separate two embedded talkers and noise, then the same with one of them off-screen; prints scores, leaves a report."""
    from avdiff.demo import Case, run_demo
    from avdiff.methods import load_method
    from datamodules.mixtures import collate
    from datamodules.synthetic.benchmark import EmbeddedBenchmark

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
    with _bars() as bars:
        results = run_demo(cases, separator, output, seed, _watcher(bars))
    console = Console()
    for case, separation, scores in results:
        table = Table("source", "metric", "mixture", "estimate", title=case.title, title_justify="left", box=None)
        for row in scores:
            table.add_row(row.source, row.metric, f"{row.mixture:.2f}", f"{row.estimate:.2f}")
        console.print(table)
        console.print(f"{separation.info['seconds']:.1f} s, {separation.info['evaluations']} evaluations a source\n")
    console.print(f"Open {output / 'report.html'}; the figures are in {output / 'metrics.csv'}.")


def benchmark(
    method: str,
    clips: int,
    condition: Sequence[str],
    split: str,
    lips: Literal["right", "withheld", "swapped"],
    output: Path | None,
    devices: int,
    batch: int,
    seed: int,
) -> None:
    """The embedded benchmark for one method; goes on where it stopped."""
    from avdiff.benchmark import run_benchmark
    from avdiff.lit.callbacks import SeparationProgress
    from avdiff.methods import load_method, method_file
    from datamodules.mixtures import MixtureList, Mixtures, WrongLips
    from datamodules.synthetic.benchmark import EmbeddedBenchmark

    folder = output or Path("results", "embedded" if split == "test" else f"embedded_{split}")
    file = method_file(method)
    separator = load_method(method)
    try:
        embedded = EmbeddedBenchmark(split, condition or None, clips)
    except ValueError as error:
        raise UserError(str(error)) from error
    mixtures: MixtureList = embedded if lips == "right" else WrongLips(embedded, lips)
    results = run_benchmark(
        file.stem if lips == "right" else f"{file.stem}_{lips}",
        separator,
        Mixtures(mixtures, batch),
        mixtures,
        folder,
        settings=file.read_text(encoding="utf-8"),
        seed=seed,
        devices=devices,
        callbacks=[SeparationProgress()],
        noises=embedded.kinds_of_noise(),
    )
    if results is not None:
        Console().print(results.summary.read_text(encoding="utf-8"), markup=False, highlight=False)
        Console().print(f"{results.csv} has every figure.")


def recordings(data: Path, clips: int, output: Path, method: str, seed: int) -> None:
    """Real mixtures as files through `separate`, scored against their parts."""
    import csv

    import soundfile

    from avdiff.audio.io import read_audio, resample
    from avdiff.benchmark import METRICS, Row, summarise
    from avdiff.methods import load_method
    from avdiff.metrics.evaluate import score
    from avdiff.recording import separate_file, separate_mixture
    from avdiff.types import SAMPLE_RATE
    from avdiff.video.faces import DlibFaces
    from datamodules.recordings import RATE, recorded_mixtures

    separator, detector = load_method(method), DlibFaces()
    rows: list[Row] = []
    with _bars() as bars:
        watch = _watcher(bars)
        for index, case in enumerate(recorded_mixtures(data, output / "input", clips)):
            watch("mixtures", index / (2 * clips))
            runs = {
                "video": (case.video, partial(separate_file, case.video)),
                "faces": (case.mixture, partial(separate_mixture, case.mixture, case.faces)),
            }
            references = resample(case.sources, RATE, SAMPLE_RATE)
            for form, (heard, run) in runs.items():
                report = run(separator, output / f"{case.key}_{form}", seed=seed, detector=detector)
                name = f"real{len(case.faces)}_{form}"
                if len(report.sources) != len(case.layout):
                    found = len(report.sources) - 1
                    Console().print(f"{case.key}: {found} faces were found instead of {len(case.faces)}; not scored")
                    continue
                samples, rate = read_audio(heard)
                mixture = _fit(resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE), references.shape[1])
                estimates = torch.stack(
                    [
                        _fit(resample(torch.from_numpy(found), rate, SAMPLE_RATE), references.shape[1])
                        for found, rate in (soundfile.read(source.path, dtype="float32") for source in report.sources)
                    ]
                )
                scores = score(estimates, references, mixture, case.layout, SAMPLE_RATE, METRICS)
                rows += [Row(name, case.key, s.source, s.metric, s.mixture, s.estimate) for s in scores]
        watch("mixtures", 1.0)
    with (output / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("case", "clip", "source", "metric", "mixture", "estimate"))
        table.writerows(
            (r.condition, r.clip, r.source, r.metric, f"{r.mixture:.4f}", f"{r.estimate:.4f}") for r in rows
        )
    shown = Table("case", "role", "metric", "sources", "mixture", "estimate", "improvement", box=None)
    for m in summarise(rows):
        figures = (f"{m.mixture:.2f}", f"{m.estimate:.2f}", f"{m.improvement:+.2f}")
        shown.add_row(m.condition, m.role, m.metric, str(m.sources), *figures)
    Console().print(shown)
    Console().print(f"{output / 'metrics.csv'} has every figure; every folder beside it has a report.html.")


def _fit(x: torch.Tensor, length: int) -> torch.Tensor:
    """Cut or pad with zeros at the end: codecs add a few samples."""
    return torch.nn.functional.pad(x, (0, max(0, length - len(x))))[:length]


def sample(prior: str, clips: int, steps: int, guidance: float, seed: int, output: Path | None) -> None:
    """Clips that a prior makes up, in numbers beside validation clips of the embedded corpus."""
    import csv

    import soundfile

    from avdiff.audio.statistics import describe, summary
    from avdiff.draw import draw
    from avdiff.priors.store import load_prior
    from avdiff.types import SAMPLE_RATE
    from datamodules.embedded import EmbeddedNoise, EmbeddedSpeech

    for name, value in {"--clips": clips, "--steps": steps}.items():
        if value < 1:
            raise UserError(f"{name} is {value}; give at least 1")
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
            soundfile.write(
                folder / f"{name.replace(' ', '_')}_{i:02d}.wav", clip.numpy(), SAMPLE_RATE, subtype="FLOAT"
            )
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
    Console().print(table)
    Console().print(f"The clips and samples.csv are in {folder}.")


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
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _watcher(bars: Progress) -> Callable[[str, float], None]:
    """A bar for every stage that is heard of."""
    tasks: dict[str, TaskID] = {}

    def watch(stage: str, share: float) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=1.0)
        bars.update(tasks[stage], completed=share)

    return watch
