"""Clips of natural voices: Kokoro speaks, and the lips of `mouth` move with the phonemes that it says.

54 voices, shared out so that no voice of a test is in training, nor any blend of it. In training half of the speakers are
blends of two voices, each another person than either.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np

from avdiff.errors import UserError
from datamodules.synthetic.espeak import Espeak
from datamodules.synthetic.kokoro import RATE, SAMPLES, TIMING, Kokoro
from datamodules.synthetic.language import english
from datamodules.synthetic.pronounce import AMERICAN, BRITISH, Token, tokens
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.sentences import free_sentence, grid_sentence, of_split
from datamodules.synthetic.talkers import FACES, GRID, SAMPLE_RATE, ClipSpec, Spoken, TalkerClip, draw_kind, film
from datamodules.synthetic.visemes import SILENCE, Segment
from datamodules.synthetic.voices import NaturalVoice

HELD_OUT = {
    "val": ("af_jessica", "am_liam", "bf_lily", "bm_lewis"),
    "test": ("af_kore", "af_nova", "bf_alice", "am_eric", "am_puck", "bm_daniel"),
}
TRAINED = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_nicole", "af_river", "af_sarah", "af_sky", "bf_emma", "bf_isabella"),
    *("am_adam", "am_echo", "am_fenrir", "am_michael", "am_onyx", "am_santa", "bm_fable", "bm_george"),
    # Voices of other languages: of an English speaker with an accent.
    *("ef_dora", "ff_siwis", "hf_alpha", "hf_beta", "if_sara", "jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro"),
    *("pf_dora", "zf_xiaobei", "zf_xiaoni", "zf_xiaoxiao", "zf_xiaoyi"),
    *("em_alex", "em_santa", "hm_omega", "hm_psi", "im_nicola", "jm_kumo", "pm_alex", "pm_santa"),
    *("zm_yunjian", "zm_yunxi", "zm_yunxia", "zm_yunyang"),
)  # fmt: skip
VOICES = {"train": TRAINED, **HELD_OUT}
_ENGLISH = "ab"  # first letters of the names of American and British voices, which speak twice as often as others
#: what to do where the voices are not installed
MISSING = "fetch them with avdiff prepare voices FOLDER, and let AVDIFF_VOICES name that folder"
SPEEDS = (0.8, 1.25)
ADVANCE = 0.05  # s that the sound of a token is heard before its frames; measured by `experiments/benchmarks/natural_timing.py`
_MARGIN = (0.04, 0.25)  # s of silence kept before and after an utterance
_SPACE = 4  # frames of a space from which on it is a pause
_QUIET = 10 ** (-45 / 20)  # of the peak: silence


def voices_folder() -> Path:
    """Where the voices are: $AVDIFF_VOICES, or `voices` in the cache."""
    from datamodules.synthetic.corpus import cache_folder

    named = os.environ.get("AVDIFF_VOICES")
    return Path(named) if named else cache_folder().parent.parent / "voices"


def installed() -> bool:
    """Whether the natural voices are there."""
    return (voices_folder() / TIMING).is_file()


def kokoro() -> Kokoro:
    """The natural voices.

    Raises:
        UserError: they are not installed.
    """
    return _kokoro(voices_folder())


@cache
def _kokoro(folder: Path) -> Kokoro:
    if not (folder / TIMING).is_file():
        raise UserError(f"{folder} holds no natural voices; {MISSING}")
    return Kokoro(folder)


@cache
def espeak() -> Espeak:
    """Of this process, which pronounces for the natural voices."""
    return Espeak()


def draw_natural_voice(rng: np.random.Generator, split: str, name: str | None = None) -> NaturalVoice:
    """A speaker of a split, in a random pace. In training every second one is a blend.

    Args:
        rng: drawn from.
        split: "train", "val" or "test".
        name: of the voice; None for any.
    """
    names = VOICES[split]
    often = np.array([2.0 if name[0] in _ENGLISH else 1.0 for name in names])
    first, second = (names[int(i)] for i in rng.choice(len(names), 2, replace=False, p=often / often.sum()))
    share, blended, speed = float(rng.uniform(0.3, 0.7)), rng.random() < 0.5, float(rng.uniform(*SPEEDS))
    first = name or first
    blend: tuple[tuple[str, float], ...] = ((first, 1.0),)
    if split == "train" and blended and name is None:
        blend = ((first, round(share, 2)), (second, round(1 - round(share, 2), 2)))
    variant = first if len(blend) == 1 else "+".join(f"{name}:{weight}" for name, weight in blend)
    leading = max(blend, key=lambda part: part[1])[0]
    return NaturalVoice(variant, blend, BRITISH if leading.startswith("b") else AMERICAN, round(speed, 2))


def draw_natural_spec(
    name: str, split: str, *, kind: str | None = None, variant: str | None = None, face: int | None = None
) -> ClipSpec:
    """The clip of a name; what is not given is drawn."""
    rng = stream("natural", split, name)
    drawn_kind, drawn_voice, drawn_face = (
        draw_kind(rng),
        draw_natural_voice(rng, split, variant),
        int(rng.integers(FACES[split])),
    )
    return ClipSpec(name, split, kind or drawn_kind, drawn_voice, drawn_face if face is None else face)


def make_natural_clip(spec: ClipSpec) -> TalkerClip:
    """Speak, move the lips, film.

    Raises:
        UserError: the voices are not installed.
    """
    return film(spec, stream("natural clip", spec.split, spec.name), _say, early=0.8)


def _say(spec: ClipSpec, rng: np.random.Generator, room: float) -> Spoken:
    """A sentence; one that would last longer than there is room is cut after a word."""
    speaker, voice = kokoro(), spec.voice
    assert isinstance(voice, NaturalVoice)
    grid = spec.kind == GRID
    if grid:
        sentence, end = grid_sentence(rng, spec.split), "."
        spelled = sentence.replace(" a ", " eigh ")
    else:
        sentence = of_split(lambda: english(rng), spec.split) if rng.random() < 0.6 else free_sentence(rng, spec.split)
        spelled, end = sentence, "?" if sentence.startswith(("did ", "why ")) else ".,"[int(rng.random() < 0.3)]
    said = tokens(", ".join(espeak().pronounce(spelled, voice.accent)) + end, voice.accent)
    durations = speaker.durations(_text(said), voice.blend, voice.speed)
    ends = np.cumsum(durations)[1:-1] * SAMPLES / RATE
    spaces = [i for i, token in enumerate(said) if token.text == " " and ends[i] > room + 0.3]
    cut = bool(spaces) and not grid
    if cut:
        said = (*said[: spaces[0]], Token(end, SILENCE))
        durations = speaker.durations(_text(said), voice.blend, voice.speed)
    return utterance(speaker, sentence, said, voice, durations, rng.uniform(*_MARGIN, 2), whole=not cut)


def _text(said: tuple[Token, ...]) -> str:
    return "".join(token.text for token in said)


def utterance(
    speaker: Kokoro,
    text: str,
    said: tuple[Token, ...],
    voice: NaturalVoice,
    durations: np.ndarray,
    margins: np.ndarray | None,
    whole: bool = True,
) -> Spoken:
    """Speak tokens that last so long.

    Args:
        speaker: who speaks, whatever the voice.
        text: as it is written.
        said: n tokens.
        voice: whose.
        durations: (n + 2,) frames of 25 ms.
        margins: seconds of silence kept before and after it; None to keep the time as it was given.
        whole: whether all of the text is said.
    """
    from scipy.signal import resample_poly

    audio = speaker.speak(_text(said), voice.blend, durations)
    audio = resample_poly(audio, SAMPLE_RATE, RATE).astype(np.float32)
    # What is heard of a frame comes before it.
    audio = np.concatenate([np.zeros(round(ADVANCE * SAMPLE_RATE), np.float32), audio])
    segments = _heard(_segments(said, durations), audio)
    offset = 0.0
    if margins is not None and segments:
        offset = max(segments[0].start - margins[0], 0.0)
        end = min(round((segments[-1].end + margins[1]) * SAMPLE_RATE), len(audio))
        audio = audio[round(offset * SAMPLE_RATE) : end]
    moved = tuple(Segment(of.phoneme, of.start - offset, of.end - offset) for of in segments)
    words = ((text, moved[0].start, moved[-1].end),) if whole and moved else ()
    return Spoken(text, audio, moved, words)


def _segments(said: tuple[Token, ...], durations: np.ndarray) -> list[Segment]:
    """Phonemes in the time of the frames; a short space is of the sound before it."""
    edges = np.cumsum(durations[:-1]) * SAMPLES / RATE
    out: list[Segment] = []
    going = SILENCE
    for at, token in enumerate(said):
        start, end = float(edges[at]), float(edges[at + 1])
        short = token.phoneme is None and durations[at + 1] < _SPACE
        begins = token.begins and not short
        if begins:
            going = SILENCE if token.phoneme is None else token.phoneme
        if going == SILENCE or end == start:
            continue
        if begins or not out or out[-1].end != start:
            out.append(Segment(going, start, end))
        else:
            out[-1] = Segment(going, out[-1].start, end)
    return out


def _heard(segments: list[Segment], audio: np.ndarray) -> list[Segment]:
    """Sounds before a pause end where they are no longer heard: their frames count what follows them."""
    frame = SAMPLE_RATE // 100
    levels = np.sqrt(np.mean(audio[: len(audio) // frame * frame].reshape(-1, frame) ** 2, axis=1))
    loud = levels > _QUIET * levels.max(initial=0)
    out = []
    for at, of in enumerate(segments):
        last = at + 1 == len(segments) or segments[at + 1].start > of.end
        first, end = round(of.start * 100), round(of.end * 100)
        if last and (heard := np.flatnonzero(loud[first:end])).size:
            of = Segment(of.phoneme, of.start, min(of.end, (first + int(heard[-1]) + 1) / 100))
        out.append(of)
    return out
