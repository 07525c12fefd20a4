"""Who speaks: espeak-ng's variants, shared out so that no voice of a test, nor one much like it, is in training.

A voice is the variant; its pitch, accent and pace are drawn for every clip. Voices of babble never speak in a target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.synthetic.espeak import ACCENTS, RATE, Espeak, Request, Utterance

VARIANTS: dict[str, tuple[str, ...]] = {
    "train": (
        *(
            "m1",
            "m2",
            "m3",
            "m4",
            "m6",
            "m8",
            "Alex",
            "Andy",
            "Denis",
            "Gene",
            "Lee",
            "Mario",
            "Michael",
            "adam",
            "edward",
        ),
        *("grandpa", "gustave", "kaukovalta", "klatt4", "marcelo", "michel", "pablo", "quincy", "sandro", "travis"),
        *("f1", "f2", "f5", "Annie", "belinda", "shelby", "steph", "anika"),
    ),
    "val": ("m5", "boris", "david", "ed", "f4", "aunty"),
    "test": ("m7", "rob", "robert", "paul", "norbert", "Mr serious", "f3", "linda", "Andrea", "grandma"),
}
BABBLE_VARIANTS: dict[str, tuple[str, ...]] = {
    "train": ("max", "john", "ian", "Diogo", "Nguyen", "antonio", "benjamin", "Jacky", "Marco"),
    "val": ("announcer", "Mike", "victor", "edward2", "zac", "klatt3"),
    "test": ("Reed", "Hugo", "mike2", "pedro", "Storm", "iven3", "klatt2"),
}
_NEUTRAL = 441  # 22050 / 16000 = 441 / 320


@dataclass(frozen=True)
class Voice:
    """How one clip is spoken.

    Attributes:
        variant, accent: of espeak-ng.
        pitch, range: 0 to 100, 50 is the variant's own.
        words_per_minute: pace.
        tract: samples at 22050 Hz that become 320 at 16 kHz; 441 keeps the variant's formants, more raises them.
        seed: of espeak-ng.
    """

    variant: str
    accent: str
    pitch: int
    range: int
    words_per_minute: int
    tract: int
    seed: int

    def request(self, text: str) -> Request:
        """What espeak-ng is asked for."""
        return Request(text, f"{self.accent}+{self.variant}", self.pitch, self.range, self.words_per_minute, self.seed)

    def seconds(self, sample: float) -> float:
        """When a sample of espeak-ng's is heard."""
        return sample * _NEUTRAL / self.tract / RATE

    def say(self, espeak: Espeak, text: str) -> tuple[np.ndarray, Utterance]:
        """Speak: float32 at 16 kHz in [-1, 1], and the utterance that it comes from."""
        from scipy.signal import resample_poly

        utterance = espeak.say(self.request(text))
        pcm = np.frombuffer(utterance.pcm, np.int16).astype(np.float32) / 32768
        return resample_poly(pcm, 320, self.tract).astype(np.float32), utterance


def draw_voice(rng: np.random.Generator, variant: str) -> Voice:
    """A variant in a random accent, pitch and pace."""
    return Voice(
        variant=variant,
        accent=ACCENTS[int(rng.integers(len(ACCENTS)))],
        pitch=int(rng.integers(30, 71)),
        range=int(rng.integers(30, 81)),
        words_per_minute=int(rng.integers(135, 205)),
        tract=int(rng.integers(_NEUTRAL - 30, _NEUTRAL + 31)),
        seed=int(rng.integers(1, 2**31 - 1)),
    )


@dataclass(frozen=True)
class NaturalVoice:
    """How one clip is spoken.

    Attributes:
        variant: what tells the speaker from others: the voices that are blended, and how.
        blend: their names and weights, which sum to 1.
        accent: of espeak-ng's pronunciation.
        speed: 1 is the voice's own.
    """

    variant: str
    blend: tuple[tuple[str, float], ...]
    accent: str
    speed: float
