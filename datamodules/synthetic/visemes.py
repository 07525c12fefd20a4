"""From phonemes to what a mouth does: many phonemes share a viseme, neighbours blend, and the timing is not exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.synthetic.seeds import wander

FPS = 25
MAX_JITTER = 0.04  # s between a phoneme and its lips, at most

PHONEMES = (
    "sil", "p", "b", "m", "f", "v", "th", "dh", "t", "d", "n", "s", "z", "l", "ch", "jh",
    "sh", "zh", "r", "k", "g", "ng", "h", "w", "y", "iy", "ih", "eh", "ae", "aa", "ah", "ao",
    "oh", "uh", "uw", "er", "ax", "ey", "ay", "ow", "aw", "oy", "ia", "ea", "ua",
)  # fmt: skip
SILENCE = 0

# espeak-ng's mnemonics (stress marks taken off) of its English accents.
_MNEMONICS = {
    "_": "sil", "p": "p", "b": "b", "m": "m", "f": "f", "v": "v", "T": "th", "D": "dh", "t": "t", "d": "d", "n": "n",
    "s": "s", "z": "z", "l": "l", "tS": "ch", "dZ": "jh", "S": "sh", "Z": "zh", "r": "r", "k": "k", "g": "g",
    "N": "ng", "h": "h", "?": "h", "w": "w", "j": "y", "i": "iy", "I": "ih", "E": "eh", "e": "eh", "a": "ae",
    "A": "aa", "V": "ah", "O": "ao", "0": "oh", "U": "uh", "u": "uw", "3": "er", "@": "ax", "a#": "ax", "@L": "l",
    "eI": "ey", "aI": "ay", "oU": "ow", "aU": "aw", "OI": "oy", "i@": "ia", "e@": "ea", "U@": "ua", "A@": "aa",
    "O@": "ao", "o@": "ao", "o": "ao", "O2": "oh", "VR": "er", "IR": "er", "x": "k", "Q": "g",
}  # fmt: skip

# The visemes of a phoneme in order: diphthongs have two.
_VISEMES_OF = {
    "sil": "rest",
    **dict.fromkeys(("p", "b", "m"), "lips"),
    **dict.fromkeys(("f", "v"), "bite"),
    **dict.fromkeys(("th", "dh"), "tongue"),
    **dict.fromkeys(("t", "d", "n", "s", "z", "l"), "teeth"),
    **dict.fromkeys(("ch", "jh", "sh", "zh"), "pout"),
    **dict.fromkeys(("k", "g", "ng", "h"), "back"),
    "r": "r",
    **dict.fromkeys(("w", "uw", "uh"), "round"),
    **dict.fromkeys(("y", "iy", "ih"), "spread"),
    **dict.fromkeys(("eh", "ae"), "wide"),
    "aa": "open",
    **dict.fromkeys(("ah", "ax"), "neutral"),
    **dict.fromkeys(("ao", "oh"), "tall"),
    "er": "r",
    "ey": "wide spread", "ay": "open spread", "oy": "tall spread", "ow": "tall round", "aw": "open round",
    "ia": "spread neutral", "ea": "wide neutral", "ua": "round neutral",
}  # fmt: skip


@dataclass(frozen=True)
class Viseme:
    """A target of the mouth, each value between 0 and 1, and how strongly it insists on being reached.

    Attributes:
        open: gap between the lips.
        wide: corners drawn apart (0.5 is neutral).
        round: lips protruded.
        press: lips pressed on each other.
        bite: lower lip under the upper teeth.
        teeth: rows of teeth close together.
        tongue: tip seen between the teeth.
        strength: weight against the neighbours; closures are reached whatever surrounds them.
    """

    open: float
    wide: float = 0.5
    round: float = 0.0
    press: float = 0.0
    bite: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    strength: float = 1.0


VISEMES = {
    "rest": Viseme(0.02, press=0.2, strength=1.0),
    "lips": Viseme(0.0, wide=0.45, press=1.0, strength=6.0),
    "bite": Viseme(0.12, bite=1.0, strength=4.0),
    "tongue": Viseme(0.24, tongue=1.0, strength=1.8),
    "teeth": Viseme(0.18, wide=0.6, teeth=1.0, tongue=0.15, strength=0.9),
    "pout": Viseme(0.26, wide=0.25, round=0.6, teeth=1.0, strength=1.8),
    "back": Viseme(0.32, teeth=0.2, strength=0.4),
    "r": Viseme(0.27, wide=0.3, round=0.45, teeth=0.3, strength=1.0),
    "round": Viseme(0.16, wide=0.05, round=1.0, strength=2.0),
    "spread": Viseme(0.3, wide=0.95, teeth=0.5, strength=1.2),
    "wide": Viseme(0.62, wide=0.8, strength=1.2),
    "open": Viseme(0.95, wide=0.5, strength=1.3),
    "neutral": Viseme(0.42, strength=0.6),
    "tall": Viseme(0.72, wide=0.2, round=0.6, strength=1.4),
}
FEATURES = ("open", "wide", "round", "press", "bite", "teeth", "tongue")
_TARGETS = {name: np.array([getattr(v, feature) for feature in FEATURES]) for name, v in VISEMES.items()}


@dataclass(frozen=True)
class Segment:
    """A phoneme in time: its index in PHONEMES, start and end in seconds."""

    phoneme: int
    start: float
    end: float


def phoneme_of(mnemonic: str) -> int | None:
    """The index in PHONEMES of an espeak-ng mnemonic; None for a mark that has no sound of its own.

    A mnemonic that is not listed is its longest listed beginning (variants are marked by what is appended).
    """
    bare = mnemonic.lstrip("',%=|")
    for length in range(len(bare), 0, -1):
        if bare[:length] in _MNEMONICS:
            return PHONEMES.index(_MNEMONICS[bare[:length]])
    return None


def visemes_of(phoneme: int) -> tuple[str, ...]:
    """The names in VISEMES that a phoneme goes through."""
    return tuple(_VISEMES_OF[PHONEMES[phoneme]].split())


def phoneme_track(segments: Sequence[Segment], frames: int) -> np.ndarray:
    """The phoneme sounding in the middle of every video frame, uint8 (F,); silence outside the segments."""
    track = np.full(frames, SILENCE, np.uint8)
    middle = (np.arange(frames) + 0.5) / FPS
    for segment in segments:
        track[(middle >= segment.start) & (middle < segment.end)] = segment.phoneme
    return track


def jitter(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """How far lips run ahead of (-) or behind (+) the sound, seconds: within MAX_JITTER, mostly smooth."""
    most = rng.uniform(0.3, 1) * MAX_JITTER
    return most * (0.75 * wander(rng, times, 0.5) + 0.25 * rng.uniform(-1, 1, len(times)))


def articulate(segments: Sequence[Segment], frames: int, rng: np.random.Generator) -> np.ndarray:
    """Mouth features of every video frame.

    Targets are blended by dominance (M. Cohen, D. Massaro, "Modeling coarticulation in synthetic visual speech", 1993):
    each falls off in time around its phoneme, so a short phoneme among others is not fully reached. Effort and
    smoothness are drawn, as is the lips' timing; a resting mouth moves a little.

    Args:
        segments: phonemes in order; what they leave out is silence.
        frames: F, at 25 fps.
        rng: drawn from.

    Returns:
        float32 (F, len(FEATURES)) within [0, 1].
    """
    fine = 4  # instants a frame, averaged as a camera's exposure does
    times = (np.arange(frames * fine) + 0.5) / (FPS * fine)
    effort, fade = rng.uniform(0.6, 1.25), rng.uniform(0.03, 0.055)
    names, centres, halves = _targets(segments, frames / FPS)
    centres = centres + jitter(rng, np.clip(centres, 0, None))
    # Flat inside a target's inner half, exponential outside: -|distance| / fade.
    distance = np.maximum(np.abs(times[:, None] - centres) - 0.5 * halves, 0)
    weight = np.exp(-distance / fade) * np.array([VISEMES[name].strength for name in names])
    track = weight @ np.stack([_TARGETS[name] for name in names]) / np.maximum(weight.sum(1, keepdims=True), 1e-30)
    rest = _TARGETS["rest"]
    track = rest + (track - rest) * np.where([f in ("open", "wide", "round") for f in FEATURES], effort, 1.0)
    track[:, 0] += 0.03 * wander(rng, times, 0.8) * (1 - track[:, 3])
    track = track.reshape(frames, fine, -1).mean(1)
    return np.clip(track, 0, 1).astype(np.float32)


def _targets(segments: Sequence[Segment], seconds: float) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Visemes with their middles and half durations, rests in the gaps included."""
    spans: list[tuple[str, float, float]] = []
    now = -0.5
    for segment in segments:
        if segment.start > now + 0.02:
            spans.append(("rest", now, segment.start))
        names = visemes_of(segment.phoneme)
        edges = np.linspace(segment.start, segment.end, len(names) + 1)
        spans += [(name, edges[k], edges[k + 1]) for k, name in enumerate(names)]
        now = segment.end
    if seconds + 0.5 > now:
        spans.append(("rest", now, seconds + 0.5))
    start, end = np.array([s[1] for s in spans]), np.array([s[2] for s in spans])
    return [s[0] for s in spans], (start + end) / 2, (end - start) / 2
