"""Prepared clips of any length on disk: a folder from which any stretch is read without the rest.

    pack.json                 what all clips have in common
    manifest-0000.jsonl       one line a clip: id, speaker, split, seconds, where its data are, SHA-256 of its audio, ...
    failed-0000.jsonl         one line a file that gave no clip, and why
    audio-0000-000.bin        int16 at 16 kHz, clip after clip
    mouth-0000-000.bin        96x96 mouth crops at 25 fps
    features/NAME/            a visual feature set: card.json, index-0000.jsonl, values-0000-000.bin (float16)

Files only grow (see `datamodules.ledger`). Clips are sorted by id when they are read: their order depends neither on how
many processes wrote them nor on which was first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from avdiff.errors import UserError
from avdiff.files import read_json, whole
from avdiff.types import SAMPLE_RATE, VIDEO_FPS
from datamodules.codecs import MouthCodec, RawCrops, mouth_codec
from datamodules.ledger import LIMIT, Entry, Ledger, Line, data_file, lines

VERSION = 1
MISSING, UNREACHABLE = "missing file", "could not be read this time"
AGAIN = frozenset({MISSING, UNREACHABLE})  # reasons that the next run looks into again: they are not the file's
DAMAGED = "copy the pack anew, or prepare it again into another folder"


@dataclass(frozen=True)
class Clip:
    """What becomes an entry of a pack.

    Attributes:
        id: unlike any other of the pack.
        audio: (T,) float at 16 kHz, of any level.
        about: what is known of it, as JSON knows values: speaker, split, gender, source, ...
        mouth: (F, 96, 96) uint8 at 25 fps, None without video.
        seen: (F,) bool, None where every frame is.
    """

    id: str
    audio: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    mouth: np.ndarray | None = None
    seen: np.ndarray | None = None


def encoded(clip: Clip, codec: MouthCodec) -> Entry:
    """A clip's line and data.

    Audio is stored as int16 of a power of two: 16-bit recordings come back bit for bit, quiet ones of more bits lose
    nothing that is heard, and those louder than full scale are not clipped.

    Raises:
        ValueError: the clip is empty or not finite.
    """
    audio = np.asarray(clip.audio, np.float64)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"clip {clip.id!r} has audio of shape {audio.shape} or not finite; expected (T,) samples")
    peak = float(np.abs(audio).max())
    scale = 2.0 ** max(-15, math.ceil(math.log2(peak))) if peak > 0 else 1.0
    stored = np.clip(np.round(audio / scale * 32768), -32768, 32767).astype("<i2").tobytes()
    line: Line = {
        "id": clip.id,
        "seconds": round(len(audio) / SAMPLE_RATE, 3),
        "samples": len(audio),
        "frames": 0,
        **clip.about,
        "scale": scale,
        "sha256": hashlib.sha256(stored).hexdigest(),
    }
    data = {"audio": stored}
    if clip.mouth is not None:
        seen = np.ones(len(clip.mouth), bool) if clip.seen is None else clip.seen
        if len(seen) != len(clip.mouth):
            raise ValueError(f"clip {clip.id!r} has {len(clip.mouth)} mouth crops and says of {len(seen)} who was seen")
        line |= {"frames": len(clip.mouth), "seen": _runs(seen)}
        data["mouth"] = codec.encode(clip.mouth)
    return line, data


def _item(line: Mapping[str, Any]) -> str:
    return str(line.get("item", line["id"]))


def _runs(seen: np.ndarray) -> list[list[int]]:
    """Stretches of True as [first, last + 1]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    return edges.reshape(-1, 2).tolist()


class PackWriter:
    """Adds clips to a pack, or begins one. What a killed writer left unfinished is cut off.

    Args:
        folder: of the pack.
        rank: of this process; ranks write side by side.
        settings: what all clips have in common, kept in pack.json; a pack begun with others is refused.
        codec: of mouth crops.
        limit: bytes of a data file from which the next is begun.

    Raises:
        UserError: the pack has other settings, or another process writes as this rank.
    """

    def __init__(
        self,
        folder: Path,
        rank: int = 0,
        settings: Mapping[str, Any] | None = None,
        codec: MouthCodec | None = None,
        limit: int = LIMIT,
    ) -> None:
        self.folder, self.codec = Path(folder), codec or RawCrops()
        self._settle(dict(settings or {}))
        self._clips = Ledger(self.folder, "manifest", ("audio", "mouth"), rank, limit)
        self._failed = Ledger(self.folder, "failed", (), rank)
        self._present: set[str] = {_item(line) for _, _, line in lines(self.folder, "manifest")}
        self._reasons = _reasons(self.folder)

    def _settle(self, settings: dict[str, Any]) -> None:
        wanted = {
            "version": VERSION,
            "sample_rate": SAMPLE_RATE,
            "fps": VIDEO_FPS,
            "mouth": self.codec.settings(),
            **settings,
        }
        wanted = json.loads(json.dumps(wanted))
        file = self.folder / "pack.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            with whole(file) as partial:
                partial.write_text(json.dumps(wanted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        there = read_json(file, DAMAGED)
        for name in sorted({*there, *wanted}):
            if there.get(name) != wanted.get(name):
                raise UserError(
                    f"{self.folder} was begun with {name} = {there.get(name)!r} and {wanted.get(name)!r} was asked for; "
                    "give the same again, or another folder"
                )

    @property
    def done(self) -> Set[str]:
        """Items that gave clips, or failed for good, whichever rank had them."""
        return self._present | {name for name, reason in self._reasons.items() if reason not in AGAIN}

    def append(self, clip: Clip) -> None:
        """Add a clip."""
        self.write([encoded(clip, self.codec)])

    def write(self, entries: Sequence[Entry], item: str | None = None) -> None:
        """Add clips that `encoded` made: all or, should the process be killed, none.

        Args:
            entries: the clips.
            item: what they were made from, which is then done; None for a clip that is its own.
        """
        told: list[Entry] = [({**line, "item": item} if item else line, data) for line, data in entries]
        self._clips.append(told)
        self._present |= {_item(line) for line, _ in told}

    def fail(self, name: str, reason: str, detail: str = "") -> None:
        """Record that an item gave no clip.

        Args:
            name: its id.
            reason: a few words, the same for all that failed alike.
            detail: a sentence.
        """
        if self._reasons.get(name) != reason:
            self._failed.append([({"id": name, "reason": reason, "detail": detail}, {})])
            self._reasons[name] = reason

    def forget_failures(self) -> None:
        """Count no failure as done."""
        self._reasons.clear()

    def close(self) -> None:
        """Let another process write as this rank."""
        self._clips.close()
        self._failed.close()


class Rows(Sequence[Line]):
    """Lines of files, parsed when they are asked for: half a million of them would fill the memory of every loader."""

    def __init__(self, files: Sequence[Path], file: np.ndarray, start: np.ndarray) -> None:
        self._files, self._file, self._start = files, file, start

    def __len__(self) -> int:
        return len(self._file)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...
    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with self._files[self._file[index]].open("rb") as handle:
            handle.seek(int(self._start[index]))
            return json.loads(handle.readline())

    def __iter__(self) -> Iterator[Line]:
        return (self[i] for i in range(len(self)))


class _Files:
    """Reads at any place of many files, each opened once by each process."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, Path], int] = {}

    def read(self, file: Path, start: int, size: int) -> bytes:
        key = (os.getpid(), file)  # a loader's process is a copy of ours
        if key not in self._open:
            self._open[key] = os.open(file, os.O_RDONLY)
        data = os.pread(self._open[key], size, start)
        if len(data) != size:
            raise UserError(f"{file} is shorter than its manifest says; copy the pack anew")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": {}}

    def __del__(self) -> None:
        for (process, _), handle in self._open.items():
            if process == os.getpid():
                os.close(handle)


class _Places:
    """Where the data of each clip are: rank, shard, first byte and size, as arrays."""

    def __init__(self, folder: Path, stream: str, found: Sequence[tuple[int, int, int, int]], files: _Files) -> None:
        self._folder, self._stream, self._files = folder, stream, files
        self.table = np.array(found, np.int64).reshape(-1, 4)

    def read(self, index: int, start: int, size: int) -> bytes:
        rank, shard, first, length = (int(value) for value in self.table[index])
        if rank < 0:
            raise UserError(f"clip {index} of {self._folder} has no {self._stream}")
        if not 0 <= start <= start + size <= length:
            raise IndexError(f"bytes {start} to {start + size} of {length} were asked for")
        return self._files.read(data_file(self._folder, self._stream, rank, shard), first + start, size)


NOWHERE = (-1, 0, 0, 0)


def _place(file: Path, line: Line, stream: str) -> tuple[int, int, int, int]:
    at = line.get("at", {}).get(stream)
    return (int(file.stem.rsplit("-", 1)[1]), *at) if at else NOWHERE


class Pack:
    """A pack as it is now; clips that are added later are not seen.

    Args:
        folder: of the pack.
        split: only the clips of this split; None for all.

    Attributes:
        rows: the manifest's lines, sorted by id.
        ids: of the clips.
        samples, frames: of the clips, (N,).

    Raises:
        UserError: there is no pack, or the split is empty.
    """

    def __init__(self, folder: Path | str, split: str | None = None) -> None:
        self.folder = Path(folder)
        file = self.folder / "pack.json"
        if not file.is_file():
            raise UserError(f"{self.folder} is no prepared data (it holds no pack.json); make it with avdiff prepare")
        self.settings = read_json(file, DAMAGED)
        try:
            self._codec = mouth_codec(self.settings["mouth"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} does not say how mouth crops are stored ({error}); {DAMAGED}") from error
        self._files = _Files()
        paths: dict[Path, int] = {}
        found, splits = [], set()
        for path, start, line in lines(self.folder, "manifest"):
            splits.add(str(line.get("split")))
            if split is None or line.get("split") == split:
                place = (paths.setdefault(path, len(paths)), start)
                try:
                    data = (_place(path, line, "audio"), _place(path, line, "mouth"))
                    numbers = (int(line["samples"]), int(line["frames"]), float(line["scale"]))
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{path} does not say where the clip {line['id']} is, or how long; {DAMAGED}"
                    ) from error
                found.append((line["id"], place, data, numbers, line.get("seen", [])))
        if not found:
            of = f"of split {split!r}; it has {', '.join(sorted(splits))}" if splits else "yet"
            raise UserError(f"{self.folder} holds no clip {of}")
        found.sort(key=lambda clip: clip[0])
        self.ids = np.array([clip[0] for clip in found])
        where = np.array([clip[1] for clip in found], np.int64)
        self.rows: Sequence[Line] = Rows(list(paths), where[:, 0], where[:, 1])
        self._audio = _Places(self.folder, "audio", [clip[2][0] for clip in found], self._files)
        self._mouth = _Places(self.folder, "mouth", [clip[2][1] for clip in found], self._files)
        self.samples = np.array([clip[3][0] for clip in found], np.int64)
        self.frames = np.array([clip[3][1] for clip in found], np.int64)
        self._scale = np.array([clip[3][2] for clip in found], np.float64)
        self._seen_at = np.cumsum([0, *(len(clip[4]) for clip in found)])
        self._seen = np.array([run for clip in found for run in clip[4]], np.int64).reshape(-1, 2)
        self._features: dict[str, tuple[_Places, int]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def audio(self, index: int, start: int = 0, samples: int | None = None) -> np.ndarray:
        """(T,) float32 at 16 kHz and at its own level: `samples` from `start`, fewer where the clip ends."""
        start, stop = _inside(start, samples, int(self.samples[index]))
        data = np.frombuffer(self._audio.read(index, 2 * start, 2 * (stop - start)), "<i2")
        return data.astype(np.float32) * np.float32(self._scale[index] / 32768)

    def mouth(self, index: int, start: int = 0, frames: int | None = None) -> np.ndarray:
        """(F, 96, 96) uint8: crops from frame `start`, fewer where the clip ends."""
        count = int(self.frames[index])
        start, stop = _inside(start, frames, count)
        return self._codec.decode(lambda first, size: self._mouth.read(index, first, size), count, start, stop)

    def seen(self, index: int, start: int = 0, frames: int | None = None) -> np.ndarray:
        """(F,) bool: in which frames the face was found."""
        start, stop = _inside(start, frames, int(self.frames[index]))
        seen = np.zeros(stop - start, bool)
        for first, last in self._seen[self._seen_at[index] : self._seen_at[index + 1]]:
            seen[max(0, first - start) : max(0, last - start)] = True
        return seen

    def features(self, index: int, name: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """(F, D) float16: visual features from frame `start`, fewer where the clip ends.

        Raises:
            UserError: there is no such feature set, or it lacks this clip.
        """
        places, dim = self._feature_set(name)
        start, stop = _inside(start, frames, int(self.frames[index]))
        if places.table[index, 0] < 0:
            raise UserError(
                f"the feature set {name!r} of {self.folder} lacks {self.ids[index]}; run avdiff prepare features again"
            )
        data = places.read(index, 2 * dim * start, 2 * dim * (stop - start))
        return np.frombuffer(bytearray(data), "<f2").reshape(-1, dim)

    def feature_card(self, name: str) -> dict[str, Any]:
        """What made a feature set.

        Raises:
            UserError: there is no such feature set.
        """
        file = self.folder / "features" / name / "card.json"
        if not file.is_file():
            there = sorted(path.parent.name for path in self.folder.glob("features/*/card.json"))
            raise UserError(
                f"{self.folder} has no feature set {name!r}; it has {', '.join(there) or 'none'}: "
                "make one with avdiff prepare features"
            )
        return read_json(file, "copy it anew, or delete the folder of that feature set and make it again")

    def without_features(self, name: str) -> np.ndarray:
        """Indices of clips with video that a feature set lacks."""
        places, _ = self._feature_set(name)
        return np.flatnonzero((places.table[:, 0] < 0) & (self.frames > 0))

    def _feature_set(self, name: str) -> tuple[_Places, int]:
        if name not in self._features:
            dim = int(self.feature_card(name)["dim"])
            folder = self.folder / "features" / name
            found = {line["id"]: _place(path, line, "values") for path, _, line in lines(folder, "index")}
            table = [found.get(clip, NOWHERE) for clip in self.ids.tolist()]
            self._features[name] = _Places(folder, "values", table, self._files), dim
        return self._features[name]


def _inside(start: int, count: int | None, length: int) -> tuple[int, int]:
    start = min(max(start, 0), length)
    return start, length if count is None else min(start + count, length)


def splits_of(folder: Path, name: str) -> dict[str, str]:
    """The split that everyone or everything in a pack is of, which later clips of it follow; nothing where there is no pack.

    Args:
        folder: of the pack.
        name: what is in one split only, as the manifest has it: "source" or "speaker".

    Raises:
        UserError: the pack has clips of one of them in two splits.
    """
    found: dict[str, str] = {}
    for line in (line for _, _, line in lines(folder, "manifest") if name in line):
        if (other := found.setdefault(line[name], str(line.get("split")))) != line.get("split"):
            raise UserError(
                f"{folder} has clips of the {name} {line[name]} in {other} and in {line.get('split')}, for there was less to "
                "prepare when it was begun; prepare all of it into a new folder"
            )
    return found


def failures(folder: Path) -> dict[str, str]:
    """Why items of a pack gave no clip: id -> reason, without those that gave one later."""
    present = {_item(line) for _, _, line in lines(folder, "manifest")}
    return {name: reason for name, reason in _reasons(folder).items() if name not in present}


def _reasons(folder: Path) -> dict[str, str]:
    return {line["id"]: str(line.get("reason", "unknown")) for _, _, line in lines(folder, "failed")}


def summary(folder: Path) -> str:
    """How many clips and hours of each split there are, and how many items failed of each reason, as text."""
    clips, seconds, speakers = Counter[str](), Counter[str](), dict[str, set[str]]()
    for _, _, line in lines(folder, "manifest"):
        split = str(line.get("split", "all"))
        clips[split] += 1
        seconds[split] += int(line.get("samples", 0))
        speakers.setdefault(split, set()).add(str(line.get("speaker", "")))
    told = [
        f"{split}: {clips[split]} clips, {seconds[split] / SAMPLE_RATE / 3600:.2f} h"
        + (f", {len(people)} speakers" if (people := speakers[split] - {""}) else "")
        for split in sorted(clips)
    ]
    reasons = Counter(failures(folder).values())
    return "\n".join(told + [f"left out, {reason}: {count}" for reason, count in sorted(reasons.items())])
