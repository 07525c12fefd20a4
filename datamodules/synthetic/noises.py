"""Noises of clearly different kinds, each 4 s, made by small procedures.

`KINDS` are heard in training, validation and test (with other seeds, and babble with other voices); `HELD_OUT` in the
unmatched list alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.signal import chirp, fftconvolve, lfilter, sosfilt

from datamodules.synthetic.espeak import Espeak
from datamodules.synthetic.seeds import stream, wander
from datamodules.synthetic.sentences import free_sentence
from datamodules.synthetic.talkers import SAMPLE_RATE, level
from datamodules.synthetic.voices import BABBLE_VARIANTS, draw_voice

SAMPLES = 4 * SAMPLE_RATE
UNMATCHED = "unmatched"
NOISE_SPLITS = ("train", "val", "test", UNMATCHED)
_TIMES = np.arange(SAMPLES) / SAMPLE_RATE

Maker = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class NoiseClip:
    """A noise: its kind or kinds, and (64000,) float32 at 16 kHz, RMS 0.06 or less (no sample beyond 0.9)."""

    kind: str
    audio: np.ndarray


def _white(rng: np.random.Generator, samples: int = SAMPLES) -> np.ndarray:
    return rng.standard_normal(samples)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / (np.sqrt(np.mean(x**2)) + 1e-12)


def _coloured(rng: np.random.Generator) -> np.ndarray:
    """Stationary noise of a random smooth spectrum."""
    spectrum = np.fft.rfft(_white(rng))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE), 30) / 30)
    slope, knots = rng.uniform(-7, 2), rng.normal(0, 6, 10)
    decibel = slope * octaves + np.interp(octaves, np.linspace(0, octaves[-1], 10), knots)
    return _unit(np.fft.irfft(spectrum * 10 ** (decibel / 20), SAMPLES))


def _modulated(rng: np.random.Generator) -> np.ndarray:
    """Coloured noise that swells, pulses or is switched."""
    carrier, form = _coloured(rng), rng.integers(3)
    envelope: np.ndarray
    if form == 0:
        envelope = 10 ** (rng.uniform(0.4, 1.0) * wander(rng, _TIMES, rng.uniform(0.1, 0.8)))
    elif form == 1:
        rate = rng.uniform(1.5, 14)
        phase = 2 * np.pi * (rate * _TIMES + 0.3 * wander(rng, _TIMES, 1.0)) + rng.uniform(0, 6)
        envelope = (0.5 + 0.5 * np.sin(phase)) ** rng.uniform(1, 4) + 0.03
    else:
        on = wander(rng, _TIMES, rng.uniform(0.15, 0.6)) > rng.uniform(-0.3, 0.1)
        envelope = np.convolve(on, np.hanning(401) / 200, mode="same") + 0.02
    return _unit(carrier * envelope)


def _hum(rng: np.random.Generator) -> np.ndarray:
    """Harmonics of a motor, fan or transformer with a drifting speed, over some noise."""
    base = rng.choice([50.0, 60.0, rng.uniform(40, 260)])
    speed = base * (1 + rng.uniform(0, 0.15) * wander(rng, _TIMES, rng.uniform(0.5, 2)))
    phase = 2 * np.pi * np.cumsum(speed) / SAMPLE_RATE
    out, fall = np.zeros(SAMPLES), rng.uniform(0.3, 1.4)
    for k in range(1, int(min(40, 7000 / (1.2 * base)))):
        loud = rng.lognormal(0, 0.8) * k**-fall * (1 + 0.3 * wander(rng, _TIMES, 0.3))
        out += loud * np.sin(k * phase + rng.uniform(0, 6.3))
    return _unit(out) + rng.uniform(0.05, 0.5) * _coloured(rng)


def _ring(rng: np.random.Generator, low: float, high: float, decay: tuple[float, float]) -> np.ndarray:
    """One knock: a few damped resonances and a click, 0.4 s."""
    times = _TIMES[: int(0.4 * SAMPLE_RATE)]
    out = np.zeros(len(times))
    for _ in range(rng.integers(2, 7)):
        frequency = np.exp(rng.uniform(np.log(low), np.log(high)))
        out += rng.uniform(0.2, 1) * np.sin(2 * np.pi * frequency * times) * np.exp(-times / rng.uniform(*decay))
    out += rng.uniform(0, 1.5) * _white(rng, len(times)) * np.exp(-times / rng.uniform(0.0005, 0.01))
    return out


def _impulses(rng: np.random.Generator) -> np.ndarray:
    """Knocks, clicks and clatter at random times."""
    low = rng.uniform(80, 1500)
    bodies = [_ring(rng, low, low * rng.uniform(2, 8), (0.003, rng.uniform(0.01, 0.08))) for _ in range(3)]
    train = np.zeros((3, SAMPLES))
    times = rng.uniform(0, 3.95, max(4, rng.poisson(4 * rng.uniform(1.5, 14))))
    for time in (*times, *np.arange(0.2, 4, 1.2)):  # one every 1.2 s at least: never long silent
        train[rng.integers(3), int(time * SAMPLE_RATE)] += rng.lognormal(0, 0.7)
    out = sum(fftconvolve(t, body)[:SAMPLES] for t, body in zip(train, bodies, strict=True))
    return _unit(out) + rng.uniform(0.005, 0.05) * _coloured(rng)


def _weather(rng: np.random.Generator) -> np.ndarray:
    """Wind in gusts, or rain of many small drops."""
    if rng.random() < 0.5:
        pole = rng.uniform(0.95, 0.995)
        gusts = 10 ** (0.8 * wander(rng, _TIMES, rng.uniform(0.3, 1.2)))
        bright = lfilter([1 - pole], [1, -pole], _white(rng)) * gusts
        return _unit(bright) + rng.uniform(0.05, 0.3) * _unit(_white(rng) * gusts**2)
    drops = (rng.random(SAMPLES) < rng.uniform(0.002, 0.03)) * rng.lognormal(0, 1, SAMPLES)
    body = _ring(rng, 1200, 6000, (0.0006, 0.004))
    return _unit(fftconvolve(drops, body)[:SAMPLES]) + rng.uniform(0.1, 0.5) * _coloured(rng)


@cache
def _espeak() -> Espeak:
    return Espeak()


def _babble(rng: np.random.Generator, split: str) -> np.ndarray:
    """Six voices or more at once, none of which is ever a target."""
    variants = rng.permutation(BABBLE_VARIANTS[split])
    out = np.zeros(SAMPLES)
    for variant in variants[: rng.integers(6, len(variants) + 1)]:
        voice = draw_voice(rng, str(variant))
        text = ". ".join(free_sentence(rng, split) for _ in range(3))
        speech = np.tile(voice.say(_espeak(), text)[0], 2)
        start = int(rng.integers(len(speech) // 2))
        speech = np.tile(speech, -(-SAMPLES // (len(speech) - start)))[start : start + SAMPLES]
        out += rng.uniform(0.5, 1) * _unit(speech)
    return _unit(out)


def _siren(rng: np.random.Generator) -> np.ndarray:
    """A rising and falling tone with overtones."""
    low = rng.uniform(400, 900)
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.25, 3) * _TIMES + rng.uniform(0, 6))
    swing = swing if rng.random() < 0.6 else (swing > 0.5).astype(float)
    phase = 2 * np.pi * np.cumsum(low * (1 + rng.uniform(0.3, 1.2) * swing)) / SAMPLE_RATE
    return _unit(sum(k ** -rng.uniform(0.8, 2) * np.sin(k * phase) for k in range(1, 5)))


def _birds(rng: np.random.Generator) -> np.ndarray:
    """Short chirps, high and repeated, over rustling."""
    out = np.zeros(SAMPLES)
    for _ in range(rng.integers(1, 4)):
        length = int(rng.uniform(0.04, 0.2) * SAMPLE_RATE)
        times, (start, stop) = _TIMES[:length], rng.uniform(1800, 6500, 2)
        note = chirp(times, start, times[-1], stop) * np.hanning(length)
        for at in np.arange(rng.uniform(0, 0.4), 3.7, rng.uniform(0.15, 0.7)):
            first = int((at + rng.uniform(0, 0.05)) * SAMPLE_RATE)
            out[first : first + length] += rng.uniform(0.3, 1) * note[: SAMPLES - first]
    return _unit(out) + rng.uniform(0.02, 0.15) * _coloured(rng)


def _machine(rng: np.random.Generator) -> np.ndarray:
    """A press or loom: metallic strokes in a fixed rhythm."""
    rate, out = rng.uniform(2.5, 9), np.zeros(SAMPLES)
    pattern = rng.lognormal(0, 0.6, rng.integers(2, 5))
    for k, time in enumerate(np.arange(0.02, 3.95, 1 / rate)):
        out[int(time * SAMPLE_RATE)] += pattern[k % len(pattern)]
    out = fftconvolve(out, _ring(rng, 700, 5000, (0.02, 0.12)))[:SAMPLES]
    hiss = sosfilt(_band(rng.uniform(800, 3000)), _white(rng)) * (0.5 + 0.5 * np.sin(2 * np.pi * rate * _TIMES))
    return _unit(out) + rng.uniform(0.1, 0.4) * _unit(hiss)


def _band(centre: float) -> np.ndarray:
    from scipy.signal import butter

    return butter(2, [0.7 * centre, 1.4 * centre], "bandpass", fs=SAMPLE_RATE, output="sos")


BABBLE = "babble"
KINDS: dict[str, Maker] = {
    "coloured": _coloured,
    "modulated": _modulated,
    "hum": _hum,
    "impulses": _impulses,
    "weather": _weather,
}
HELD_OUT: dict[str, Maker] = {"siren": _siren, "birds": _birds, "machine": _machine}


def _names(split: str) -> list[str]:
    if split not in NOISE_SPLITS:
        raise ValueError(f"noise split is {split!r}; expected one of {', '.join(NOISE_SPLITS)}")
    return list(HELD_OUT) if split == UNMATCHED else [*KINDS, BABBLE]


def first_kind(split: str, index: int) -> str:
    """The kind of noise clip `index` of a split; in training, of the first of the two that it may have."""
    names = _names(split)
    return names[index % len(names)]


def make_noise(split: str, index: int) -> NoiseClip:
    """Noise clip `index` of a split; the kinds take turns, and in training a fourth of the clips have two at once."""
    names, chosen = _names(split), [first_kind(split, index)]
    rng = stream("noise", split, index)
    if split == "train" and rng.random() < 0.25:
        chosen.append(str(rng.choice([name for name in names if name != chosen[0]])))
    makers = KINDS | HELD_OUT
    parts = [_babble(rng, split) if name == BABBLE else makers[name](rng) for name in chosen]
    audio = sum(10 ** (rng.uniform(-6, 6) / 20) * _unit(part) for part in parts)
    return NoiseClip("+".join(chosen), level(np.asarray(audio, np.float32)))
