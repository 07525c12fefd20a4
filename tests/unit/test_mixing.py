"""Levels: one definition, exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avdiff.audio.mixing import PAPER_LEVELS, Levels, mix, power, ratio_db, scale_to_ratio


def test_power_is_the_mean_square_silences_included() -> None:
    x = torch.tensor([[2.0, -2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert power(x).tolist() == [2.0, 1.0]


def test_ratio_of_known_signals() -> None:
    assert ratio_db(torch.full((8,), 10.0), torch.ones(8)).item() == pytest.approx(20)


def test_scaling_reaches_each_ratio_and_leaves_the_target_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    target, interference = torch.randn(3, 1000, generator=generator), 7 * torch.randn(3, 1000, generator=generator)
    wanted = torch.tensor([-5.0, 0.0, 15.0])
    scaled = scale_to_ratio(interference, target, wanted)
    torch.testing.assert_close(ratio_db(target, scaled), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled / scaled[:, :1], interference / interference[:, :1], rtol=1e-4, atol=1e-4)


def test_a_level_does_not_depend_on_the_number_of_threads() -> None:
    x = torch.randn(64, 64000, generator=torch.Generator().manual_seed(1))
    threads, levels = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            levels.append([power(row) for row in x])
    finally:
        torch.set_num_threads(threads)
    assert levels[0] == levels[1]


@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_signal_has_no_level(silent: int) -> None:
    pair = [torch.ones(4), torch.ones(4)]
    pair[silent] = torch.zeros(4)
    with pytest.raises(ValueError, match="silent"):
        scale_to_ratio(pair[0], pair[1], 0.0)


def test_the_noise_is_told_from_the_weakest_talker() -> None:
    generator = torch.Generator().manual_seed(0)
    speech, noise = torch.randn(2, 4000, generator=generator), torch.randn(4000, generator=generator)
    for sir in (-4.0, 4.0):  # the second talker is the louder, then the weaker
        sources = mix(speech, noise, sir, 2.0)
        assert torch.equal(sources[0], speech[0])
        assert ratio_db(sources[0], sources[1]).item() == pytest.approx(sir, abs=1e-4)
        assert ratio_db(sources[:2], sources[2]).min().item() == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize(("talkers", "published"), [(1, 2.5), (2, -2.58), (3, -3.08)])
def test_the_papers_levels_give_the_papers_mixtures(talkers: int, published: float) -> None:
    """SI-SDR of its mixtures; white signals of one sample a level, so that powers are all there is."""
    rng, figures = np.random.default_rng(0), []
    for _ in range(4000):
        sources = mix(torch.ones(talkers, 1), torch.ones(1), *PAPER_LEVELS[talkers].draw(rng.uniform))
        powers = power(sources)
        figures.append(10 * torch.log10(powers[:-1] / (powers.sum() - powers[:-1])).mean().item())
    error = np.std(figures) / len(figures) ** 0.5
    assert abs(np.mean(figures) - published) < 4 * error + 0.005  # it gives two decimals


def test_a_range_of_one_value_takes_no_random_number() -> None:
    rng = np.random.default_rng(0)
    assert Levels(sir=(0, 0), snr=(15, 15)).draw(rng.uniform) == (0, 15)
    assert rng.random() == np.random.default_rng(0).random()
