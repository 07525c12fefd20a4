from __future__ import annotations

import pytest
import torch

from avdiff.audio.representation import STFT, Compressed, FrameSTFT, local_mean, squared_magnitude


@pytest.mark.parametrize("samples", [1600, 1599, 700])
def test_adjoint_is_the_transpose(samples: int) -> None:
    stft = FrameSTFT().double()
    x = torch.randn(2, samples, dtype=torch.float64)
    z = torch.randn(2, stft.bins, samples // stft.hop + 1, dtype=torch.complex128)
    torch.testing.assert_close((stft(x).conj() * z).real.sum(), (x * stft.adjoint(z, samples)).sum())


def test_gain_is_the_mean_eigenvalue() -> None:
    stft, samples = FrameSTFT(16, 5).double(), 40
    eye = torch.eye(samples, dtype=torch.float64)
    gram = stft.adjoint(stft(eye), samples)
    torch.testing.assert_close(gram, gram.T)
    assert stft.gain(samples) == pytest.approx(torch.linalg.eigvalsh(gram).mean().item())


def test_gain_of_the_papers_transform() -> None:
    assert FrameSTFT(510, 160).gain(64_000) == pytest.approx(307, rel=0.01)


@pytest.mark.parametrize("transform", [STFT(), FrameSTFT(), STFT(510, 128)])
def test_inverse(transform: STFT) -> None:
    x = torch.randn(2, 3, 4000)
    spectrogram = transform(x)
    assert spectrogram.shape == (2, 3, 256, 4000 // transform.hop + 1)
    torch.testing.assert_close(transform.inverse(spectrogram, 4000), x, atol=1e-5, rtol=0)


def test_compression_keeps_the_phase() -> None:
    u = torch.randn(50, dtype=torch.complex128)
    torch.testing.assert_close(Compressed(u, 2 / 3, 0.0).value, torch.polar(u.abs() ** (2 / 3), u.angle()))


@pytest.mark.parametrize("exponent", [1.0, 2 / 3, 0.3])
def test_compression_derivative(exponent: float) -> None:
    u, r = torch.randn(2, 50, dtype=torch.complex128)
    u[0] = 0
    step = 1e-6
    forward, backward = (Compressed(u + s * r, exponent, 0.1).value for s in (step, -step))
    found = Compressed(u, exponent, 0.1).derivative(r)
    torch.testing.assert_close(found, (forward - backward) / (2 * step), atol=1e-7, rtol=1e-7)


def test_odd_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="n_fft must be even"):
        STFT(511, 160)


def test_a_mean_over_a_neighbourhood_counts_what_is_there() -> None:
    power = torch.rand(2, 3, 9, 11)
    mean = local_mean(power, 3, 5)
    assert mean[1, 2, 4, 5].item() == pytest.approx(power[1, 2, 3:6, 3:8].mean().item(), rel=1e-5)
    assert mean[0, 0, 0, 0].item() == pytest.approx(power[0, 0, :2, :3].mean().item(), rel=1e-5)


@pytest.mark.parametrize(("bins", "frames"), [(1, 1), (3, 9), (13, 7), (25, 15), (31, 33)])
def test_local_means_are_those_of_their_definition(bins: int, frames: int) -> None:
    power = torch.rand(2, 20, 17, dtype=torch.float64)
    inside = torch.ones(1, 1, bins, frames, dtype=torch.float64)
    total, count = (
        torch.nn.functional.conv2d(x[:, None], inside, padding=(bins // 2, frames // 2))[:, 0]
        for x in (power, torch.ones_like(power))
    )
    torch.testing.assert_close(local_mean(power, bins, frames), total / count)


def test_a_loud_neighbour_leaves_no_rounding_in_the_means_of_the_quiet() -> None:
    power = torch.full((1, 4, 100), 1e-9)
    power[..., 10:20] = 1e4
    assert local_mean(power, 3, 5)[..., 25:].flatten().tolist() == pytest.approx([1e-9] * 300, rel=1e-5)


def test_a_squared_magnitude_has_the_gradient_of_its_definition_even_of_silence() -> None:
    spectrum = torch.randn(2, 3, dtype=torch.complex128)
    spectrum[0, 0] = 0
    spectrum.requires_grad_()
    power = squared_magnitude(spectrum)
    torch.testing.assert_close(power, spectrum.abs().square())
    power.sum().backward()
    torch.testing.assert_close(spectrum.grad, 2 * spectrum.detach())
