"""What the options of our own add to the published network."""

import pytest
import torch

from avdiff.nets.ncsnpp import NCSNpp, fold, unfold

SMALL = {"channels": 8, "multipliers": (1, 2), "patch": (16, 4)}


def test_patches_are_put_back_where_they_were_cut() -> None:
    x = torch.randn(2, 2, 256, 16)
    assert torch.equal(unfold(fold(x, (16, 4)), (16, 4)), x)
    assert torch.equal(fold(x, (16, 4))[1, :64, 2, 3], x[1, 0, 32:48, 12:16].flatten())


def test_a_mask_multiplies_the_input_bin_by_bin() -> None:
    network = NCSNpp(**SMALL, mask=True)
    folded = 2 * 16 * 4
    torch.nn.init.zeros_(network.output.weight)
    torch.nn.init.zeros_(network.output.bias)
    with torch.no_grad():
        network.output.bias[folded + 4 * 3] = 0.5  # the gain of row 3, column 0 of every patch
        x = torch.randn(1, 2, 256, 16)
        expected = torch.zeros_like(x)
        expected[:, :, 3::16, 0::4] = 0.5 * x[:, :, 3::16, 0::4]
        assert torch.allclose(network(x, torch.zeros(1)), expected)


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="pad to a multiple of 8"):
        NCSNpp(**SMALL)(torch.zeros(1, 2, 256, 12), torch.zeros(1))


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 24"):
        NCSNpp(patch=(24, 2))
