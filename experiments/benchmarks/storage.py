"""How prepared clips should be stored: random 4 s crops from plain files, from WebDataset's tar files and from packs.

    python -m experiments.benchmarks.storage [--source PACK] [--clips 100] [--output FOLDER]

Clips of 8 s, the mean of VoxCeleb2's length, are made of the source's (the embedded corpus by default, or a pack of real talkers)
and written in every form; then crops are read in random order. Time is processor time, so that what else a machine does is
not measured. `read` is what a crop has the disk read. WebDataset reads whole clips in order, however little of them is used;
its figures need `pip install webdataset`.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from datamodules.codecs import JpegCrops, LosslessCrops, MouthCodec, RawCrops
from datamodules.ledger import Ledger
from datamodules.packs import Clip, Pack, PackWriter

FRAMES, CROP, RATE, FPS = 200, 100, 16_000, 25
HOURS = 1759  # of the English part of VoxCeleb2
DIM = 1024  # of BRAVEn Large


@dataclass(frozen=True)
class Form:
    """One way to store clips.

    Attributes:
        name: for the table.
        write: the clips into a folder.
        crops: random crops of a folder, without end: (audio, mouth or features), and bytes read for it.
    """

    name: str
    write: Callable[[Path, list[Clip]], None]
    crops: Callable[[Path, np.random.Generator], Iterator[int]]


def clips_of(source: Path | None, count: int) -> list[Clip]:
    """Clips of 8 s, each of several of the source's."""
    if source is not None:
        pack = Pack(source)
        parts = ((pack.audio(i % len(pack)), pack.mouth(i % len(pack))) for i in range(10**9))
    else:
        from datamodules.synthetic.corpus import speech_corpus

        corpus = speech_corpus("val", 48)
        parts = ((corpus.audio[i % 48] / np.float32(32768), corpus.mouth[i % 48]) for i in range(10**9))
    clips = []
    for index in range(count):
        audio, mouth = np.zeros(0, np.float32), np.zeros((0, 96, 96), np.uint8)
        while len(mouth) < FRAMES:
            more = next(parts)
            audio, mouth = np.concatenate([audio, more[0]]), np.concatenate([mouth, more[1]])
        clips.append(Clip(f"{index:05d}", audio[: FRAMES * 640], {}, mouth[:FRAMES]))
    return clips


def _start(rng: np.random.Generator) -> int:
    return int(rng.integers(FRAMES - CROP + 1))


def _wav(clip: Clip) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, clip.audio, RATE, subtype="PCM_16", format="WAV")
    return out.getvalue()


def write_npy(folder: Path, clips: list[Clip]) -> None:
    for clip in clips:
        (folder / f"{clip.id}.wav").write_bytes(_wav(clip))
        np.save(folder / f"{clip.id}.npy", clip.mouth)


def read_npy(folder: Path, rng: np.random.Generator) -> Iterator[int]:
    names = sorted(folder.glob("*.wav"))
    while True:
        name, start = names[rng.integers(len(names))], _start(rng)
        soundfile.read(name, CROP * 640, start * 640, dtype="float32")
        np.array(np.load(name.with_suffix(".npy"), mmap_mode="r")[start : start + CROP])
        yield CROP * (1280 + 9216)


def write_mp4(folder: Path, clips: list[Clip]) -> None:
    for clip in clips:
        (folder / f"{clip.id}.wav").write_bytes(_wav(clip))
        assert clip.mouth is not None
        with av.open(str(folder / f"{clip.id}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width = stream.height = 96
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "g": "25", "threads": "1"}
            for mouth in clip.mouth:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(mouth, format="gray8")))
            container.mux(stream.encode(None))


def read_mp4(folder: Path, rng: np.random.Generator) -> Iterator[int]:
    names = sorted(folder.glob("*.wav"))
    while True:
        name, start = names[rng.integers(len(names))], _start(rng)
        soundfile.read(name, CROP * 640, start * 640, dtype="float32")
        film, mouth = name.with_suffix(".mp4"), []
        with av.open(str(film)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            container.seek(int(start / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(frame.time * FPS) >= start:
                    mouth.append(frame.to_ndarray(format="gray8"))
                if len(mouth) == CROP:
                    break
        np.stack(mouth)
        yield CROP * 1280 + film.stat().st_size * (CROP + 12) // FRAMES


def write_tar(codec: MouthCodec) -> Callable[[Path, list[Clip]], None]:
    def write(folder: Path, clips: list[Clip]) -> None:
        for shard in range(0, len(clips), 50):
            with tarfile.open(folder / f"{shard:06d}.tar", "w") as tar:
                for clip in clips[shard : shard + 50]:
                    assert clip.mouth is not None
                    for suffix, data in (("wav", _wav(clip)), ("mouth", codec.encode(clip.mouth))):
                        member = tarfile.TarInfo(f"{clip.id}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))

    return write


def read_tar(codec: MouthCodec) -> Callable[[Path, np.random.Generator], Iterator[int]]:
    def read(folder: Path, rng: np.random.Generator) -> Iterator[int]:
        import webdataset

        shards = [str(file) for file in sorted(folder.glob("*.tar"))]
        while True:
            for sample in webdataset.WebDataset(
                shards, shardshuffle=len(shards), seed=int(rng.integers(2**31))
            ).shuffle(100):
                start, data = _start(rng), sample["mouth"]
                soundfile.read(io.BytesIO(sample["wav"]), CROP * 640, start * 640, dtype="float32")
                codec.decode(lambda first, size, data=data: data[first : first + size], FRAMES, start, start + CROP)
                yield len(sample["wav"]) + len(data)

    return read


def write_pack(codec: MouthCodec) -> Callable[[Path, list[Clip]], None]:
    def write(folder: Path, clips: list[Clip]) -> None:
        writer = PackWriter(folder, codec=codec)
        for clip in clips:
            writer.append(clip)
        writer.close()

    return write


def read_pack(folder: Path, rng: np.random.Generator) -> Iterator[int]:
    pack = Pack(folder)
    size = (folder / "mouth-0000-000.bin").stat().st_size // len(pack)
    while True:
        index, start = int(rng.integers(len(pack))), _start(rng)
        pack.audio(index, start * 640, CROP * 640)
        pack.mouth(index, start, CROP)
        yield CROP * 1280 + size * CROP // FRAMES


def read_mapped(folder: Path, rng: np.random.Generator) -> Iterator[int]:
    audio = np.memmap(folder / "audio-0000-000.bin", np.int16, "r").reshape(-1, FRAMES * 640)
    mouth = np.memmap(folder / "mouth-0000-000.bin", np.uint8, "r").reshape(-1, FRAMES, 96, 96)
    while True:
        index, start = int(rng.integers(len(audio))), _start(rng)
        audio[index, start * 640 : (start + CROP) * 640].astype(np.float32)
        np.array(mouth[index, start : start + CROP])
        yield CROP * (1280 + 9216)


def write_features(folder: Path, clips: list[Clip]) -> None:
    write_pack(RawCrops())(folder, clips)
    (folder / "mouth-0000-000.bin").write_bytes(b"")  # trained on features, crops need not be there
    values = np.random.default_rng(0).standard_normal((FRAMES, DIM)).astype("<f2").tobytes()
    ledger = Ledger(folder / "features" / "x", "index", ("values",))
    for clip in clips:
        ledger.append([({"id": clip.id}, {"values": values})])
    ledger.close()
    (folder / "features" / "x" / "card.json").write_text(json.dumps({"dim": DIM}))


def read_features(folder: Path, rng: np.random.Generator) -> Iterator[int]:
    pack = Pack(folder)
    while True:
        index, start = int(rng.integers(len(pack))), _start(rng)
        pack.audio(index, start * 640, CROP * 640)
        pack.features(index, "x", start, CROP)
        yield CROP * (1280 + 2 * DIM)


FORMS = (
    Form("wav + npy files", write_npy, read_npy),
    Form("wav + H.264 files (CRF 18)", write_mp4, read_mp4),
    Form("WebDataset, raw crops", write_tar(RawCrops()), read_tar(RawCrops())),
    Form("WebDataset, JPEG 95", write_tar(JpegCrops()), read_tar(JpegCrops())),
    Form("pack, raw crops", write_pack(RawCrops()), read_pack),
    Form("pack, raw crops, mapped", write_pack(RawCrops()), read_mapped),
    Form("pack, lossless", write_pack(LosslessCrops()), read_pack),
    Form("pack, JPEG 95", write_pack(JpegCrops()), read_pack),
    Form("pack, features", write_features, read_features),
)


def main() -> None:
    """Write, read, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a pack of talkers (default: the embedded corpus)")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0, help="of processor time, for each form")
    parser.add_argument(
        "--output", type=Path, help="folder that must not be there; removed again (default: a temporary one)"
    )
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp())
    clips = clips_of(options.source, options.clips)
    table = Table(
        "form", "TB for 1,759 h", "write, s of clips a s", "4 s crops a second a core", "read a crop, MB", box=None
    )
    for number, form in enumerate(FORMS):
        place = folder / str(number)
        place.mkdir(parents=True)
        start = time.process_time()
        form.write(place, clips)
        written = time.process_time() - start
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        try:
            crops = form.crops(place, np.random.default_rng(0))
            read = [next(crops) for _ in range(10)]
            start, read = time.process_time(), []
            while time.process_time() - start < options.seconds:
                read.append(next(crops))
            speed = f"{len(read) / (time.process_time() - start):.0f}"
            table.add_row(
                form.name,
                f"{size / len(clips) / 8 * 3600 * HOURS / 1e12:.2f}",
                f"{8 * len(clips) / written:.0f}",
                speed,
                f"{np.mean(read) / 1e6:.2f}",
            )
        except ImportError:
            table.add_row(
                form.name, f"{size / len(clips) / 8 * 3600 * HOURS / 1e12:.2f}", "", "webdataset is missing", ""
            )
        shutil.rmtree(place)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
