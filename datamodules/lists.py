"""The fixed test lists of SSNAPS's protocol, drawn from a pack of talkers and a pack of noise, and lists as files.

Everything is drawn by names, so that two people with the same data have the same lists. A list file is text: its first
line says what all mixtures have in common and the SHA-256 of the lines after it, one line a mixture: who speaks, where
the crops start, the gains that make the levels, and the SHA-256 of each clip's stored audio. Crops times gains are the
sources; their sum is the mixture.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avdiff.audio.mixing import PAPER_LEVELS, mix, power
from avdiff.errors import UserError
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEAKER, VIDEO_FPS, Role
from datamodules.mixtures import Entry, Mixture, MixtureList
from datamodules.packed import located
from datamodules.packs import Pack
from datamodules.shuffle import fraction, shuffled

VERSION = 1  # of the drawing and of the file: another one gives other lists
MIXTURES = 500  # a list (SSNAPS)
SECONDS = 4.0  # of a mixture (SSNAPS)
SCENE_LEVELS = (-10, -5, 0, 5)  # dB, SNR of one talker in an acoustic scene (SSNAPS)
SILENT = -60.0  # dB of full scale: a crop whose mean power is below is near silent
PEAK = 0.9  # of every mixture; SSNAPS is silent, its published examples have 0.909
TRIES = 8  # crops of a clip that are looked at before it is left out as near silent


@dataclass(frozen=True)
class Condition:
    """What the mixtures of a list have in common.

    Attributes:
        talkers: heard.
        offscreen: of these, the last so many are not seen.
        snr: dB to the noise, where it is fixed; None for the paper's range for so many talkers.
    """

    talkers: int
    offscreen: int = 0
    snr: float | None = None

    @property
    def layout(self) -> tuple[Role, ...]:
        """One role a source."""
        return (*[SPEAKER] * (self.talkers - self.offscreen), *[OFFSCREEN] * self.offscreen, NOISE)


CONDITIONS: dict[str, Condition] = {
    "speakers1": Condition(1),
    "speakers2": Condition(2),
    "speakers3": Condition(3),
    # The mixtures of speakers2 and speakers3, of which one talker's video is withheld.
    "offscreen2": Condition(2, offscreen=1),
    "offscreen3": Condition(3, offscreen=1),
}
SCENE_CONDITIONS: dict[str, Condition] = {f"scenes{snr}dB": Condition(1, snr=snr) for snr in SCENE_LEVELS}


@dataclass(frozen=True)
class _Crop:
    """A stretch of a clip."""

    index: int
    start: int
    audio: Tensor


class _Deck:
    """Clips in an order of their own, each taken once before any is taken again.

    Args:
        pack: that holds them.
        clips: indices in it.
        people: who speaks in each clip of the pack.
        samples: of a crop; shorter clips are left out.
        name: of the order.
    """

    def __init__(self, pack: Pack, clips: Sequence[int], people: Sequence[str], samples: int, *name: str | int) -> None:
        self.pack, self.people, self.samples, self.name = pack, people, samples, name
        self._index = {str(pack.ids[i]): i for i in clips if pack.samples[i] >= samples}
        if not self._index:
            seconds = samples / SAMPLE_RATE
            raise UserError(
                f"{pack.folder} has no clip of {seconds:g} s for a test list; give other clips or --seconds"
            )
        self._rounds, self._waiting = count(), list[str]()

    def draw(self, without: Set[str] = frozenset()) -> _Crop:
        """The next clip of none of these people that is not near silent, cropped.

        Raises:
            UserError: there is none.
        """
        for _ in range(2):  # what is left of this round, and a whole one
            for name in list(self._waiting):
                if self.people[self._index[name]] not in without:
                    self._waiting.remove(name)
                    if crop := self._crop(name):
                        return crop
            self._waiting += shuffled(self._index, *self.name, next(self._rounds))
        raise UserError(
            f"no clip of {self.pack.folder} is left for a mixture: all are near silent (below {SILENT:g} dB) or of people "
            "who are in it already; prepare more clips of more people"
        )

    def _crop(self, name: str) -> _Crop | None:
        index = self._index[name]
        starts = (int(self.pack.samples[index]) - self.samples) // SAMPLES_PER_FRAME + 1
        for attempt in range(TRIES):
            start = int(fraction(*self.name, name, attempt) * starts) * SAMPLES_PER_FRAME
            audio = torch.from_numpy(self.pack.audio(index, start, self.samples))
            if power(audio) >= 10 ** (SILENT / 10):
                return _Crop(index, start, audio)
        return None


@dataclass(frozen=True)
class _Drawn:
    """Crops and levels of one mixture: the same for every list that only withholds video or fixes the SNR."""

    talkers: list[_Crop]
    noise: _Crop
    sir: float
    snr: float


class Protocol:
    """Draws the lists.

    Args:
        speech: pack of talkers, with `speaker` in every row.
        noise: pack of noise; where its rows have `scene` there are scene lists too, every scene in turn.
        split: of both.
        mixtures: a list.
        seconds: of a mixture, rounded down to whole video frames.

    Raises:
        UserError: a clip of the speech names no speaker.
    """

    def __init__(
        self, speech: Path, noise: Path, split: str = "test", mixtures: int = MIXTURES, seconds: float = SECONDS
    ) -> None:
        self.speech, self.noise, self.split, self.mixtures = Pack(speech, split), Pack(noise, split), split, mixtures
        self.samples = int(seconds * VIDEO_FPS) * SAMPLES_PER_FRAME if math.isfinite(seconds) else 0
        if mixtures < 1 or self.samples < 1:
            raise UserError(f"{mixtures} mixtures of {seconds:g} s were asked for; give at least 1 of at least 0.04 s")
        self.names = [_name(pack) for pack in (self.speech, self.noise)]
        self.people = [str(row.get("speaker", "")) for row in self.speech.rows]
        if "" in self.people:
            clip = self.speech.ids[self.people.index("")]
            raise UserError(f"clip {clip} of {speech} names no speaker; lists need to know who is who")
        self.scenes = [str(row.get("scene", "")) for row in self.noise.rows]

    def conditions(self) -> dict[str, Condition]:
        """The lists that these packs are for, by name."""
        conditions = {**CONDITIONS, **(SCENE_CONDITIONS if any(self.scenes) else {})}
        return {f"{name}_{self.names[1]}": condition for name, condition in conditions.items()}

    def write(self, folder: Path, watch: Callable[[str, float], None] | None = None) -> list[Path]:
        """Write every list into a folder.

        Args:
            folder: created when missing.
            watch: told the list's name and the share of it that is done.

        Returns:
            The files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        of_same_draws: dict[tuple[bool, int], dict[str, Condition]] = {}
        for name, condition in self.conditions().items():
            of_same_draws.setdefault((condition.snr is None, condition.talkers), {})[name] = condition
        return [file for conditions in of_same_draws.values() for file in self._write(folder, conditions, watch)]

    def _write(
        self, folder: Path, conditions: Mapping[str, Condition], watch: Callable[[str, float], None] | None
    ) -> Iterator[Path]:
        lines: dict[str, list[str]] = {name: [] for name in conditions}
        for number, drawn in enumerate(self._draw(next(iter(conditions.values())))):
            for name, condition in conditions.items():
                line = self._line(f"{name}-{number:03d}", condition, drawn)
                lines[name].append(json.dumps(line, ensure_ascii=False) + "\n")
            if watch is not None:
                watch(", ".join(conditions), (number + 1) / self.mixtures)
        for name, condition in conditions.items():
            body = "".join(lines[name]).encode()
            head = {
                "list": name,
                "version": VERSION,
                "split": self.split,
                "layout": condition.layout,
                "mixtures": self.mixtures,
                "samples": self.samples,
                "speech": self.names[0],
                "noise": self.names[1],
                "silent_db": SILENT,
                "sha256": hashlib.sha256(body).hexdigest(),
            }
            file = folder / f"{name}.jsonl"
            file.write_bytes(json.dumps(head).encode() + b"\n" + body)
            yield file

    def _draw(self, condition: Condition) -> Iterator[_Drawn]:
        kind = "speakers" if condition.snr is None else "scenes"
        name: tuple[str | int, ...] = (VERSION, *self.names, kind, condition.talkers)
        speech = _Deck(self.speech, range(len(self.speech)), self.people, self.samples, *name, "speech")
        groups = [[i for i, scene in enumerate(self.scenes) if scene == of] for of in sorted(set(self.scenes))]
        noise = [
            _Deck(self.noise, clips, [""] * len(self.noise), self.samples, *name, "noise")
            for clips in (groups if condition.snr is not None else [range(len(self.noise))])
        ]
        for number in range(self.mixtures):
            talkers: list[_Crop] = []
            for _ in range(condition.talkers):
                talkers.append(speech.draw({self.people[crop.index] for crop in talkers}))
            yield _Drawn(talkers, noise[number % len(noise)].draw(), *_levels(condition.talkers, *name, number))

    def _line(self, key: str, condition: Condition, drawn: _Drawn) -> dict[str, Any]:
        snr = drawn.snr if condition.snr is None else condition.snr
        crops = [*drawn.talkers, drawn.noise]
        speech = torch.stack([crop.audio for crop in drawn.talkers])
        sources = mix(speech, drawn.noise.audio, drawn.sir, snr)
        sources *= PEAK / sources.sum(0).abs().max()
        parts = []
        for role, crop, source in zip(condition.layout, crops, sources, strict=True):
            gain = math.sqrt(float(power(source) / power(crop.audio)))
            row = (self.noise if role == NOISE else self.speech).rows[crop.index]
            known = {name: row[name] for name in ("speaker", "gender", "scene", "label") if row.get(name)}
            parts.append(
                {
                    "role": role,
                    "clip": row["id"],
                    **known,
                    "start": crop.start,
                    "gain": _digits(gain),
                    "sha256": row["sha256"],
                }
            )
        genders = sorted(part.get("gender", "") for part in parts[:-1])
        return {
            "key": key,
            **({"sir": drawn.sir} if condition.talkers > 1 else {}),
            "snr": snr,
            "genders": "-".join(genders) if all(genders) else None,
            "sources": parts,
        }


def _levels(talkers: int, *name: str | int) -> tuple[float, float]:
    """SIR and SNR in dB, to two decimals, of the mixture of a name."""
    numbers = count()
    sir, snr = PAPER_LEVELS[talkers].draw(
        lambda low, high: low + (high - low) * fraction(*name, "level", next(numbers))
    )
    return round(sir, 2), round(snr, 2)


def _digits(gain: float) -> float:
    """Six significant digits: more than any ear or metric tells, fewer than two machines may disagree in."""
    return float(f"{gain:.6g}")


def _name(pack: Pack) -> str:
    return str(pack.settings.get("dataset", pack.folder.resolve().name))


@dataclass(frozen=True)
class Summary:
    """A list file in figures.

    Attributes:
        mixtures: in it.
        people: different ones, of all mixtures.
        noises: different clips of noise.
        sha256: of its lines.
    """

    mixtures: int
    people: int
    noises: int
    sha256: str


def describe(file: Path) -> Summary:
    """What a list file holds.

    Raises:
        UserError: it is no list or was changed.
    """
    head, lines = _read(file)
    people = {part["speaker"] for line in lines for part in line["sources"][:-1]}
    return Summary(len(lines), len(people), len({line["sources"][-1]["clip"] for line in lines}), head["sha256"])


class ListFile(MixtureList):
    """The mixtures of a list file, made of the same clips that it was written from.

    Args:
        file: that `avdiff prepare lists` wrote.
        speech: pack of the talkers, or its name in $AVDIFF_DATA.
        noise: pack of the noise, likewise.
        clips: only the first so many mixtures; None for all.
        features: name of a visual feature set of `speech` that is given instead of the mouth crops.

    Raises:
        UserError: the file is no list or was changed, or a clip is missing or differs.
    """

    def __init__(
        self, file: Path, speech: Path, noise: Path, clips: int | None = None, features: str | None = None
    ) -> None:
        self.head, self.lines = _read(Path(file))
        self.lines = self.lines[:clips]
        self.features = features
        self.speech, self.noise = (Pack(located(folder), self.head["split"]) for folder in (speech, noise))
        self._index = {
            kind: {name: i for i, name in enumerate(pack.ids.tolist())}
            for kind, pack in {"speech": self.speech, "noise": self.noise}.items()
        }
        self._check(Path(file))

    def entries(self) -> Sequence[Entry]:
        return [Entry(line["key"], tuple(part["role"] for part in line["sources"])) for line in self.lines]

    def __getitem__(self, index: int) -> Mixture:
        line, samples = self.lines[index], int(self.head["samples"])
        parts = line["sources"]
        sources = torch.stack([self._source(part, samples) for part in parts])
        seen = [part for part in parts if part["role"] == SPEAKER]
        layout = tuple(part["role"] for part in parts)
        name, mixture = self.head["list"], sources.sum(0)
        if not seen:
            return Mixture(line["key"], name, layout, sources, mixture)
        films, masks = zip(*(self._film(part, samples // SAMPLES_PER_FRAME) for part in seen), strict=True)
        return Mixture(line["key"], name, layout, sources, mixture, torch.stack(films), torch.stack(masks))

    def version(self, index: int) -> str:
        return json.dumps([self.head["list"], self.head["samples"], self.features, self.lines[index]])

    def scenes(self) -> dict[str, str]:
        """Clip id -> the scene in it.

        Raises:
            UserError: the noise is of no scenes.
        """
        told = {
            line["key"]: part.get("scene", "")
            for line in self.lines
            for part in line["sources"]
            if part["role"] == NOISE
        }
        if not all(told.values()):
            raise UserError(
                f"the noise of the list {self.head['list']} is of no scenes; make a list with the scenes of DCASE"
            )
        return told

    def _pack(self, part: Mapping[str, Any]) -> tuple[Pack, int | None]:
        kind, pack = ("noise", self.noise) if part["role"] == NOISE else ("speech", self.speech)
        return pack, self._index[kind].get(part["clip"])

    def _source(self, part: Mapping[str, Any], samples: int) -> Tensor:
        pack, index = self._pack(part)
        assert index is not None
        if stored_digest(pack, index) != part["sha256"]:
            raise UserError(
                f"the audio of clip {part['clip']} in {pack.folder} is not what it was prepared as; copy the pack anew"
            )
        return part["gain"] * torch.from_numpy(pack.audio(index, part["start"], samples))

    def _film(self, part: Mapping[str, Any], frames: int) -> tuple[Tensor, Tensor]:
        pack, index = self._pack(part)
        assert index is not None
        first = part["start"] // SAMPLES_PER_FRAME
        if self.features is None:
            film = pack.mouth(index, first, frames)
        else:
            film = pack.features(index, self.features, first, frames).astype(np.float32)
        seen = pack.seen(index, first, frames)
        return _padded(film, frames), _padded(seen, frames)

    def _check(self, file: Path) -> None:
        missing, other = list[str](), list[str]()
        for part in (part for line in self.lines for part in line["sources"]):
            pack, index = self._pack(part)
            if index is None:
                missing.append(f"{part['clip']} is not in {pack.folder}")
            elif (found := pack.rows[index]["sha256"]) != part["sha256"]:
                other.append(
                    f"{part['clip']} of {pack.folder} has SHA-256 {found[:12]}..., not {part['sha256'][:12]}..."
                )
        for problems in (missing, other):
            if problems:
                raise UserError(
                    f"{file} was made from other data: {problems[0]} (one of {len(set(problems))}); prepare the data that it "
                    "was made from, or write lists of your own with avdiff prepare lists"
                )


def stored_digest(pack: Pack, index: int) -> str:
    """SHA-256 of a clip's audio as it is stored now: what its manifest line should say."""
    stored = pack.audio(index).astype(np.float64) / pack.rows[index]["scale"] * 32768
    return hashlib.sha256(np.round(stored).astype("<i2").tobytes()).hexdigest()


def _padded(frames: np.ndarray, count: int) -> Tensor:
    """The video of a clip may end some frames before its sound."""
    out = np.zeros((count, *frames.shape[1:]), frames.dtype)
    out[: len(frames)] = frames
    return torch.from_numpy(out)


def _read(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if not file.is_file():
        raise UserError(f"there is no list {file}; write it with avdiff prepare lists")
    first, _, body = file.read_bytes().partition(b"\n")
    try:
        head = json.loads(first)
        version, told = head["version"], head["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no list of mixtures; give one that avdiff prepare lists wrote") from error
    if version != VERSION:
        raise UserError(
            f"{file} is a list of version {version}, and this avdiff reads version {VERSION}; write it anew"
        )
    if (found := hashlib.sha256(body).hexdigest()) != told:
        raise UserError(
            f"{file} was changed after it was written: its lines have SHA-256 {found[:12]}... instead of {told[:12]}...; "
            "take the original, or write it anew with avdiff prepare lists"
        )
    return head, [json.loads(line) for line in body.splitlines()]
