"""The EDM preconditioning around a network, and what it promises."""

import math

import pytest
import torch

from avdiff.nets.ncsnpp import NCSNpp
from avdiff.priors.edm import EDMPrior
from avdiff.priors.presets import tiny_noise, tiny_speech


def test_scalings_are_karras_table_1() -> None:
    prior = tiny_noise()
    sigma, sd = torch.tensor([0.2]), 0.05
    c_skip, c_out, c_in, c_noise = prior.scalings(sigma)
    assert c_skip.unique().item() == pytest.approx(sd**2 / (0.2**2 + sd**2))
    assert c_out.unique().item() == pytest.approx(0.2 * sd / math.sqrt(0.2**2 + sd**2))
    assert c_in.unique().item() == pytest.approx(1 / math.sqrt(0.2**2 + sd**2))
    assert c_noise.item() == pytest.approx(math.log(0.2) / 4)


def test_denoiser_returns_its_input_when_there_is_no_noise() -> None:
    x = torch.randn(2, 12_345) * 0.05
    with torch.no_grad():
        assert torch.allclose(tiny_noise().denoise(x, torch.full((2,), 1e-6)), x, atol=1e-5)


def test_a_coloured_prior_starts_as_the_wiener_filter() -> None:
    """With F near zero, coloured noise of the prior's own spectrum is shrunk bin by bin by sd² / (sd² + sigma²)."""
    prior = EDMPrior(NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4)), coloured=True)
    torch.nn.init.zeros_(prior.network.output.weight)
    torch.nn.init.zeros_(prior.network.output.bias)
    prior.spectrum.copy_(torch.linspace(1.4, 0.01, 256))
    tone = 0.1 * torch.sin(2 * math.pi * 1000 * torch.arange(32_000) / 16_000)[None]
    sigma = 0.05
    sd = 0.05 * prior.spectrum[32].item()  # bin of 1 kHz at 510 points
    with torch.no_grad():
        clean = prior.denoise(tone, torch.tensor([sigma]))[0, 8000:24_000]
    assert (clean.std() / tone.std()).item() == pytest.approx(sd**2 / (sd**2 + sigma**2), rel=0.02)


def test_a_masked_frame_is_a_null_frame() -> None:
    prior = tiny_speech().eval()
    lips = torch.randint(0, 256, (2, 10, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        hidden = prior.embed(lips, torch.zeros(2, 10, dtype=torch.bool))
        assert torch.allclose(hidden, prior.null(2, 10), atol=1e-6)
        assert not torch.allclose(prior.embed(lips), prior.null(2, 10))


def test_lips_scale_the_wiener_filter_band_by_band() -> None:
    """With F near zero and lips that hear a band at e^g times its usual level, a tone there meets that level's filter."""
    prior = tiny_speech().eval()
    assert prior.heard is not None
    torch.nn.init.zeros_(prior.network.output.weight)
    torch.nn.init.zeros_(prior.network.output.bias)
    loud = 1.5
    with torch.no_grad():
        prior.heard.project.bias.view(prior.heard.hops, prior.heard.bands)[:, 1] = loud
    # where the second band's filter is all there is
    bin_ = int(prior.heard.filters[:, 1].argmax())
    share = (prior.heard.filters[bin_] / prior.heard.filters[bin_].sum())[1].item()
    tone = 0.1 * torch.sin(2 * math.pi * bin_ * 16_000 / 510 * torch.arange(32_000) / 16_000)[None]
    lips = torch.randint(0, 256, (1, 50, 96, 96), dtype=torch.uint8)
    sigma = 0.05
    with torch.no_grad():
        seen = prior.denoise(tone, torch.tensor([sigma]), prior.embed(lips))[0, 8000:24_000]
        unseen = prior.denoise(tone, torch.tensor([sigma]), prior.null(1, 50))[0, 8000:24_000]
    sd = 0.05 * math.exp(share * loud)
    assert (unseen.std() / tone[0, 8000:24_000].std()).item() == pytest.approx(0.5, rel=0.02)
    assert (seen.std() / tone[0, 8000:24_000].std()).item() == pytest.approx(sd**2 / (sd**2 + sigma**2), rel=0.03)


def test_film_starts_blind_and_learns_to_see() -> None:
    prior = tiny_speech()
    x, sigma = torch.randn(1, 6400) * 0.1, torch.tensor([0.1])
    lips = torch.randint(0, 256, (1, 10, 96, 96), dtype=torch.uint8)
    seen, unseen = prior.denoise(x, sigma, prior.embed(lips)), prior.denoise(x, sigma, prior.null(1, 10))
    assert torch.allclose(seen, unseen, atol=1e-6)
    torch.nn.init.normal_(prior.network.encoder[0].film.project.weight)
    torch.nn.init.normal_(prior.network.encoder[0].conv1.weight)
    torch.nn.init.normal_(prior.network.output.weight)
    torch.nn.init.normal_(prior.network.head[-1].weight)
    assert not torch.allclose(prior.denoise(x, sigma, prior.embed(lips)), unseen, atol=1e-4)


def test_network_and_adapter_must_agree() -> None:
    speech = tiny_speech()
    with pytest.raises(ValueError, match="takes 24"):
        EDMPrior(
            NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4), cond_dim=24), 0.05, speech.encoder, speech.adapter
        )


def test_deviation_is_that_of_the_scalings() -> None:
    prior = tiny_speech().eval()
    assert prior.heard is not None
    prior.spectrum.copy_(torch.linspace(1.4, 0.1, 256))
    torch.nn.init.normal_(prior.heard.project.weight, std=0.1)
    cond = prior.embed(torch.randint(0, 256, (2, 25, 96, 96), dtype=torch.uint8))
    known = prior.deviation(16_000, cond)
    assert known is not None
    assert known.shape == (2, 256, 101)
    gains = prior.heard.gains(cond[..., -prior.heard.dim :].transpose(1, 2), 100)
    c_skip = prior.scalings(torch.full((2,), 0.05), gains)[0].squeeze(1)
    assert torch.allclose(known[..., :100] ** 2 / (known[..., :100] ** 2 + 0.05**2), c_skip, atol=1e-5)
    flat = EDMPrior(NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4)))
    assert flat.deviation(16_000) is None


@pytest.mark.parametrize("frozen", [True, False])
def test_the_input_is_differentiated_only_where_an_encoder_learns_from_what_scales_it(frozen: bool) -> None:
    prior, seen = tiny_speech(), []
    assert prior.encoder is not None
    if not frozen:
        prior.encoder.frozen = False
        prior.encoder.requires_grad_(True)
    prior.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].requires_grad))
    cond = prior.embed(torch.randint(0, 256, (1, 10, 96, 96), dtype=torch.uint8))
    assert cond.requires_grad
    prior.predict(torch.randn(1, 6400) * 0.1, torch.tensor([0.1]), cond)
    assert seen == [not frozen]


def test_one_level_everywhere_is_white_noise() -> None:
    prior = tiny_speech().eval()
    lips = torch.randint(0, 256, (2, 25, 96, 96), dtype=torch.uint8)
    x, sigma = torch.randn(2, 16_000) * 0.1, torch.tensor([0.02, 0.1])
    with torch.no_grad():
        cond = prior.embed(lips)
        mean, variance = prior.estimate(x, sigma[:, None, None].expand(2, 256, 101), cond)
        assert torch.allclose(mean, prior.denoise(x, sigma, cond), atol=1e-6)
    assert variance.shape == (2, 256, 101)


def test_a_new_network_is_as_unsure_as_the_wiener_filter_of_every_bin() -> None:
    prior = tiny_noise()
    sigma = torch.full((1, 256, 101), 0.02)
    sigma[:, :, 50:] = 0.3
    with torch.no_grad():
        _, variance = prior.estimate(torch.randn(1, 16_000) * 0.1, sigma)
    expected = 0.05**2 * sigma**2 / (0.05**2 + sigma**2)
    assert torch.allclose(variance, expected, rtol=1e-3)


def test_what_is_told_of_a_bin_reaches_the_network() -> None:
    """The same sound, told quiet or loud noise in one corner, is treated otherwise there by the network itself."""
    torch.manual_seed(0)
    network = NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4), local=True)
    for parameter in (network.local_stem.weight, network.local_head.weight):
        torch.nn.init.normal_(parameter, std=0.1)
    x, c_noise, local = torch.randn(1, 2, 256, 16), torch.zeros(1), torch.zeros(1, 256, 16)
    other = local.clone()
    other[:, :64] = 1.0
    with torch.no_grad():
        difference = (network(x, c_noise, None, local) - network(x, c_noise, None, other))[:, 2]
    assert difference[:, :64].abs().mean() > 1e-3


def test_a_prior_of_white_noise_has_no_estimate() -> None:
    prior = EDMPrior(NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4)))
    with torch.no_grad(), pytest.raises(NotImplementedError, match="white noise only"):
        prior.estimate(torch.zeros(1, 16_000), torch.ones(1, 256, 101))


def test_the_preconditioning_stays_in_float32_where_the_network_runs_in_bfloat16() -> None:
    """At low noise the denoiser is the input, whose rounding to bfloat16 would be heard in it."""
    prior, seen = tiny_speech(), []
    prior.network.register_forward_pre_hook(lambda module, given: seen.append([t.dtype for t in given]))
    prior.network.stem.register_forward_hook(lambda module, given, out: seen.append([out.dtype]))
    x = torch.randn(2, 6400) * 0.05
    sigma = torch.tensor([1e-6, 1e-5])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cond = prior.embed(torch.zeros(2, 10, 96, 96, dtype=torch.uint8))
        mean, variance = prior.predict(x, sigma, cond)
        scalings = prior.scalings(sigma.bfloat16())
    assert seen[0][0] == seen[0][1] == torch.float32
    assert seen[1] == [torch.bfloat16]  # else nothing was tested
    assert variance is not None
    assert {t.dtype for t in (mean, variance, *scalings)} == {torch.float32}
    error = (mean - x).square().mean(-1).sqrt()
    assert error.max() < (x.bfloat16().float() - x).square().mean().sqrt() / 4
