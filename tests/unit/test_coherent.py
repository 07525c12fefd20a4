"""Views of a spectrogram in which frames add up in phase."""

import math

import pytest
import torch

from avdiff.audio.representation import STFT
from avdiff.nets.coherent import CoherentSums
from avdiff.nets.ncsnpp import NCSNpp

VIEWS = ((2, 0.0), (2, 0.5), (5, 0.0))


def spectrogram(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(STFT()(x)).movedim(-1, 1)


@pytest.mark.parametrize(("view", "offset"), [(0, 0.0), (1, 0.5), (2, 0.0)])
def test_a_lasting_partial_adds_up_in_phase(view: int, offset: float) -> None:
    bin_, frame = 40, 50
    time = torch.arange(16_000, dtype=torch.float64)
    tone = spectrogram(torch.cos(2 * math.pi * (bin_ + offset) / 510 * time + 0.3).float()[None])
    reach = VIEWS[view][0]
    window = 0.5 + 0.5 * torch.cos(math.pi * torch.arange(-reach, reach + 1) / (reach + 1))
    expected = tone[0, :, bin_, frame] * window.sum() / window.square().sum().sqrt()
    assert torch.allclose(CoherentSums(VIEWS)(tone)[0, view, :, bin_, frame], expected, rtol=1e-3, atol=1e-2)


def test_a_partial_a_bin_away_cancels_in_a_long_view() -> None:
    time = torch.arange(16_000, dtype=torch.float64)
    tone = spectrogram(torch.cos(2 * math.pi * 41 / 510 * time).float()[None])
    before, after = tone[0, :, 40, 50], CoherentSums(VIEWS)(tone)[0, 2, :, 40, 50]
    assert 20 * torch.log10(after.norm() / before.norm()) < -30


def test_views_are_linear_and_stay_in_their_clip() -> None:
    sums, x = CoherentSums(VIEWS, bins=8), torch.randn(2, 2, 8, 20)
    each = torch.cat([sums(x[:1]), sums(x[1:])])
    assert torch.allclose(sums(x), each, atol=1e-6)
    assert torch.allclose(sums(2 * x), 2 * each, atol=1e-5)


def test_a_network_with_views_turns_with_its_input() -> None:
    torch.manual_seed(0)
    network = NCSNpp(channels=8, multipliers=(1, 2), patch=(16, 4), compression=0.5, views=VIEWS)
    for head in network.head:
        torch.nn.init.normal_(head.weight)  # they start at almost nothing
    x = torch.randn(1, 2, 256, 16)
    turned = torch.stack(
        [x[:, 0] * math.cos(1) - x[:, 1] * math.sin(1), x[:, 0] * math.sin(1) + x[:, 1] * math.cos(1)], 1
    )
    y, z = network(x, torch.zeros(1)), network(turned, torch.zeros(1))
    expected = torch.stack(
        [y[:, 0] * math.cos(1) - y[:, 1] * math.sin(1), y[:, 0] * math.sin(1) + y[:, 1] * math.cos(1)], 1
    )
    assert y.std() > 0.01
    assert torch.allclose(z, expected, atol=1e-4 * y.abs().max().item())
