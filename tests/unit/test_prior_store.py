"""Trained priors on disk."""

from pathlib import Path

import pytest
import torch

from avdiff.errors import UserError
from avdiff.priors.presets import tiny_noise
from avdiff.priors.store import load_prior, save_prior


def test_a_prior_comes_back_in_half_precision(tmp_path: Path) -> None:
    prior = tiny_noise().eval()
    save_prior(tmp_path, "tiny_noise", prior.state_dict())
    x = 0.05 * torch.randn(1, 6400)
    with torch.no_grad():
        there, back = (p.denoise(x, torch.tensor([0.05])) for p in (prior, load_prior(str(tmp_path))))
    assert torch.allclose(there, back, atol=1e-4)


def test_weights_of_another_shape_are_refused_in_one_sentence(tmp_path: Path) -> None:
    state = tiny_noise().state_dict()
    state["network.stem.weight"] = state["network.stem.weight"][:, :5]
    save_prior(tmp_path, "tiny_noise", state)
    with pytest.raises(
        UserError, match=r"'network.stem.weight', which is 8 x 5 x 3 x 3 in the file and 8 x 128 x 3 x 3 in"
    ):
        load_prior(str(tmp_path))
