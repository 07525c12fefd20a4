"""A clip of the embedded corpus: a talker heard and seen for some seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from datamodules.synthetic.espeak import Espeak
from datamodules.synthetic.mouth import draw_face, render
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.sentences import free_sentence, grid_sentence
from datamodules.synthetic.visemes import FPS, Segment, articulate, phoneme_of, phoneme_track
from datamodules.synthetic.voices import VARIANTS, NaturalVoice, Voice, draw_voice

SAMPLE_RATE = 16_000  # Hz
FACES = {"train": 600, "val": 60, "test": 120}

CONTINUOUS, PAUSES, GRID, STILL = "continuous", "pauses", "grid", "still"
_KINDS = {CONTINUOUS: 0.62, PAUSES: 0.15, GRID: 0.20, STILL: 0.03}


@dataclass(frozen=True)
class ClipSpec:
    """All that decides a clip: the same spec gives the same samples.

    Attributes:
        name: seeds everything that is not listed here.
        split: of voice, face and sentences.
        kind: "continuous" speech from end to end, speech with long "pauses", one whole "grid" sentence,
            or "still" lips and silence.
        voice: who is heard.
        face: number of the face that is seen, in its split.
        frames: length at 25 fps.
    """

    name: str
    split: str
    kind: str
    voice: Voice | NaturalVoice
    face: int
    frames: int = 100


@dataclass(frozen=True)
class TalkerClip:
    """A talker heard and seen.

    Attributes:
        spec: what it was made from.
        audio: (640 F,) float32 at 16 kHz, RMS 0.06 over the clip or less (no sample beyond 0.9); zero where still.
        track: (F, features) what the mouth does, see `visemes.FEATURES`.
        mouth: (F, 96, 96) uint8.
        phonemes: (F,) uint8, indices in `visemes.PHONEMES`.
        sentences: what was being said, cut words included.
        transcript: the words that are heard whole.
    """

    spec: ClipSpec
    audio: np.ndarray
    track: np.ndarray
    mouth: np.ndarray
    phonemes: np.ndarray
    sentences: tuple[str, ...]
    transcript: str


def draw_spec(
    name: str, split: str, *, kind: str | None = None, variant: str | None = None, face: int | None = None
) -> ClipSpec:
    """The clip of a name; what is not given is drawn."""
    rng = stream("talker", split, name)
    drawn_kind = draw_kind(rng)
    drawn_variant = str(rng.choice(VARIANTS[split]))
    drawn_face = int(rng.integers(FACES[split]))
    return ClipSpec(
        name=name,
        split=split,
        kind=kind or drawn_kind,
        voice=draw_voice(rng, variant or drawn_variant),
        face=drawn_face if face is None else face,
    )


def draw_kind(rng: np.random.Generator) -> str:
    """One of the kinds of clips, each as often as it is in the corpus."""
    return str(rng.choice(list(_KINDS), p=list(_KINDS.values())))


def level(audio: np.ndarray, rms: float = 0.06, peak: float = 0.9) -> np.ndarray:
    """Scale to an RMS, or to less where a sample would pass the peak. Silence stays."""
    power, most = float(np.sqrt(np.mean(audio**2))), float(np.abs(audio).max(initial=0))
    if most == 0:
        return audio
    return (audio * min(rms / power, peak / most)).astype(np.float32)


@cache
def _espeak() -> Espeak:
    return Espeak()


@dataclass(frozen=True)
class Spoken:
    """An utterance.

    Attributes:
        text: what was said, as it is written.
        audio: (T,) float32 at 16 kHz.
        segments: phonemes in order, seconds from its start.
        words: text, start and end in seconds, of those whose times are known.
    """

    text: str
    audio: np.ndarray
    segments: tuple[Segment, ...]
    words: tuple[tuple[str, float, float], ...]


#: Speaks for a clip: its spec, random numbers, and for how many seconds there is still room.
Say = Callable[[ClipSpec, np.random.Generator, float], Spoken]


def make_clip(spec: ClipSpec) -> TalkerClip:
    """Speak, move the lips, film."""
    return film(spec, stream("clip", spec.split, spec.name), _say, early=2.5)


def film(spec: ClipSpec, rng: np.random.Generator, say: Say, early: float) -> TalkerClip:
    """A clip of someone who speaks.

    Args:
        spec: of it.
        rng: drawn from.
        say: speaks.
        early: seconds before the clip that continuous speech begins, at most.
    """
    samples = spec.frames * SAMPLE_RATE // FPS
    audio, segments, words, sentences = _speech(spec, rng, samples, say, early)
    audio = level(_microphone(audio, rng))
    track = articulate(segments, spec.frames, rng)
    return TalkerClip(
        spec=spec,
        audio=audio,
        track=track,
        mouth=render(draw_face(spec.split, spec.face), track, rng),
        phonemes=phoneme_track(segments, spec.frames),
        sentences=sentences,
        transcript=" ".join(words),
    )


def _speech(
    spec: ClipSpec, rng: np.random.Generator, samples: int, say: Say, early: float
) -> tuple[np.ndarray, list[Segment], list[str], tuple[str, ...]]:
    """Utterances laid into a clip: samples, phonemes in clip time, whole words, sentences."""
    audio, seconds = np.zeros(samples, np.float32), samples / SAMPLE_RATE
    segments: list[Segment] = []
    words: list[str] = []
    said: list[str] = []
    now = {CONTINUOUS: rng.uniform(-early, 0.3), PAUSES: rng.uniform(-1.0, 1.5)}.get(spec.kind, 0.0)
    while spec.kind != STILL and now < seconds - 0.3:
        spoken = say(spec, rng, seconds - now)
        voiced, length = spoken.audio, len(spoken.audio) / SAMPLE_RATE
        if spec.kind == GRID:
            now = rng.uniform(0, max(seconds - length, 0))
        said.append(spoken.text)
        start = round(now * SAMPLE_RATE)
        first, last = max(start, 0), min(start + len(voiced), samples)
        if first < last:
            audio[first:last] += voiced[first - start : last - start]
        words += [word for word, begin, end in spoken.words if now + begin >= 0 and now + end <= seconds + 0.02]
        segments += [Segment(of.phoneme, now + of.start, now + of.end) for of in spoken.segments]
        now += length if spec.kind == CONTINUOUS else length + rng.uniform(0.6, 2.2)
        if spec.kind == GRID:
            break
    return audio, segments, words, tuple(said)


def _say(spec: ClipSpec, rng: np.random.Generator, room: float) -> Spoken:
    """A sentence by espeak-ng."""
    grid, voice = spec.kind == GRID, spec.voice
    assert isinstance(voice, Voice)
    sentence = (grid_sentence if grid else free_sentence)(rng, spec.split)
    # espeak-ng takes the letter for the article: spell its name.
    audio, utterance = voice.say(_espeak(), sentence.replace(" a ", " eigh ") if grid else sentence)
    length = len(audio) / SAMPLE_RATE
    ends = [voice.seconds(at) for at, _ in utterance.words[1:]] + [length]
    words = tuple(
        ("a" if word == "eigh" else word, voice.seconds(at), end)
        for (at, word), end in zip(utterance.words, ends, strict=True)
    )
    return Spoken(sentence, audio, tuple(_segments(utterance.phonemes, voice, length)), words)


def _segments(phonemes: tuple[tuple[int, str], ...], voice: Voice, length: float) -> list[Segment]:
    heard = [(voice.seconds(at), phoneme_of(mnemonic)) for at, mnemonic in phonemes]
    known = [(at, phoneme) for at, phoneme in heard if phoneme is not None]
    ends = [at for at, _ in known[1:]] + [length]
    return [Segment(phoneme, at, end) for (at, phoneme), end in zip(known, ends, strict=True) if end > at]


def _microphone(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random smooth colouring, as microphones and rooms give it: some 5 dB up and down."""
    from scipy.signal import fftconvolve, firwin2

    gains = 10 ** (rng.normal(0, 2.5, 7) / 20)
    taps = firwin2(65, [0, 0.0125, 0.05, 0.125, 0.25, 0.5, 1], gains)
    return fftconvolve(audio, taps, mode="same").astype(np.float32)
