"""What lips tell of the spectrum of a voice."""

import pytest
import torch
from torch import nn

from avdiff.nets.visual import LipEncoder, LipSpectrum, TransformerAdapter


def test_the_fit_finds_the_levels_that_made_the_powers() -> None:
    generator = torch.Generator().manual_seed(0)
    heard = LipSpectrum(3, bands=2, hops=2, span=(-9.0, 9.0))
    features = torch.randn(20_000, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.2]) + 2
    true = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 1.5], [-0.3, 0.0, 1.0]])
    g = features @ true.T - 1
    powers = torch.empty_like(g).exponential_(generator=generator) * (2 * g).exp()
    heard.fit(features, powers, penalty=0.0)
    assert torch.allclose(heard.project.weight, true, atol=0.06)
    assert torch.allclose(heard(features), g, atol=0.2)


def test_gains_stand_where_the_powers_were_measured() -> None:
    """Power in one band and one quarter of a video frame: `powers` puts it where `gains` raises it."""
    heard = LipSpectrum(3, bands=8, hops=4)
    power = torch.zeros(1, 256, 40)
    centre = int(heard.filters[:, 5].argmax())
    power[0, centre, 4 * 6 + 2] = 1.0
    g = heard.powers(power)
    g = g / g.max()
    gains = heard.gains(g.transpose(1, 2), 40)
    assert gains.shape == (1, 256, 40)
    assert gains[0, :, 4 * 6 + 2].argmax().item() == pytest.approx(centre, abs=1)
    assert torch.all(gains[0, :, : 4 * 6 + 2] == 1)
    assert torch.all(gains[0, :, 4 * 6 + 3 :] == 1)


def test_a_frozen_encoder_is_neither_trained_nor_in_training() -> None:
    holder = nn.Sequential(LipEncoder(width=4, dim=16, dilations=(1,)), nn.Linear(16, 2))
    assert all(module.training for module in holder.modules())
    holder[0].freeze()
    holder.train()
    assert holder.training
    assert not any(module.training for module in holder[0].modules())
    holder(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).sum().backward()
    assert all(parameter.grad is None for parameter in holder[0].parameters())
    assert holder[1].weight.grad is not None


def test_a_long_video_is_read_in_blocks_as_long_as_training_clips() -> None:
    adapter = TransformerAdapter(16, layers=1, heads=2, window=10).eval()
    unbounded = TransformerAdapter(16, layers=1, heads=2, window=1000).eval()
    unbounded.load_state_dict(adapter.state_dict())
    features = torch.randn(2, 25, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for frames in (1, 10):
            assert torch.equal(adapter(features[:, :frames]), unbounded(features[:, :frames]))
        parts = [unbounded(features[:, first : first + 10]) for first in (0, 10, 15)]
        assert torch.equal(adapter(features), torch.cat([parts[0], parts[1], parts[2][:, 5:]], dim=1))
        assert torch.equal(adapter(features[:, :20]), torch.cat(parts[:2], dim=1))
