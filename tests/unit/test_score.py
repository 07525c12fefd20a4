"""Training of the priors: what the loss sees."""

import math
from pathlib import Path

import pytest
import torch

from avdiff.errors import UserError
from avdiff.lit.covariance import RandomCovariance
from avdiff.lit.muon import Muon
from avdiff.lit.score import LogNormal, PolyUniform, ScoreModel
from avdiff.priors.presets import paper_noise, tiny_noise, tiny_speech
from avdiff.priors.store import save_prior


def test_buddys_law_has_its_published_quantiles() -> None:
    u = torch.tensor([0.9, 0.75, 0.5, 0.25, 0.1])  # the grid runs downwards
    assert PolyUniform().sample(u, 0.05).tolist() == pytest.approx([1.4e-4, 2.6e-3, 0.092, 1.26, 4.6], rel=0.05)


def test_log_normal_law_is_relative_to_the_data() -> None:
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    log = LogNormal(1.2, 1.4).sample(u, 0.05).log()
    assert log.median().exp().item() == pytest.approx(1.2 * 0.05, rel=0.02)
    assert log.std().item() == pytest.approx(1.4, rel=0.02)


def test_a_wide_share_of_the_levels_reaches_where_samplers_start() -> None:
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    levels = LogNormal(1.2, 0.5, wide=0.1, span=(0.01, 100.0)).sample(u, 0.05) / 0.05
    assert levels.median().item() == pytest.approx(1.2, rel=0.05)
    assert (levels > 20).float().mean().item() == pytest.approx(0.1 * math.log(5) / math.log(1e4), rel=0.1)


def test_levels_cover_the_range_and_silence_stays_silent() -> None:
    model = ScoreModel(tiny_noise(), gain_db=(-20, 0))
    audio = torch.randn(200, 640) * torch.logspace(-3, 0, 200)[:, None]
    audio[0] = 0
    rms = model.levelled(audio).square().mean(-1).sqrt()
    gain = 20 * torch.log10(rms[1:] / 0.05)
    assert rms[0] == 0
    assert gain.min() >= -20.001
    assert gain.max() <= 0.001
    assert gain.std() == pytest.approx(20 / 12**0.5, rel=0.2)


def test_error_is_edms_weighted_loss() -> None:
    """For a flat prior the loss equals the mean square error over c_out² but for the window's edges."""
    model = ScoreModel(tiny_noise())
    clean, noise = torch.randn(2, 32, 16_000).unbind(0)
    clean, sigma = clean * 0.05, torch.full((32,), 0.1)
    loss, square, _ = model.error(clean, sigma[:, None] * noise, sigma, None)
    c_out = 0.1 * 0.05 / (0.1**2 + 0.05**2) ** 0.5
    assert (loss.mean() / (square.mean() / c_out**2)).item() == pytest.approx(1, rel=0.03)


def test_dropped_video_trains_the_null_feature() -> None:
    model = ScoreModel(tiny_speech(), dropout=1.0)
    for film in (m for m in model.modules() if type(m).__name__ == "FiLM"):
        torch.nn.init.normal_(film.project.weight)
    for name, p in model.prior.network.named_parameters():
        if name.endswith("weight") and p.ndim == 4:
            torch.nn.init.normal_(p, std=0.1)
    model.log = lambda *args, **kwargs: None
    batch = {
        "audio": torch.randn(2, 6400) * 0.1,
        "visual": torch.randint(0, 256, (2, 10, 96, 96), dtype=torch.uint8),
        "seen": torch.ones(2, 10, dtype=torch.bool),
    }
    model.training_step(batch, 0).backward()
    assert model.prior.null_feature.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.prior.encoder.parameters())  # frozen


def test_shaped_noise_has_the_level_that_was_drawn_and_the_prior_is_told_of_it() -> None:
    torch.manual_seed(0)
    model = ScoreModel(tiny_noise(), covariance=RandomCovariance(white=0.5, exact=1.0))
    clean, sigma = torch.zeros(64, 16_000), torch.linspace(0.01, 0.1, 64)
    noise, told = model._noise(clean, sigma)
    stft = model.prior.stft
    energy = (stft(noise).abs().square() / stft.energy).mean((1, 2))
    assert (energy / told.square().mean((1, 2))).tolist() == pytest.approx([1.0] * 64, abs=0.35)
    assert (told.square().mean((1, 2)).sqrt() / sigma).tolist() == pytest.approx([1.0] * 64, rel=1e-3)
    white = told.std((1, 2)) == 0
    assert 10 < white.sum() < 54


def test_a_batch_with_voices_lends_them_to_the_noise() -> None:
    torch.manual_seed(0)
    model = ScoreModel(tiny_noise(), covariance=RandomCovariance(white=0.0, exact=1.0, voices=1.0))
    tone = torch.sin(2 * torch.pi * 4000 / 16_000 * torch.arange(16_000)).expand(32, -1)
    own, lent = (
        model._noise(torch.zeros(32, 16_000), torch.full((32,), 0.05), voice)[1].square() for voice in (None, tone)
    )
    band = slice(126, 130)  # 4 kHz is bin 127.5
    assert (lent[:, band].mean((1, 2)) > 5 * own[:, band].mean((1, 2))).float().mean() > 0.8


def test_the_likelihood_of_the_error_is_best_where_the_variance_is_right() -> None:
    model = ScoreModel(tiny_noise())
    clean, noise = torch.randn(2, 8, 16_000).unbind(0)
    clean, sigma = clean * 0.05, torch.full((8,), 0.05)
    bias = model.prior.network.local_head.bias
    costs = []
    for log_variance in (-1.0, 0.0, 1.0):  # a new network is the linear denoiser, whose error has log-variance 0
        torch.nn.init.constant_(bias, log_variance)
        costs.append(model.error(clean, sigma[:, None] * noise, sigma, None)[2].mean().item())
    assert costs[1] < min(costs[0], costs[2])
    assert costs[1] == pytest.approx(1.0, abs=0.05)


def test_weights_to_start_from_keep_their_spectrum_unless_it_is_to_be_measured_again(tmp_path: Path) -> None:
    save_prior(tmp_path, "tiny_noise", tiny_noise().state_dict())
    assert ScoreModel(tiny_noise(), initial=tmp_path)._measured
    assert not ScoreModel(tiny_noise(), initial=tmp_path, remeasure=True)._measured


def test_shaped_noise_needs_a_network_that_is_told_of_it() -> None:
    with pytest.raises(UserError, match="covariance null"):
        ScoreModel(paper_noise(), covariance=RandomCovariance())


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("muon", Muon)])
def test_every_weight_that_is_trained_is_the_optimizers(name: str, kind: type[torch.optim.Optimizer]) -> None:
    model = ScoreModel(tiny_speech(), optimizer=name)
    optimizer = model.configure_optimizers()["optimizer"]
    assert type(optimizer) is kind
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
