"""y = sum of all sources: the likelihood of a mixture in the STFT domain and in the time domain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from avdiff.audio.representation import Compressed, FrameSTFT, squared_magnitude
from avdiff.likelihood.base import BoundLikelihood, Curvature, GaussianSum, Likelihood
from avdiff.likelihood.separation_loss import BoundSeparationLoss, SeparationLoss
from avdiff.types import Observation

_SMALLEST = 1e-12  # floor of a magnitude: keeps silence finite


@dataclass(frozen=True)
class SpectralLikelihood(Likelihood):
    """log p(y | x) = -L / (2 beta^2),  L = sum_{m,f} |S(y) - S(sum_k x_k)|^2,  S(u) = |A u|^p e^(j angle A u).

    SSNAPS, eq. (15)-(17); A is the STFT. All sources share one gradient, A^T of a per-bin expression, so a gradient
    costs one STFT and one adjoint however many sources there are. Not known from the paper: the exponent p (2/3 is
    BUDDy's; 1 is the plain STFT, whose likelihood is Gaussian), sum or mean (a sum here), the STFT's scaling (none).

    Attributes:
        beta: the paper's surrogate of the observation's standard deviation, in units of S.
        exponent: p in (0, 1].
        n_fft: window of A in samples.
        hop: hop of A in samples.
        epsilon: S' has a pole at 0 for p < 1. Below `epsilon` times the mixture's root mean square magnitude, S is
            linear instead. Being relative, it leaves the likelihood independent of gain: scaling y and x by c scales L
            by c^(2p) exactly.
        separation: the off-screen loss, used only where the layout has an off-screen speaker.
    """

    beta: float
    exponent: float = 2 / 3
    n_fft: int = 510
    hop: int = 160
    epsilon: float = 1e-3
    separation: SeparationLoss | None = None

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; a standard deviation must be positive")
        if not 0 < self.exponent <= 1:
            raise ValueError(f"exponent is {self.exponent}; it must lie in (0, 1], where 1 is the plain STFT")
        FrameSTFT(self.n_fft, self.hop)

    @property
    def closed_form(self) -> bool:
        return self.exponent == 1

    def bind(self, observation: Observation) -> BoundLikelihood:
        stft = FrameSTFT(self.n_fft, self.hop).to(observation.mixture)
        mixture = observation.mixture[:, None]
        spectrum = stft(mixture)
        rms = squared_magnitude(spectrum).mean((-2, -1), keepdim=True).sqrt()
        epsilon = (self.epsilon * rms).clamp_min(_SMALLEST)
        separation = self.separation.bind(observation.layout) if self.separation else None
        # For p = 1 and A^T A = G I the likelihood is Gaussian in the time domain too; G is the mean eigenvalue.
        gain = stft.gain(mixture.shape[-1])
        std = self.beta / gain**0.5
        gaussian = GaussianSum(mixture[:, 0], std) if self.closed_form else None
        target = Compressed(spectrum, self.exponent, epsilon).value
        return _BoundSpectral(self, stft, gain, target, epsilon, gaussian, separation)


@dataclass(frozen=True)
class _BoundSpectral:
    settings: SpectralLikelihood
    stft: FrameSTFT
    gain: float  # G
    target: Tensor  # (B, 1, F, M) complex, S(y)
    epsilon: Tensor  # (B, 1, 1, 1)
    gaussian: GaussianSum | None
    separation: BoundSeparationLoss | None

    def log_prob(self, x: Tensor) -> Tensor:
        residual = self.target - self._compressed(x).value
        return squared_magnitude(residual).sum((-3, -2, -1)) / (-2 * self.settings.beta**2)

    def grad(self, x: Tensor, sigma: float) -> Tensor:
        compressed = self._compressed(x)
        residual = compressed.derivative(self.target - compressed.value)
        shared = self.stft.adjoint(residual, x.shape[-1]) / self.settings.beta**2
        tilt = self.tilt(x, sigma)
        return shared if tilt is None else shared + tilt

    def curvature(self, x: Tensor) -> Curvature:
        return _SpectralCurvature(self.stft, self._compressed(x), self.settings.beta, self.gain)

    def tilt(self, x: Tensor, sigma: float) -> Tensor | None:
        if self.separation is None or not self.separation.active(sigma):
            return None
        return self.separation.grad(x) / (-2 * self.settings.beta**2)

    def _compressed(self, x: Tensor) -> Compressed:
        return Compressed(self.stft(x.sum(1, keepdim=True)), self.settings.exponent, self.epsilon)


@dataclass(frozen=True)
class _SpectralCurvature:
    """H = A^T S'^2 A / beta^2. With A^T A = G I it has the eigenvalues G S'^2 / beta^2, in a bin one along U and one across."""

    stft: FrameSTFT
    compressed: Compressed  # at A u, (B, 1, F, M)
    beta: float
    gain: float  # G

    def filter(self, signal: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        radial, tangential = (gain(s.square() * (self.gain / self.beta**2)) for s in self.compressed.slopes)
        spectrum = self.stft(signal)
        along = self.compressed.along(spectrum)
        out = tangential * spectrum + (radial - tangential) * along
        return self.stft.inverse(out, signal.shape[-1])  # not A^T / G: what is not filtered must come back as it was


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    """log p(y | x) = -||y - sum_k x_k||^2 / (2 std^2) in the time domain (SSNAPS, eq. 10).

    Attributes:
        std: standard deviation of the observation's noise, in waveform units at the priors' level.
    """

    std: float

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std is {self.std}; a standard deviation must be positive")

    @property
    def closed_form(self) -> bool:
        return True

    def bind(self, observation: Observation) -> BoundLikelihood:
        return _BoundGaussian(GaussianSum(observation.mixture, self.std))


@dataclass(frozen=True)
class _BoundGaussian:
    gaussian: GaussianSum

    def log_prob(self, x: Tensor) -> Tensor:
        return self._residual(x).square().sum((-2, -1)) / (-2 * self.gaussian.std**2)

    def grad(self, x: Tensor, sigma: float) -> Tensor:
        return self._residual(x) / self.gaussian.std**2

    def curvature(self, x: Tensor) -> Curvature:
        return _WhiteCurvature(self.gaussian.std**-2)

    def tilt(self, x: Tensor, sigma: float) -> Tensor | None:
        return None

    def _residual(self, x: Tensor) -> Tensor:
        return self.gaussian.mixture[:, None] - x.sum(1, keepdim=True)


@dataclass(frozen=True)
class _WhiteCurvature:
    """H = precision I."""

    precision: float

    def filter(self, signal: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        return gain(signal.new_tensor(self.precision)) * signal
