"""Gaussian noise whose level differs from bin to bin: what a denoiser of a source hears when other sources are near."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from avdiff.audio.representation import STFT, local_mean, squared_magnitude
from avdiff.errors import UserError
from avdiff.types import SAMPLE_RATE

Smoother = Callable[[Tensor], Tensor]  # of powers (count, bins, frames)
Weights = Mapping[str, float]

_PERIOD = 4096  # points of a period of a buzz
_DB = math.log(10) / 20  # natural log of an amplitude a decibel


def _random_mean(power: Tensor) -> Tensor:
    """Means over a neighbourhood of random size, up to 15 bins and 23 frames."""
    return local_mean(power, *(1 + 2 * int(torch.randint(0, most, ())) for most in (8, 12)))


SMOOTHERS: Mapping[str, Smoother] = {
    "none": lambda power: power,
    "3x3": lambda power: local_mean(power, 3, 3),
    "5x9": lambda power: local_mean(power, 5, 9),
    "25x15": lambda power: local_mean(power, 25, 15),
    "random": _random_mean,
    "time": lambda power: power.mean(2, keepdim=True).expand_as(power),
    "all": torch.ones_like,  # of powers of unit mean
}  # by name: bins x frames that are averaged over


def smoothed(power: Tensor, weights: Weights, **others: Smoother) -> Tensor:
    """Powers (count, bins, frames), each clip's by a smoother that is drawn for it.

    Args:
        weights: probability of each smoother, by its name in `SMOOTHERS` or `others`; they sum to 1.
    """
    known = {**SMOOTHERS, **others}
    drawn = torch.rand(len(power), 1, 1, device=power.device)
    out, reach = power, 0.0
    for name, weight in weights.items():
        out = torch.where(drawn >= reach, known[name](power), out)
        reach += weight
    return out


@dataclass(frozen=True)
class RandomCovariance:
    """Random diagonal covariances in the STFT, and what the denoiser is told of them.

    A covariance is a sum of one or two components, each the product of a tilt, smooth random fields over frequency, time
    and both, pauses, and the harmonics of a gliding pitch. Those of voices instead have the spectrogram of another clean
    clip, over one such component. The noise is white noise shaped so, or, for some clips, in stretches, a buzz of a gliding
    pitch and random phases: a denoiser that hears partials add up in phase would else take every partial for its own talker's.
    All of it is drawn; no mixture of recordings is ever heard. Where lips are all that tells two talkers apart, this is what
    teaches a prior to read them. The denoiser is told some covariances exactly, and others smoothed, over neighbouring bins or
    over all of them, and off by a few decibels, as estimates of other sources are. Ours.

    Attributes:
        white: share of the clips with white noise, always told exactly: the noise of an unshaped diffusion.
        exact: share of the others that is told exactly.
        voices: share of the others that have the spectrogram of another clip of the batch.
        second: share of those with the spectrogram of one more clip in them, down to 12 dB weaker than the first.
        buzz: share of those that are not white whose noise is voiced in stretches.
        estimated: share of those that are not white that is told what EM would have found: see `estimate`.
        floor_db: least level in a bin, relative to the mean power of the clip.
        voice_smoothers: probabilities of the smoothers, by name, of the spectrogram that another clip lends.
        told_smoothers: of what is told of such noise; "guess" is what is told of other noise.
        guess_smoothers: of what is told of other noise, before it is made wrong by a few decibels.
        start_smoothers: of the spectrograms that EM begins with, see `estimate`.
    """

    white: float = 0.2
    exact: float = 0.2
    voices: float = 0.0
    second: float = 0.0
    buzz: float = 0.0
    estimated: float = 0.0
    floor_db: float = -45.0
    voice_smoothers: Weights = field(default_factory=lambda: {"none": 1 / 3, "3x3": 1 / 3, "5x9": 1 / 3})
    told_smoothers: Weights = field(default_factory=lambda: {"3x3": 0.25, "5x9": 0.3, "25x15": 0.2, "guess": 0.25})
    guess_smoothers: Weights = field(default_factory=lambda: {"none": 0.35, "random": 0.35, "time": 0.15, "all": 0.15})
    start_smoothers: Weights = field(default_factory=lambda: {"5x9": 0.2, "25x15": 0.4, "time": 0.4})

    def __post_init__(self) -> None:
        for name in ("voice_smoothers", "told_smoothers", "guess_smoothers", "start_smoothers"):
            weights = getattr(self, name)
            allowed = {*SMOOTHERS, "guess"} if name == "told_smoothers" else {*SMOOTHERS}
            if not weights.keys() <= allowed or min(weights.values(), default=-1.0) < 0:
                raise UserError(
                    f"{name} is {dict(weights)}; give positive weights to some of {', '.join(sorted(allowed))}"
                )
            if not math.isclose(sum(weights.values()), 1.0, abs_tol=1e-6):
                raise UserError(f"the weights of {name} sum to {sum(weights.values()):g}; they must sum to 1")

    def draw(self, stft: STFT, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Noise for every clip (count, samples), of unit mean square, and what is told of its deviation (count, bins, frames).

        Args:
            stft: of the denoiser.
            clips: of talkers, (count, samples); with `voices` each lends its spectrogram to the next one's noise.
        """
        count, samples = clips.shape
        voiced = _chance(count, self.buzz, clips.device)
        powers = squared_magnitude(stft(clips)) / stft.energy if self.voices else None
        deviation, told = self.sample(count, stft.bins, samples // stft.hop + 1, clips.device, powers, voiced)
        source = torch.randn(count, samples, device=clips.device)
        if not self.buzz:
            return stft.inverse(stft(source) * deviation, samples), told
        shaped = (deviation != 1).any(2, keepdim=True).any(1, keepdim=True)
        on = _field(count, 1, samples // stft.hop, (1, 1), (3, 24), clips.device).add(0.5).mul(6).sigmoid()
        on = (on * (voiced & shaped)).repeat_interleave(stft.hop, -1)[:, 0]
        on = F.pad(on, (0, samples - on.shape[1]))
        source = on * buzzing(count, samples, clips.device) + (1 - on.square()).sqrt() * source
        return stft.inverse(stft(source) * deviation, samples), told

    def estimate(self, stft: STFT, clean: Tensor, noise: Tensor, told: Tensor) -> Tensor:
        """What is told, where a share `estimated` of the shaped clips gets what EM would have found.

        It is the EM of `LocalEM` with Wiener filters for denoisers, which let at least some of everything pass, of none to
        three rounds, from spectrograms that are smoothed, or means over all time, and wrong. The estimate of the others then
        holds some of the talker and lacks what the talker's own holds of them: errors that go along with what is to be found,
        unlike those of `_guess`.

        Args:
            clean, noise: (count, samples).
            told: deviations, (count, bins, frames), in the units of noise.
        """
        if not self.estimated:
            return told
        count, device = len(clean), clean.device
        own, others = (self._start(squared_magnitude(stft(part)) / stft.energy) for part in (clean, noise))
        heard = squared_magnitude(stft(clean + noise)) / stft.energy
        least = 10 ** -_uniform(count, 0.7, 2, device)
        fine, rounds = _chance(count, 0.3, device), torch.randint(0, 4, (count, 1, 1), device=device)
        for done in range(3):
            share = (others / (others + own)).clamp(least, 1 - least)
            error = share * own  # of either estimate
            found = [part.square() * heard + error for part in (share, 1 - share)]
            found = [torch.where(fine, local_mean(power, 3, 3), local_mean(power, 5, 9)) for power in found]
            others, own = (torch.where(done < rounds, *pair) for pair in zip(found, (others, own), strict=True))
        shaped = told.amax((1, 2), keepdim=True) > told.amin((1, 2), keepdim=True)
        return torch.where(_chance(count, self.estimated, device) & shaped, others.sqrt(), told)

    def _start(self, power: Tensor) -> Tensor:
        """What EM may begin with for a source of that power (count, bins, frames)."""
        return smoothed(power, self.start_smoothers) * self._wrong(power, 6) + 1e-9

    def sample(
        self,
        count: int,
        bins: int,
        frames: int,
        device: torch.device,
        clips: Tensor | None = None,
        voiced: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Deviations of the noise and what is told of them, both (count, bins, frames), of unit mean square.

        Args:
            clips: power of the clips of the batch (count, bins, frames), for `voices`. Each takes its next one's.
            voiced: (count, 1, 1) bool, whose noise will buzz: there a voice lends no harmonics of its own.
        """
        level = self._component(count, bins, frames, device)
        other = self._component(count, bins, frames, device) + _uniform(count, -12, 0, device) * _DB
        level = torch.where(_chance(count, 0.5, device), torch.logaddexp(2 * level, 2 * other) / 2, level)
        power = _unit((2 * level).exp()).clamp_min(self._floor)
        told = torch.where(_chance(count, self.exact, device), power, self._guess(power))
        if self.voices and clips is not None and count > 1:
            voices, heard = self._voices(clips, power, voiced)
            voice = _chance(count, self.voices, device)
            power, told = torch.where(voice, voices, power), torch.where(voice, heard, told)
        white = _chance(count, self.white, device)
        return torch.where(white, 1.0, power).sqrt(), torch.where(white, 1.0, told).sqrt()

    @property
    def _floor(self) -> float:
        return 10 ** (self.floor_db / 10)

    def _voices(self, clips: Tensor, ground: Tensor, voiced: Tensor | None) -> tuple[Tensor, Tensor]:
        """Power of noise like other clips over some `ground` of unit mean, and what is told of it."""
        count, device = len(clips), clips.device
        power, another = (_unit(clips.roll(places, 0) + 1e-10) for places in (1, 2))
        if self.second:
            gain = 10 ** (_uniform(count, -12, 0, device) / 10) * _chance(count, self.second, device)
            power = _unit(power + gain * another)
        near = smoothed(power, self.voice_smoothers)
        power = near if voiced is None else torch.where(voiced, local_mean(power, 9, 5), near)
        power = _unit(power + ground * 10 ** (_uniform(count, -15, 3, device) / 10)).clamp_min(self._floor)
        told = smoothed(power, self.told_smoothers, guess=self._guess)
        return power, torch.where(_chance(count, self.exact, device), power, told)

    def _guess(self, power: Tensor) -> Tensor:
        """What another estimate would say of a covariance: smoothed, sometimes over all of time or of both, and wrong."""
        return smoothed(power, self.guess_smoothers) * self._wrong(power, 8)

    @staticmethod
    def _wrong(power: Tensor, most: float) -> Tensor:
        """Factors of a power (count, bins, frames) that is known to within a few decibels, at most `most` from bin to bin."""
        count, bins, frames = power.shape
        decibel = _field(count, bins, frames, (3, 24), (1, 40), power.device) * _uniform(count, 0, most, power.device)
        return (2 * _DB * (decibel + 3 * torch.randn(count, 1, 1, device=power.device))).exp()

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


def buzzing(count: int, samples: int, device: torch.device) -> Tensor:
    """All harmonics of gliding pitches of 80 to 300 Hz, at random phases, as dense as white noise: (count, samples)."""
    glide = _field(count, 1, samples, (1, 1), (2, 12), device)[:, 0]
    pitch = (_uniform(count, math.log(80), math.log(300), device)[:, 0] + 0.15 * glide).exp() / SAMPLE_RATE
    harmonic = torch.arange(1, _PERIOD // 2 + 1, device=device)
    inside = harmonic * pitch.mean(1, keepdim=True) < 0.49  # one period for the whole clip, by its mean pitch
    phase = 2 * math.pi * torch.rand(count, len(harmonic), device=device)
    lines = F.pad(torch.polar(inside.float(), phase), (1, 0))
    period = torch.fft.irfft(lines, _PERIOD, norm="forward")
    place = (pitch.double().cumsum(1) % 1 * _PERIOD).float()
    left = place.long()
    share = place - left
    near = [period.gather(1, (left + step) % _PERIOD) for step in (0, 1)]
    return (near[0] + share * (near[1] - near[0])) * pitch.sqrt()


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
