"""The separator of EM methods: estimates add up, levels come back, and progress is told."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from avdiff.em.nmf import NMF
from avdiff.priors.nmf import AnyVoice, Dictionary
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Progress
from avdiff.separators.em import EMSeparator
from avdiff.types import Observation

SEEN = Observation(
    ("a", "b"),
    torch.randn(2, 3200, generator=torch.Generator().manual_seed(0)),
    None,
    None,
    ("offscreen", "noise", "noise"),
)


@pytest.fixture
def separator() -> EMSeparator:
    torch.manual_seed(0)
    dictionary = Dictionary(4, n_fft=128, hop=32).requires_grad_(False)
    return EMSeparator(NMF(AnyVoice(dictionary), rank=2, iterations=25, tolerance=0.0))


def test_estimates_add_up_to_the_mixture(separator: EMSeparator) -> None:
    result = separator.separate(SEEN, rng=ClipNoise(0, SEEN.key))
    assert torch.allclose(result.sources.sum(1), SEEN.mixture, atol=1e-5)


def test_the_costs_of_every_iteration_are_told_and_never_rise(separator: EMSeparator) -> None:
    costs = [clip.figures["costs"] for clip in separator.separate(SEEN, rng=ClipNoise(0, SEEN.key)).clips]
    assert [len(clip) for clip in costs] == [25, 25]
    assert all(after <= before + 1e-5 for clip in costs for before, after in pairwise(clip))


def test_progress_is_told_with_the_estimates_so_far(separator: EMSeparator) -> None:
    told: list[Progress] = []
    result = separator.separate(SEEN, rng=ClipNoise(0, SEEN.key), callback=told.append)
    assert [(progress.step, progress.steps) for progress in told] == [(10, 25), (20, 25), (25, 25)]
    assert torch.equal(told[-1].denoised, result.sources)
