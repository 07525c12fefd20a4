"""Bring your own denoiser: any diffusion network of waveforms as a `DiffusionPrior`.

A network is described by three things. What it was trained on, x_t = a x0 + s n (a `Process`: a and s as functions of the noise
level sigma = s / a, and the number that it is given for the time); what it predicts (a `Form`); and at what level it wants
waveforms. See "Bring your own denoiser" in CONTRIBUTING.md for a whole example.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avdiff.priors.base import ConditionalDiffusionPrior, DiffusionPrior
from avdiff.types import SAMPLE_RATE


class Process(nn.Module, ABC):
    """x_t = a x0 + s n with n ~ N(0, I), addressed by the noise level sigma = s / a."""

    @abstractmethod
    def at(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, s and what the network is given for the time, (N,) each, at noise levels sigma (N,)."""


def _itself(sigma: Tensor) -> Tensor:
    return sigma


class VE(Process):
    """Variance exploding: a = 1, s = sigma (NCSN, EDM).

    Args:
        time: sigma (N,) to what the network is given: sigma itself, or `lambda s: s.log() / 4` for one of EDM's.
    """

    def __init__(self, time: Callable[[Tensor], Tensor] = _itself) -> None:
        super().__init__()
        self.time = time

    def at(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ones_like(sigma), sigma, self.time(sigma)


def _preserving(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """a and s with a^2 + s^2 = 1."""
    a = (1 + sigma.square()).rsqrt()
    return a, sigma * a


class ContinuousVP(Process):
    """Variance preserving in continuous time: a^2 = exp(-beta_min t - (beta_max - beta_min) t^2 / 2) (arXiv 2011.13456).

    Noise levels that no time in [0, 1] has get the nearest time; a and s stay those of the level.

    Args:
        beta_min, beta_max: of the linear rate.
        scale: what t in [0, 1] is multiplied by for the network; 999 for networks of score_sde.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 < beta_min < beta_max:
            raise ValueError(f"beta runs from {beta_min} to {beta_max}; it must be positive and rise")
        self.beta_min, self.beta_max, self.scale = beta_min, beta_max, scale

    def at(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, s = _preserving(sigma)
        rise, log = self.beta_max - self.beta_min, torch.log1p(sigma.square())  # log = -2 ln a
        t = 2 * log / (self.beta_min + (self.beta_min**2 + 2 * rise * log).sqrt())  # the root without cancellation
        return a, s, self.scale * t.clamp(0.0, 1.0)


class DiscreteVP(Process):
    """Variance preserving with steps (DDPM): a^2 = alpha_bar[i] at step i.

    A level between two steps gets the step between them, interpolated in ln sigma; beyond the ends, the first or the last.

    Args:
        alpha_bar: (steps,) falling, below 1 and above 0; see `linear_alpha_bar` and `cosine_alpha_bar`.
        whole: the network takes whole steps only, as one with an embedding table does: it is given the nearest.
    """

    levels: Tensor

    def __init__(self, alpha_bar: Tensor, whole: bool = False) -> None:
        super().__init__()
        if alpha_bar.ndim != 1 or len(alpha_bar) < 2:
            raise ValueError(f"alpha_bar has shape {tuple(alpha_bar.shape)}; give one value a step, two or more")
        inside = (alpha_bar > 0).all() and (alpha_bar < 1).all()
        if not inside or not (alpha_bar.diff() < 0).all():
            raise ValueError(
                "alpha_bar must fall from step to step and stay between 0 and 1; it is the product of 1 - beta"
            )
        self.whole = whole
        alpha_bar = alpha_bar.double()
        log_sigma = 0.5 * ((1 - alpha_bar) / alpha_bar).log()
        self.register_buffer("levels", log_sigma.float(), persistent=False)

    def at(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log, levels = sigma.log(), self.levels.to(sigma.dtype)
        after = torch.searchsorted(levels, log.contiguous()).clamp(1, len(levels) - 1)
        low, high = levels[after - 1], levels[after]
        step = (after - 1 + (log - low) / (high - low)).clamp(0, len(levels) - 1)
        return *_preserving(sigma), step.round().long() if self.whole else step


def linear_alpha_bar(steps: int = 1000, beta_first: float = 1e-4, beta_last: float = 0.02) -> Tensor:
    """(steps,) for rates that rise linearly (DDPM, arXiv 2006.11239)."""
    return torch.cumprod(1 - torch.linspace(beta_first, beta_last, steps, dtype=torch.float64), 0)


def cosine_alpha_bar(steps: int = 1000, offset: float = 0.008, beta_most: float = 0.999) -> Tensor:
    """(steps,) of the cosine schedule (arXiv 2102.09672, eq. 17), rates capped at `beta_most`."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((t + offset) / (1 + offset) * math.pi / 2).square()
    return torch.cumprod(1 - (1 - curve[1:] / curve[:-1]).clamp_max(beta_most), 0)


class RectifiedFlow(Process):
    """a = 1 - t, s = t (flow matching with straight paths): t = sigma / (1 + sigma).

    Args:
        scale: what t in [0, 1] is multiplied by for the network.
        reverse: the network counts from noise at 0 to data at 1: it is given 1 - t.
    """

    def __init__(self, scale: float = 1.0, reverse: bool = False) -> None:
        super().__init__()
        self.scale, self.reverse = scale, reverse

    def at(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = 1 / (1 + sigma)
        s = sigma * a
        return a, s, self.scale * (a if self.reverse else s)


class Form(ABC):
    """What a network predicts of x_t = a x0 + s n."""

    @abstractmethod
    def x0(self, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """E[x0 | x_t] from the network's output, (N, T) both; a and s are (N, 1)."""


@dataclass(frozen=True)
class X0(Form):
    """x0 itself."""

    def x0(self, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return output


@dataclass(frozen=True)
class Epsilon(Form):
    """n, the noise of unit variance: x0 = (x_t - s n) / a."""

    def x0(self, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return (x_t - s * output) / a


@dataclass(frozen=True)
class Score(Form):
    """The gradient of ln p(x_t) in x_t: x0 = (x_t + s^2 score) / a."""

    def x0(self, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return (x_t + s.square() * output) / a


@dataclass(frozen=True)
class Velocity(Form):
    """v = a n - s x0 (Salimans and Ho, arXiv 2202.00512): x0 = (a x_t - s v) / (a^2 + s^2)."""

    def x0(self, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return (a * x_t - s * output) / (a.square() + s.square())


@dataclass(frozen=True)
class FlowVelocity(Form):
    """n - x0, the velocity of flow matching towards noise: x0 = (x_t - s v) / (a + s).

    Attributes:
        reverse: the velocity points from noise to data, x0 - n.
    """

    reverse: bool = False

    def x0(self, output: Tensor, x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return (x_t + s * output if self.reverse else x_t - s * output) / (a + s)


class AdaptedPrior(DiffusionPrior):
    """D(x; sigma) of a network that was trained in another form.

    With g the gain, D(x; sigma) = x0(network(a g x, time), ...) / g at the noise level g sigma of the network's own units.

    Args:
        network: called as network(x_t, time) with x_t (N, T) and time (N,), returns (N, T). Wrap one of another shape, such as
            (N, 1, T), in a module that reshapes.
        process: what x_t is.
        form: what the network returns.
        sigma_data: deviation of the training data in waveform units; mixtures are scaled to it.
        gain: what waveforms are multiplied by for the network; None: 1 / sigma_data, for one that was trained on data of unit
            variance, as the processes that preserve it are. Give 1 for one that was trained on waveforms as they are.
        window: samples of a training clip, or None if it takes any length.
        sample_rate: Hz.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        form: Form,
        sigma_data: float = 0.05,
        gain: float | None = None,
        window: int | None = None,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        super().__init__()
        if sigma_data <= 0 or (gain is not None and gain <= 0):
            raise ValueError(f"sigma_data is {sigma_data} and gain {gain}; both must be positive")
        self.network, self.process, self.form = network, process, form
        self.sigma_data, self.window, self.sample_rate = sigma_data, window, sample_rate
        self.gain = 1 / sigma_data if gain is None else gain

    @property
    def evaluated(self) -> nn.Module:
        return self.network

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        a, s, time = self.process.at(self.gain * sigma)
        a, s = a[:, None], s[:, None]
        x_t = a * self.gain * x
        output = self.network(x_t, time) if cond is None else self.network(x_t, time, cond)
        if output.shape != x.shape:
            raise ValueError(
                f"the network returned {tuple(output.shape)} for waveforms of {tuple(x.shape)}; wrap it in a module that "
                "returns the shape it is given"
            )
        return self.form.x0(output, x_t, a, s) / self.gain


class AdaptedVisualPrior(AdaptedPrior, ConditionalDiffusionPrior):
    """The same for a network that also takes video: network(x_t, time, cond) with cond (N, F, dim).

    Args:
        network, process, form, sigma_data, gain, window, sample_rate: see `AdaptedPrior`.
        encoder: mouth crops, uint8 (N, F, 96, 96) at 25 fps, to features (N, F, dim); what the data give, whatever it is.
        null_feature: (dim,) what the network was given in training where there was no video.
    """

    conditional = True
    null_feature: Tensor

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        form: Form,
        encoder: nn.Module,
        null_feature: Tensor,
        sigma_data: float = 0.05,
        gain: float | None = None,
        window: int | None = None,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        super().__init__(network, process, form, sigma_data, gain, window, sample_rate)
        self.encoder = encoder
        self.register_buffer("null_feature", null_feature.clone(), persistent=False)

    def embed(self, visual: Tensor, mask: Tensor | None = None) -> Tensor:
        features = self.encoder(visual)
        return features if mask is None else torch.where(mask[..., None], features, self.null_feature)

    def null(self, count: int, frames: int) -> Tensor:
        return self.null_feature.expand(count, frames, -1)
