"""Levels: one definition, exact."""

from __future__ import annotations

import pytest
import torch

from avdiff.audio.mixing import power, ratio_db, scale_to_ratio


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
