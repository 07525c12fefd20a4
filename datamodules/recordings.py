"""Mixtures of real recordings whose parts are known: GRID speakers with each other, and ESC-10 noise.

GRID speaker s1 is in the shipped priors' training data, the 60 clips of `held_out_grid_s1.txt` are not; the other speakers
and fold 3 of ESC-10 are in none of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avdiff.audio.io import read_audio, resample, write_wav
from avdiff.audio.mixing import PAPER_LEVELS, mix, scale_to_ratio
from avdiff.errors import UserError
from avdiff.types import NOISE, SPEAKER, Role
from avdiff.video.decode import VideoFrames
from avdiff.video.mux import write_video
from datamodules.real import AUDIO, VIDEO, find, held_out

RATE = 44_100  # Hz, of the files made here
KNOWN, STRANGERS = "known", "strangers"  # parts of the list: with s1, and without
#: rows of the list and what is said of them
VOICES = {
    "real2": "s1, whom the speech prior knows, and a speaker it does not",
    "real1": "s1 and speakers whom the speech prior does not know, in turn",
    "strangers2_quiet": "two speakers whom no prior knows, equally loud, without noise",
    "strangers2": "two speakers whom no prior knows, in noise",
    "strangers1": "one speaker whom no prior knows, in noise",
}
_SEED = 1000  # of the mixtures of strangers, beyond all numbers of speakers


@dataclass(frozen=True)
class RecordedMixture:
    """One mixture as files, with its parts.

    Attributes:
        key: of the case.
        row: of VOICES, that it belongs to.
        video: the speakers side by side, the mixture as its sound (AAC); None where it is not made.
        mixture: the mixture as WAV.
        faces: one video a speaker.
        layout: one role a source.
        sources: (K, T) at 44.1 kHz, as they are in the mixture; the noise is silence where there is none.
    """

    key: str
    row: str
    video: Path | None
    mixture: Path
    faces: tuple[Path, ...]
    layout: tuple[Role, ...]
    sources: Tensor


@dataclass(frozen=True)
class _Case:
    """A mixture before it is made: who speaks, and what else is heard, if anything."""

    key: str
    row: str
    faces: tuple[Path, ...]
    noise: Path | None
    rng: np.random.Generator
    filmed: bool


class RecordedMixtures:
    """Real mixtures, the same for the same data, made one after the other when asked for.

    Levels are drawn from SSNAPS's ranges (`avdiff.audio.mixing.PAPER_LEVELS`); two speakers without noise are equally loud.

    Args:
        data: with grid/s1, grid/others and esc10.
        folder: to write to.
        count: mixtures of every row at most. Of two strangers there are as many as there are pairs of different speakers in
            grid/others, where the folder that a clip is in is the speaker.
        parts: KNOWN: s1 with each other speaker, then each speaker alone, as a video and as files; STRANGERS: the speakers of
            grid/others with each other, without noise and in noise, then each alone in noise, as files.

    Raises:
        UserError: a folder is missing or holds too little.
    """

    def __init__(self, data: Path, folder: Path, count: int, parts: Sequence[str] = (KNOWN, STRANGERS)) -> None:
        others, _ = find(data / "grid" / "others", VIDEO)
        noises = [file for file in find(data / "esc10", AUDIO)[0] if file.name.startswith("3-")]
        if not noises:
            raise UserError(
                f"{data / 'esc10'} holds no file whose name begins with 3-, as those of fold 3 of ESC-10 do"
            )
        self.folder = folder
        self._cases: list[_Case] = []
        if KNOWN in parts:
            self._cases += _known(data / "grid" / "s1", others, noises, count)
        if STRANGERS in parts:
            self._cases += _strangers(others, noises, count)

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[RecordedMixture]:
        return (_make(case, self.folder) for case in self._cases)


def _known(folder: Path, others: Sequence[Path], noises: Sequence[Path], count: int) -> Iterator[_Case]:
    first = [file for file in find(folder, VIDEO)[0] if file.stem in held_out()]
    if not first:
        raise UserError(f"{folder} holds none of the clips of held_out_grid_s1.txt, which were kept for testing")
    for talkers in (2, 1):
        for index in range(count):
            rng = np.random.default_rng([talkers, index])
            s1, other = first[index % len(first)], others[index % len(others)]
            faces = (s1, other) if talkers == 2 else (other if index % 2 else s1,)
            noise = noises[int(rng.integers(len(noises)))]
            yield _Case(f"real{talkers}-{index:02d}", f"real{talkers}", faces, noise, rng, filmed=True)


def _strangers(others: Sequence[Path], noises: Sequence[Path], count: int) -> Iterator[_Case]:
    alone = [(file,) for file in others]
    of_rows: dict[str, Sequence[tuple[Path, ...]]] = {
        "strangers2_quiet": pairs(others),
        "strangers2": pairs(others),
        "strangers1": alone,
    }
    for number, (row, casts) in enumerate(of_rows.items()):
        for index, faces in enumerate(casts[:count]):
            rng = np.random.default_rng([_SEED + number, index])
            noise = None if row.endswith("quiet") else noises[int(rng.integers(len(noises)))]
            yield _Case(f"{row}-{index:02d}", row, faces, noise, rng, filmed=False)


def pairs(files: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Two clips for every two speakers, the first few of which are of as many speakers as can be.

    Args:
        files: clips; the folder that one is in is its speaker, whose clips take turns.

    Raises:
        UserError: all are of one speaker.
    """
    clips: dict[str, list[Path]] = {}
    for file in files:
        clips.setdefault(file.parent.name, []).append(file)
    people = sorted(clips)
    if len(people) < 2:
        raise UserError(f"{files[0].parent.parent} has clips of one speaker; give a folder for each of two or more")
    turns, met, out = Counter[str](), set[frozenset[str]](), list[tuple[Path, Path]]()
    for step in range(1, len(people) // 2 + 1):
        for place, one in enumerate(people):
            other = people[(place + step) % len(people)]
            if frozenset((one, other)) not in met:
                met.add(frozenset((one, other)))
                out.append((clips[one][turns[one] % len(clips[one])], clips[other][turns[other] % len(clips[other])]))
                turns.update((one, other))
    return out


def _mono(file: Path) -> Tensor:
    samples, rate = read_audio(file)
    return resample(torch.from_numpy(samples.mean(axis=0)), rate, RATE)


def _make(case: _Case, folder: Path) -> RecordedMixture:
    voices = [_mono(face) for face in case.faces]
    length = min(len(voice) for voice in voices)
    speech = torch.stack([voice[:length] for voice in voices])
    if case.noise is None:
        sources = torch.cat([speech[:1], scale_to_ratio(speech[1:], speech[:1], 0.0), torch.zeros(1, length)])
    else:
        background = _mono(case.noise)
        background = background.repeat(-(-length // len(background)))[:length]
        sources = mix(speech, background, *PAPER_LEVELS[len(case.faces)].draw(case.rng.uniform))
    sources = sources * 0.5 / sources.sum(0).abs().max()
    folder.mkdir(parents=True, exist_ok=True)
    mixture, video = folder / f"{case.key}.wav", folder / f"{case.key}.mp4" if case.filmed else None
    heard = sources.sum(0).numpy()
    write_wav(mixture, heard, RATE)
    if video is not None:
        films = zip(*(VideoFrames(face) for face in case.faces), strict=False)
        write_video(video, (np.concatenate(frames, axis=1) for frames in films), audio=heard, rate=RATE)
    return RecordedMixture(
        case.key, case.row, video, mixture, case.faces, (*[SPEAKER] * len(case.faces), NOISE), sources
    )
