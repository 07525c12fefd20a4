"""How many 4 s clips a second a loader gives from a pack, beside how many a GPU would take.

    .venv/bin/python -m experiments.benchmarks.loader FOLDER --workers 1 2

FOLDER is a pack with video; where there is none, one is made of embedded talkers, three in a row to a clip of 12 s, with random
features of BRAVEn's size. The clips are read as a fit reads them: random crops in an order of their own every epoch, in batches
of 16, in so many processes beside this one. Files just written are in memory: this is what processors allow, not disks.
The first column is in clips a second of processor time, in this process alone: other work of the machine changes it little.

What a GPU takes is computed: three times the operations of one forward of the `paper` speech network for 4 s, at a share of the
GPU's peak in bfloat16.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from avdiff.priors.table import model_table
from datamodules.codecs import JpegCrops
from datamodules.ledger import Ledger
from datamodules.packed import PackedTalkers
from datamodules.packs import Clip, PackWriter
from datamodules.synthetic.corpus import speech_corpus

PEAK = 989.4e12  # operations a second of an H200 in bfloat16, dense, by its data sheet
SHARE = 0.4  # of the peak, which a network of convolutions reaches when it is fed well: an assumption
DIM = 1024  # of BRAVEn Large
FEATURES = "random"


def make(folder: Path, clips: int = 100) -> None:
    """A pack of embedded talkers, with crops as JPEG and a set of random features."""
    corpus = speech_corpus("train", 3 * clips)
    audio = np.load(corpus.folder / "audio.npy", mmap_mode="r")
    mouth = np.load(corpus.folder / "mouth.npy", mmap_mode="r")
    writer, rng = PackWriter(folder, codec=JpegCrops()), np.random.default_rng(0)
    features = Ledger(folder / "features" / FEATURES, "index", ("values",))
    (folder / "features" / FEATURES / "card.json").write_text(f'{{"dim": {DIM}}}', encoding="utf-8")
    for i in range(clips):
        three = slice(3 * i, 3 * i + 3)
        name, frames = f"clip{i:04d}", np.concatenate(list(mouth[three]))
        sound = np.concatenate(list(audio[three])) / 32768
        writer.append(Clip(name, sound, {"split": "val" if i % 50 == 0 else "train", "speaker": name}, frames))
        values = rng.standard_normal((len(frames), DIM)).astype("<f2").tobytes()
        features.append([({"id": name}, {"values": values})])
    features.close()
    writer.close()


def measure(folder: Path, features: str | None, workers: int, seconds: float) -> float:
    """Clips a second, after the first batches."""
    data = PackedTalkers(folder, features, batch_size=16, seconds=4.0, workers=workers)
    data.setup("fit")
    clips, began = -1, 0.0
    while True:
        for number, batch in enumerate(data.train_dataloader()):
            if clips >= 0:
                clips += len(batch["audio"])
            elif number >= 2 * workers:  # what was made ahead of the first is not what is made at leisure
                clips, began = 0, time.perf_counter()
            if clips > 0 and time.perf_counter() - began > seconds:
                return clips / (time.perf_counter() - began)


def of_a_core(folder: Path, features: str | None, batches: int = 20) -> float:
    """Clips a second of processor time, loaded in this process."""
    data = PackedTalkers(folder, features, batch_size=16, seconds=4.0)
    data.setup("fit")
    clips, began = 0, time.process_time()
    while clips < 16 * batches:
        clips += sum(len(batch["audio"]) for batch in data.train_dataloader())
    return clips / (time.process_time() - began)


def consumption() -> float:
    """4 s clips a second that the `paper` speech network trains on, computed."""
    row = next(row for row in model_table() if row.name == "paper_speech")
    return SHARE * PEAK / (3 * (row.denoiser_operations + row.video_operations))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a pack with video; made where there is none")
    parser.add_argument("--features", help="name of its feature set, where it has one")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes that load")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    options = parser.parse_args(arguments)
    if not (options.folder / "pack.json").is_file():
        make(options.folder)
        options.features = FEATURES
    console, wanted = Console(), consumption()
    table = Table("4 s clips a second", "a core", *(f"{workers} workers" for workers in options.workers), box=None)
    for name in (options.features, None) if options.features else (None,):
        rates = [of_a_core(options.folder, name)]
        rates += [measure(options.folder, name, workers, options.seconds) for workers in options.workers]
        shown = (f"{rate:.0f} ({rate / wanted:.1f} GPUs)" for rate in rates)
        table.add_row(f"features {name!r}" if name else "crops", *shown)
    console.print(table)
    console.print(
        f"One H200 would take {wanted:.0f} clips a second of the paper's speech network: three times the operations of one "
        f"forward, at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s."
    )


if __name__ == "__main__":
    main()
