"""Clips that a prior makes up."""

import pytest
import torch

from avdiff.draw import draw
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.presets import tiny_speech


def test_samples_of_a_gaussian_prior_have_its_deviation_and_depend_on_the_seed_alone() -> None:
    first = draw(GaussianPrior(0.05), 2, 16_000, steps=20)
    assert first.std().item() == pytest.approx(0.05, rel=0.05)
    assert torch.equal(first, draw(GaussianPrior(0.05), 2, 16_000, steps=20))
    assert not torch.equal(first, draw(GaussianPrior(0.05), 2, 16_000, steps=20, seed=1))


def test_lips_are_embedded_and_unseen_frames_are_not() -> None:
    prior = tiny_speech()
    asked = []
    embed = prior.embed
    prior.embed = lambda visual, mask=None: asked.append(mask) or embed(visual, mask)  # type: ignore[method-assign]
    seen = torch.tensor([[True] * 5 + [False] * 5])
    out = draw(prior, 1, 6400, torch.zeros(1, 10, 96, 96, dtype=torch.uint8), seen, steps=2)
    assert out.shape == (1, 6400)
    assert torch.equal(asked[0], seen)
    draw(prior, 1, 6400, steps=2)
    assert len(asked) == 1
