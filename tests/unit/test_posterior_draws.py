"""Spread of posterior draws against the error of their mean."""

import pytest
import torch

from avdiff.errors import UserError
from experiments.benchmarks.posterior_draws import calibration


@pytest.mark.parametrize(("width", "excess"), [(1.0, 0.0), (0.5, 10 * torch.tensor(3.4).log10().item())])
def test_the_excess_of_draws_of_a_known_posterior(width: float, excess: float) -> None:
    """Of draws half as wide as they should be, N = 4: (1 + 1/16) / (1.25 / 4) = 3.4."""
    torch.manual_seed(0)
    deviation = torch.logspace(-2, 1, 400).repeat_interleave(500)
    truth = deviation * torch.randn(200_000)
    draws = width * deviation * torch.randn(4, 200_000)
    told = calibration(draws, truth)
    assert told.overall == pytest.approx(excess, abs=0.15)
    assert told.spread == sorted(told.spread)
    assert told.excess == pytest.approx([excess] * 4, abs=0.5)


def test_draws_without_spread_are_too_sure() -> None:
    assert calibration(torch.zeros(4, 10), torch.ones(10)).overall > 100


def test_a_spread_takes_four_draws() -> None:
    with pytest.raises(UserError, match="3 draws a mixture were asked for"):
        calibration(torch.zeros(3, 10), torch.ones(10))
