"""Gaussian noise whose level differs from bin to bin: what a denoiser of a source hears when other sources are near."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avdiff.audio.representation import local_mean

_DB = math.log(10) / 20  # natural log of an amplitude a decibel


@dataclass(frozen=True)
class RandomCovariance:
    """Random diagonal covariances in the STFT, and what the denoiser is told of them.

    A covariance is a sum of one or two components, each the product of a tilt, smooth random fields over frequency, time
    and both, pauses, and the harmonics of a gliding pitch. No recording takes part. The denoiser is told some of them
    exactly, and others smoothed, over neighbouring bins or over all of them, and off by a few decibels, as estimates of other
    sources are. Ours.

    Attributes:
        white: share of the clips with white noise, always told exactly: the noise of an unshaped diffusion.
        exact: share of the others that is told exactly.
        floor_db: least level in a bin, relative to the mean power of the clip.
    """

    white: float = 0.2
    exact: float = 0.2
    floor_db: float = -45.0

    def sample(self, count: int, bins: int, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Deviations of the noise and what is told of them, both (count, bins, frames), of unit mean square."""
        level = self._component(count, bins, frames, device)
        other = self._component(count, bins, frames, device) + _uniform(count, -12, 0, device) * _DB
        level = torch.where(_chance(count, 0.5, device), torch.logaddexp(2 * level, 2 * other) / 2, level)
        power = _unit((2 * level).exp()).clamp_min(10 ** (self.floor_db / 10))
        told = torch.where(_chance(count, self.exact, device), power, self._guess(power))
        white = _chance(count, self.white, device)
        return torch.where(white, 1.0, power).sqrt(), torch.where(white, 1.0, told).sqrt()

    def _guess(self, power: Tensor) -> Tensor:
        """What another estimate would say of a covariance: smoothed, sometimes over all of time or of both, and wrong."""
        count, bins, frames = power.shape
        size = [1 + 2 * int(torch.randint(0, most, ())) for most in (8, 12)]
        near = local_mean(power, *size)
        reach = torch.rand(count, 1, 1, device=power.device)
        guess = torch.where(reach < 0.35, power, near)
        guess = torch.where(reach > 0.7, power.mean(2, keepdim=True), guess)
        guess = torch.where(reach > 0.85, 1.0, guess)
        wrong = _field(count, bins, frames, (3, 24), (1, 40), power.device) * _uniform(count, 0, 8, power.device)
        wrong = wrong + 3 * torch.randn(count, 1, 1, device=power.device)
        return guess * (2 * _DB * wrong).exp()

    def _component(self, count: int, bins: int, frames: int, device: torch.device) -> Tensor:
        """Log deviation."""
        place = torch.linspace(0, 1, bins, device=device)
        decibel = _uniform(count, -30, 5, device) * place.sqrt()[None, :, None]
        decibel = decibel + _uniform(count, 0, 8, device) * _field(count, bins, 1, (3, 24), (1, 1), device)
        decibel = decibel + _sometimes(count, 0.5, 2, 10, device) * _field(count, 1, frames, (1, 1), (3, 30), device)
        decibel = decibel + _sometimes(count, 0.7, 2, 9, device) * _field(count, bins, frames, (4, 24), (4, 40), device)
        pauses = _field(count, 1, frames, (1, 1), (3, 16), device).add(0.3).mul(8).sigmoid() - 1
        decibel = decibel + _sometimes(count, 0.4, 15, 40, device) * pauses
        pitch = _uniform(count, math.log(80), math.log(330), device)
        pitch = (pitch + 0.15 * _field(count, 1, frames, (1, 1), (2, 12), device)).exp()
        hertz = 8000 * place[None, :, None]
        comb = (2 * math.pi * hertz / pitch).cos() - 1
        comb = comb * (1 - place[None, :, None] * _uniform(count, 0, 1.5, device)).clamp_min(0)
        voiced = _field(count, 1, frames, (1, 1), (3, 16), device).add(0.4).mul(8).sigmoid()
        decibel = decibel + _sometimes(count, 0.5, 4, 13, device) * comb * voiced
        return decibel * _DB


def shaped_noise(stft: torch.nn.Module, deviation: Tensor, samples: int) -> Tensor:
    """Gaussian noise (N, samples) of the given deviation (N, bins, frames) in every bin, that of white noise being one."""
    white = torch.randn(deviation.shape[0], samples, device=deviation.device)
    return stft.inverse(stft(white) * deviation, samples)  # type: ignore[operator]


def _unit(power: Tensor) -> Tensor:
    return power / power.mean((1, 2), keepdim=True)


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, device=device)


def _chance(count: int, share: float, device: torch.device) -> Tensor:
    return torch.rand(count, 1, 1, device=device) < share


def _sometimes(count: int, share: float, low: float, high: float, device: torch.device) -> Tensor:
    return _uniform(count, low, high, device) * _chance(count, share, device)


def _field(
    count: int, bins: int, frames: int, rows: tuple[int, int], columns: tuple[int, int], device: torch.device
) -> Tensor:
    """Smooth Gaussian fields of about unit deviation, from a coarse grid of random size: (count, bins, frames)."""
    grid = [int(torch.randint(low, high + 1, ())) for low, high in (rows, columns)]
    coarse = torch.randn(count, 1, *grid, device=device)
    return F.interpolate(coarse, (bins, frames), mode="bilinear", align_corners=True)[:, 0]
