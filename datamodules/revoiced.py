"""Real lips that speak with other voices: videos whose word times are known, said anew by natural voices in step with the lips.

No face then tells which voice it has. Word times are those of GRID's alignments: a line "start end word" for each word, in
1/25000 s; "sil" and "sp" are silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from avdiff.errors import UserError
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_FPS
from datamodules.synthetic.corpus import SHAPES, Made, Shapes
from datamodules.synthetic.espeak import Espeak
from datamodules.synthetic.kokoro import RATE, SAMPLES
from datamodules.synthetic.natural import draw_natural_voice, espeak, kokoro, utterance
from datamodules.synthetic.pronounce import Token, tokens
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.sentences import is_grid_sentence
from datamodules.synthetic.talkers import level
from datamodules.synthetic.visemes import SILENCE, phoneme_track

SILENT = ("sil", "sp")
REVOICED: Shapes = {
    **SHAPES,
    "seen": ((100,), np.bool_),
    "lengths": ((), np.int64),
}  # of a clip, see `datamodules.clips`
_UNITS = 25_000  # a second, in alignments
_LATER = (
    0.03  # s that words are said after their alignment: the original's envelope is followed best so, on 16 clips of s1
)
_LAST = 5  # frames that a last sound lasts at most before it fades: Kokoro counts the silence after it to it
_END = 8  # frames of the pause that ends a sentence
_FRAMES = 100  # of a stored clip


@dataclass(frozen=True)
class Word:
    """A word in time: seconds of its start and its end."""

    text: str
    start: float
    end: float


def read_words(file: Path) -> list[Word]:
    """Words of an alignment, without silences.

    Raises:
        UserError: it is no alignment.
    """
    words = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split()
        if len(parts) != 3 or not parts[0].isdigit() or not parts[1].isdigit() or int(parts[1]) <= int(parts[0]):
            raise UserError(
                f"line {number} of {file} is {line!r}; expected start, end (1/25000 s) and word, as in GRID's alignments"
            )
        if parts[2] not in SILENT:
            words.append(Word(parts[2], int(parts[0]) / _UNITS, int(parts[1]) / _UNITS))
    if not words or any(after.start < before.end for before, after in pairwise(words)):
        raise UserError(f"{file} holds no words in the order in which they are said")
    return words


def pronounced(words: Sequence[Word], voice: Espeak, accent: str) -> list[tuple[Token, ...]]:
    """The tokens of each word.

    Args:
        words: of a sentence.
        voice: espeak-ng.
        accent: see `pronounce`.
    """
    said = [word.text for word in words]
    if is_grid_sentence(" ".join(said)):
        said[3] = "eigh" if said[3] == "a" else said[3]  # espeak-ng takes the letter for the article: spell its name
    whole = " ".join(voice.pronounce(" ".join(said), accent)).split()
    if len(whole) != len(said):  # some words run together
        whole = ["".join(" ".join(voice.pronounce(word, accent)).split()) for word in said]
    return [tokens(word, accent) for word in whole]


def shared(frames: int, natural: np.ndarray) -> np.ndarray:
    """So many frames, shared out in proportion to natural durations, whole ones."""
    ends = np.round(np.cumsum(natural) / natural.sum() * frames)
    return np.diff(ends, prepend=0)


def in_step(
    words: Sequence[Word], said: Sequence[tuple[Token, ...]], natural: np.ndarray, seconds: float
) -> np.ndarray:
    """Durations in frames of 25 ms that put words where they are seen.

    Args:
        words: in time.
        said: their tokens, between which one is a space.
        natural: (n + 2,) what the voice would take for all of it, the end of the sentence (one token) included.
        seconds: of the clip.

    Returns:
        (n + 2,).
    """
    rate = RATE / SAMPLES
    starts = [round((word.start + _LATER) * rate) for word in words]
    ends = [round((word.end + _LATER) * rate) for word in words]
    out = np.zeros(len(natural))
    out[0] = starts[0]
    at = 1
    for number, letters in enumerate(said):
        own = np.maximum(natural[at : at + len(letters)], 1)
        if number + 1 == len(said):
            own[-1] = min(own[-1], _LAST)
        out[at : at + len(letters)] = shared(ends[number] - starts[number], own)
        at += len(letters)
        if number + 1 < len(said):
            out[at] = starts[number + 1] - ends[number]
            at += 1
    left = max(round(seconds * rate) - ends[-1], 2)
    out[at] = min(_END, left - 1)
    out[at + 1] = left - out[at]
    return out


@dataclass(frozen=True)
class Revoiced:
    """Makes clips: every video with several voices, one after the other.

    Args:
        videos: files.
        alignments: of each, its words.
        split: whose voices speak.
        voices: of each video.
    """

    videos: tuple[Path, ...]
    alignments: tuple[Path, ...]
    split: str
    voices: int

    def __call__(self, index: int) -> Made:
        video, turn = divmod(index, self.voices)
        return revoice(self.videos[video], self.alignments[video], self.split, turn)


def revoice(video: Path, alignment: Path, split: str, turn: int) -> Made:
    """A video of up to 4 s with another voice, as `REVOICED` is stored. One that shows no face gives the sound alone, unseen.

    Args:
        video: of someone who speaks.
        alignment: when which word.
        split: whose voices speak: "train", "val" or "test".
        turn: which of its voices.

    Raises:
        UserError: the alignment cannot be read, or the voices are not installed.
    """
    words = read_words(alignment)
    about: dict[str, Any] = {"video": video.name}
    try:
        mouth, seen = mouths(video)
    except UserError as error:
        frames = math.ceil(words[-1].end * VIDEO_FPS)
        mouth, seen = np.zeros((frames, 96, 96), np.uint8), np.zeros(frames, bool)
        about["unseen"] = str(error)
    voice = draw_natural_voice(stream("revoiced", split, video.stem, turn), split)
    said = pronounced(words, espeak(), voice.accent)
    flat: list[Token] = []
    for letters in said:
        flat += [*letters, Token(" ", None)]
    flat[-1] = Token(".", SILENCE)
    natural = kokoro().durations("".join(token.text for token in flat), voice.blend, 1.0)
    durations = in_step(words, said, natural, len(mouth) * SAMPLES_PER_FRAME / SAMPLE_RATE)
    text = " ".join(word.text for word in words)
    spoken = utterance(kokoro(), text, tuple(flat), voice, durations, None)
    frames = min(len(mouth), _FRAMES)
    audio = np.zeros(_FRAMES * SAMPLES_PER_FRAME, np.float32)
    heard = spoken.audio[: frames * SAMPLES_PER_FRAME]
    audio[: len(heard)] = level(heard)
    arrays: dict[str, np.ndarray] = {
        "audio": np.round(audio * 32767).astype(np.int16),
        "mouth": _filled(mouth[:frames]),
        "phonemes": phoneme_track(spoken.segments, _FRAMES),
        "seen": _filled(seen[:frames]),
        "lengths": np.asarray(frames * SAMPLES_PER_FRAME, np.int64),
    }
    return arrays, about | {"voice": asdict(voice), "face": video.parent.name, "transcript": text}


@lru_cache(maxsize=1)
def mouths(video: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mouth crops (F, 96, 96) of whoever is seen longest, and where they are seen (F,).

    Raises:
        UserError: the video cannot be read or shows no face.
    """
    from avdiff.video.decode import VideoFrames
    from avdiff.video.talkers import find_talkers, seen_longest

    count = 0

    def watched(stage: str) -> Any:
        nonlocal count
        count = 0
        for frame in VideoFrames(video):
            count += 1
            yield frame

    found = find_talkers(watched, _detector())
    if not found:
        raise UserError(f"{video} shows no face")
    return seen_longest(found).mouth(0, count)


@lru_cache(maxsize=1)
def _detector() -> Any:
    from avdiff.video.detectors import find_detector

    return find_detector()


def _filled(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.zeros((_FRAMES - len(array), *array.shape[1:]), array.dtype)])
