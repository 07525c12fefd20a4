"""How sure a separation is, second by second, and whether someone is heard who is not seen. Nothing here is trained.

Two witnesses speak for a voice. Steadiness: a recording is separated twice, with and without an off-screen speaker, and what
changes between the two is not settled by the lips: 1 / (1 + D), D the power of the difference over that of the voice. Agreement:
the correlation, in dB at 25 frames a second, of its loudness with that which the lips announce (the `deviation` of a speech
prior). The confidence of a second is their product.

Someone unseen is heard where the off-screen speaker takes much of all voices. How often that is right, and what the confidence
says of SI-SDR, is measured by `python -m experiments.benchmarks.unseen`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avdiff.priors.base import ConditionalDiffusionPrior
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_FPS, Observation

UNSEEN = -3.5  # dB: an off-screen speaker's share of the power of all voices, from which one is there
LOUD = -20.0  # dB below the loudest second of the recording, under which a second says nothing of who is heard
FLOOR = 40.0  # dB below a voice's loudest frame, under which its loudness says nothing
BESIDE = 2  # seconds to each side that the agreement of a second is measured over
SILENT = 1e-12  # power


@dataclass(frozen=True)
class Confidence:
    """What the witnesses say, one value a second; the last second may be a part of one.

    Attributes:
        voices: (K, seconds) confidence in the voice of each visible speaker, 0 to 1; NaN where the voice is silent.
        levels: (K, seconds) power of these voices.
        unseen: (seconds,) share of an off-screen speaker in the power of all voices, in dB; -inf where there is none.
        share: the same of the whole recording.
        heard: (seconds,) bool: whether that second is loud enough to ask who speaks.
    """

    voices: np.ndarray
    levels: np.ndarray
    unseen: np.ndarray
    share: float
    heard: np.ndarray

    @property
    def someone_unseen(self) -> bool:
        """Whether a voice is heard that no visible mouth explains."""
        return self.share > UNSEEN

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) in seconds of where it is heard."""
        return spans((self.unseen > UNSEEN) & self.heard)

    def overall(self, voice: int) -> float:
        """Of a voice, the mean over its seconds weighted by their power; NaN of a silent one."""
        known = np.isfinite(self.voices[voice]) & (self.levels[voice] > 0)
        if not known.any():
            return math.nan
        return float(np.average(self.voices[voice][known], weights=self.levels[voice][known]))


def spans(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of every run of True in (n,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(a, b) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


@torch.no_grad()
def announced(prior: ConditionalDiffusionPrior, observation: Observation) -> np.ndarray | None:
    """Loudness that lips announce, (K, F) dB at 25 frames a second, of a batch of one; NaN where a face is not seen.

    Returns:
        None of a prior that cannot say, or without faces.
    """
    if observation.visual is None:
        return None
    mask = observation.visual_mask
    condition = prior.embed(observation.visual[0], None if mask is None else mask[0])
    known = prior.deviation(observation.mixture.shape[-1], condition)
    if known is None:
        return None
    frames = observation.visual.shape[2]
    power = torch.nn.functional.adaptive_avg_pool1d(known.float().square().sum(1), frames)
    loudness = (10 * power.clamp_min(SILENT).log10()).cpu().numpy()
    return loudness if mask is None else np.where(mask[0].cpu().numpy(), loudness, np.nan)


class Witnesses:
    """Listens to two separations of a recording as they go on, and says at the end how sure they are.

    Args:
        visible: how many speakers are seen; they come first in both.
    """

    def __init__(self, visible: int) -> None:
        self.visible = visible
        self._frames: list[np.ndarray] = []  # (rows, F) each: see `add`

    def add(self, without: Tensor, beside: Tensor, lips: np.ndarray | None) -> None:
        """Go on by a piece of whole seconds, or the last one.

        Args:
            without: (K + 1, n) at 16 kHz: the voices that are seen, and the noise.
            beside: (K + 2, n): the same with an off-screen speaker before the noise.
            lips: (K, F) of `announced`, or None.
        """
        count, voices = -(-without.shape[-1] // SAMPLES_PER_FRAME), self.visible
        told = np.full((voices, count), np.nan) if lips is None else lips[:, :count]
        parts = [
            *_power(without[:voices]),
            *_power(beside[:voices]),
            *_power(without[:voices] - beside[:voices]),
            *_power(beside[voices : voices + 1]),
            *_power(without.sum(0, keepdim=True)),
            *np.pad(told, ((0, 0), (0, count - told.shape[1])), constant_values=np.nan),
        ]
        self._frames.append(np.stack(parts))

    def judge(self) -> Confidence:
        """All together."""
        k = self.visible
        rows = np.concatenate(self._frames, axis=1)
        one, other, apart = rows[:k], rows[k : 2 * k], rows[2 * k : 3 * k]
        unseen, mixture, lips = rows[3 * k], rows[3 * k + 1], rows[3 * k + 2 :]
        level, change = _seconds(0.5 * (one + other)), _seconds(apart)
        steady = np.where(level > SILENT, 1 / (1 + change / np.maximum(level, SILENT)), np.nan)
        agreement = np.stack([_agreement(one[i], lips[i], steady.shape[1]) for i in range(k)])
        seen, extra, total = _seconds(other).sum(0), _seconds(unseen[None])[0], _seconds(mixture[None])[0]
        return Confidence(
            steady * agreement,
            level,
            _decibel(extra, seen + extra),
            float(_decibel(extra.sum(), (seen + extra).sum())),
            total > 10 ** (LOUD / 10) * total.max(initial=SILENT),
        )


def _power(x: Tensor) -> np.ndarray:
    """(K, n) -> (K, frames) energy of every frame, of which the last may be a part."""
    x = torch.nn.functional.pad(x.double(), (0, -x.shape[-1] % SAMPLES_PER_FRAME))
    return x.square().unflatten(-1, (-1, SAMPLES_PER_FRAME)).sum(-1).numpy() / SAMPLE_RATE


def _seconds(frames: np.ndarray) -> np.ndarray:
    """(K, frames) -> (K, seconds), sums."""
    padded = np.pad(frames, ((0, 0), (0, -frames.shape[1] % VIDEO_FPS)))
    return padded.reshape(len(frames), -1, VIDEO_FPS).sum(-1)


def _decibel(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.where(whole > SILENT, part / np.maximum(whole, SILENT), 0.0))


def _agreement(power: np.ndarray, lips: np.ndarray, seconds: int) -> np.ndarray:
    """(seconds,) correlation of a voice's loudness with what its lips announce, 0 to 1; 1 where they announce nothing."""
    loudness = 10 * np.log10(np.maximum(power, max(SILENT, power.max() * 10 ** (-FLOOR / 10))))
    out = np.ones(seconds)
    for second in range(seconds):
        part = slice(max(0, second - BESIDE) * VIDEO_FPS, (second + BESIDE + 1) * VIDEO_FPS)
        heard, told = loudness[part], lips[part]
        known = np.isfinite(told)
        if known.sum() < VIDEO_FPS:
            continue
        heard, told = heard[known] - heard[known].mean(), told[known] - told[known].mean()
        scale = math.sqrt(float(heard @ heard) * float(told @ told))
        out[second] = max(0.0, float(heard @ told) / scale) if scale > 0 else 0.0
    return out
