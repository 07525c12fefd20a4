from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avdiff.audio.representation import FrameSTFT
from avdiff.likelihood.autograd import Autograd
from avdiff.likelihood.base import Likelihood
from avdiff.likelihood.mixing import GaussianLikelihood, SpectralLikelihood
from avdiff.likelihood.separation_loss import FrameCosine, MagnitudeCosine, SeparationLoss, Similarity, WaveformCosine
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation

T = 900


def observe(layout: tuple[str, ...] = (NOISE,), scale: float = 0.05) -> Observation:
    y = scale * torch.randn(2, T, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    visible = layout.count(SPEAKER)
    visual = torch.zeros(2, visible, 2, 1) if visible else None
    return Observation(("a", "b"), y, visual, None, layout)


def sources(count: int) -> Tensor:
    return 0.05 * torch.randn(2, count, T, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "likelihood",
    [
        SpectralLikelihood(0.8),
        SpectralLikelihood(0.5, exponent=0.4),
        SpectralLikelihood(0.8, 1.0),
        GaussianLikelihood(0.1),
    ],
)
def test_gradient_is_autograds(likelihood: Likelihood) -> None:
    bound = likelihood.bind(observe())
    x = sources(3).requires_grad_()
    (wanted,) = torch.autograd.grad(bound.log_prob(x).sum(), x)
    found = bound.grad(x.detach(), 1.0)
    assert found.shape == (2, 1, T)
    torch.testing.assert_close(found.expand_as(wanted), wanted)


@pytest.mark.parametrize("separately", [True, False])
def test_back_propagation_finds_the_analytic_gradient(separately: bool) -> None:
    """With the guidance loss, which only some sources take; and the rest of the likelihood is the other's."""
    analytic = SpectralLikelihood(0.8, separation=SeparationLoss(20.0, 0.25))
    layout = (SPEAKER, OFFSCREEN, NOISE)
    wanted, found = (of.bind(observe(layout)) for of in (analytic, Autograd(analytic, separately)))
    x = sources(3)
    for sigma in (0.1, 1.0):
        with torch.no_grad():
            torch.testing.assert_close(found.grad(x, sigma), wanted.grad(x, sigma).expand(2, 3, T))
    torch.testing.assert_close(found.log_prob(x), wanted.log_prob(x))
    assert not Autograd(analytic).closed_form
    assert Autograd(GaussianLikelihood(0.1)).bind(observe()).gaussian is not None


def test_loss_is_the_papers() -> None:
    """-2 beta^2 log p = sum |S(y) - S(sum of sources)|^2 with S = |STFT|^(2/3) e^(j angle)."""
    observation, x = observe(), sources(2)
    window = torch.hann_window(510, dtype=torch.float64)

    def compressed(u: Tensor) -> Tensor:
        z = torch.stft(u, 510, 160, window=window, center=True, pad_mode="constant", return_complex=True)
        return torch.polar(z.abs() ** (2 / 3), z.angle())

    wanted = (compressed(observation.mixture) - compressed(x.sum(1))).abs().square().sum((1, 2)) / (-2 * 0.8**2)
    torch.testing.assert_close(SpectralLikelihood(0.8).bind(observation).log_prob(x), wanted, rtol=1e-4, atol=0)


def test_gain_of_the_input_only_scales_the_loss() -> None:
    likelihood, x = SpectralLikelihood(0.8), sources(2)
    quiet = likelihood.bind(observe(scale=0.05)).log_prob(x)
    loud = likelihood.bind(observe(scale=50.0)).log_prob(1000 * x)
    torch.testing.assert_close(loud, quiet * 1000 ** (4 / 3))


@pytest.mark.parametrize("exponent", [1.0, 2 / 3])
def test_silence_is_finite(exponent: float) -> None:
    bound = SpectralLikelihood(0.8, exponent).bind(observe(scale=0.0))
    assert bound.grad(torch.zeros(2, 2, T), 1.0).isfinite().all()
    assert SpectralLikelihood(0.8, exponent).bind(observe()).grad(torch.zeros(2, 2, T), 1.0).isfinite().all()


def test_closed_form_of_the_plain_stft() -> None:
    """Over white signals the Gaussian's log density agrees with the spectral one."""
    plain = SpectralLikelihood(0.8, exponent=1.0)
    bound, x = plain.bind(observe()), sources(3)
    assert plain.closed_form
    assert bound.gaussian is not None
    gaussian = GaussianLikelihood(bound.gaussian.std).bind(observe())
    torch.testing.assert_close(bound.log_prob(x), gaussian.log_prob(x), rtol=0.05, atol=0)
    compressed = SpectralLikelihood(0.8)
    assert not compressed.closed_form
    assert compressed.bind(observe()).gaussian is None


@pytest.mark.parametrize("similarity", [WaveformCosine(), MagnitudeCosine(), FrameCosine(), FrameCosine(2 / 3)])
def test_similarity_gradient(similarity: Similarity) -> None:
    a, b, direction = sources(3).unbind(1)
    a, step = a + 0.5 * b, 1e-6
    slope = (similarity.value(a + step * direction, b) - similarity.value(a - step * direction, b)) / (2 * step)
    torch.testing.assert_close((similarity.grad(a, b) * direction).sum(-1), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("similarity", [WaveformCosine(), MagnitudeCosine()])
def test_similarity_of_a_copy_is_one(similarity: Similarity) -> None:
    a, b, _ = sources(3).unbind(1)
    torch.testing.assert_close(similarity.value(a, -2 * a), torch.ones(2, dtype=torch.float64))
    assert (similarity.value(a, b) < 0.9).all()
    assert similarity.grad(torch.zeros_like(a), b).isfinite().all()
    assert not similarity.grad(a, torch.zeros_like(b)).any()


@pytest.mark.parametrize("exponent", [1.0, 2 / 3])
def test_similarity_of_frames_is_summed_over_frames(exponent: float) -> None:
    """Each counts once, however loud; so half a clip in common is half the frames of a whole one."""
    similarity = FrameCosine(exponent)
    a, b, _ = sources(3).unbind(1)
    frames = T // 160 + 1
    whole = similarity.value(a, -2 * a)
    torch.testing.assert_close(whole, torch.full((2,), float(frames), dtype=torch.float64), rtol=1e-3, atol=0)
    assert (similarity.value(a, b) < 0.95 * frames).all()
    lone = torch.zeros(2, 160 * 40, dtype=torch.float64)
    lone[:, : 160 * 20] = 0.05 * torch.randn(
        2, 160 * 20, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    louder = torch.cat([lone[:, : 160 * 10], 30 * lone[:, 160 * 10 :]], dim=1)
    torch.testing.assert_close(
        similarity.value(lone, louder), torch.full((2,), 21.0, dtype=torch.float64), rtol=0.1, atol=0
    )
    stft = FrameSTFT().to(a)
    magnitudes = [stft(x).abs() ** exponent for x in (a, b)]
    known = torch.nn.functional.cosine_similarity(*magnitudes, dim=-2).sum(-1)
    torch.testing.assert_close(similarity.value(a, b), known, rtol=0.01, atol=0)
    assert similarity.grad(torch.zeros_like(a), b).isfinite().all()
    assert not similarity.grad(a, torch.zeros_like(b)).any()


def test_separation_pushes_only_speakers_with_lips() -> None:
    layout = (SPEAKER, SPEAKER, OFFSCREEN, NOISE)
    likelihood = SpectralLikelihood(0.8, separation=SeparationLoss(20.0, 0.25))
    bound, x = likelihood.bind(observe(layout)), sources(4)
    push = bound.tilt(x, 0.2)
    assert push is not None
    assert push[:, :2].any()
    assert not push[:, 2:].any()
    torch.testing.assert_close(bound.grad(x, 0.2), bound.grad(x, 0.3) + push)
    assert bound.tilt(x, 0.25) is None
    assert bound.grad(x, 0.25).shape[1] == 1
    alone = SeparationLoss(20.0, 0.25).bind(layout)
    assert alone is not None
    ahead, behind = (alone.value(x + s * push).sum() for s in (1e-6, -1e-6))
    assert ahead < behind  # the force goes down the loss


@pytest.mark.parametrize("layout", [(SPEAKER, SPEAKER, NOISE), (OFFSCREEN, NOISE)])
def test_separation_needs_both_sides(layout: tuple[str, ...]) -> None:
    bound = SpectralLikelihood(0.8, separation=SeparationLoss()).bind(observe(layout))
    assert bound.tilt(sources(len(layout)), 0.01) is None


def test_two_off_screen_speakers_are_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        SpectralLikelihood(0.8, separation=SeparationLoss()).bind(observe((SPEAKER, OFFSCREEN, OFFSCREEN)))
