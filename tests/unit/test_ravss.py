"""RAVSS: its size, its chunks, what its sources do not depend on, its loss, and the levels of what it gives."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from avdiff.audio.levels import fit_gains
from avdiff.lit.ravss import RAVSSModel
from avdiff.nets.count import count_parameters
from avdiff.nets.ravss import RAVSS, chunk, overlap_add
from avdiff.rng import ClipNoise
from avdiff.separators.presets import ravss, tiny_ravss
from avdiff.separators.ravss import RAVSSSeparator
from tests.supervised import batch, observation, randomise


@pytest.fixture(scope="module")
def network() -> RAVSS:
    return randomise(tiny_ravss())


def separate(network: RAVSS, seen) -> torch.Tensor:
    return RAVSSSeparator(network).separate(seen, rng=ClipNoise(0, seen.key)).sources


def test_published_size() -> None:
    with torch.device("meta"):
        network = ravss()
    assert count_parameters(network) == 25_719_814  # 25.72 M
    assert count_parameters(network.visual) == 1_459_717  # 1.46 M


def test_chunks_are_two_frames_and_overlap_by_one() -> None:
    x = torch.arange(12.0).view(1, 12, 1)
    chunks = chunk(x, 4)
    assert chunks.shape == (1, 4, 8, 1)
    assert chunks[0, 1, :, 0].tolist() == list(range(8))
    assert torch.equal(overlap_add(chunks), x)


def test_the_order_of_the_talkers_is_no_matter(network: RAVSS) -> None:
    seen = observation(3, 5000)
    order = [2, 0, 1]
    found = separate(network, replace(seen, visual=seen.visual[:, order]))
    expected = separate(network, seen)[:, [*order, 3]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected[:, 0], expected[:, 1], atol=1e-4)  # lips do matter


def test_the_batch_is_no_matter(network: RAVSS) -> None:
    seen = observation(2, 5000)
    torch.testing.assert_close(separate(network, seen)[:1], separate(network, seen.select([0])), rtol=1e-4, atol=1e-5)


def test_padding_is_no_matter(network: RAVSS) -> None:
    """The network pads to whole video frames: silence in place of the padding changes nothing."""
    seen = observation(2, 5000)
    longer = torch.nn.functional.pad(seen.mixture, (0, 100))
    found = network(longer, seen.visual)[..., :5000]
    torch.testing.assert_close(found, network(seen.mixture, seen.visual), rtol=1e-4, atol=1e-5)


def test_sources_without_video_are_told_apart(network: RAVSS) -> None:
    found = separate(network, observation(1, 5000, "offscreen", "noise"))
    assert not torch.allclose(found[:, 1], found[:, 2], atol=1e-4)


def test_a_talker_who_is_not_seen_counts_as_one_without_video(network: RAVSS) -> None:
    seen = observation(2, 5000)
    mask = torch.ones(2, 2, 8, dtype=torch.bool)
    mask[1, 0] = False  # of the second clip's talkers only the second is seen
    found = separate(network, replace(seen, visual_mask=mask))
    lone = replace(seen, visual=seen.visual[:, 1:], layout=("speaker", "offscreen", "noise"))
    torch.testing.assert_close(found[1, [1, 0, 2]], separate(network, lone)[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0], separate(network, seen)[0], rtol=1e-4, atol=1e-5)


def test_levels_are_those_in_the_mixture() -> None:
    sources = torch.randn(2, 3, 4000, generator=torch.Generator().manual_seed(0))
    sources[:, 1] += 0.5 * sources[:, 0]  # estimates are never independent
    sources[1, 2] = 0
    scales = torch.tensor([0.3, 2.0, 11.0])
    gains = fit_gains(sources / scales[:, None], sources.sum(1))
    torch.testing.assert_close(gains, torch.stack([scales, scales * torch.tensor([1.0, 1.0, 0.0])]), rtol=1e-4, atol=0)


def test_estimates_of_the_wrong_sign_are_turned(network: RAVSS) -> None:
    """The loss is that of s and of -s: a trained network may give either."""
    seen, turned = observation(2, 5000), deepcopy(network)
    turned.synthesis.weight.data.neg_()
    found = separate(turned, seen)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, separate(network, seen), rtol=1e-4, atol=1e-5)


def test_no_gain_is_negative() -> None:
    x = torch.randn(1, 2, 1000, generator=torch.Generator().manual_seed(0))
    gains = fit_gains(x, x[:, 0] - 3 * x[:, 1])
    assert gains[0, 1] == 0
    assert float(gains[0, 0]) == pytest.approx(1, abs=0.2)


def test_loss_takes_the_best_order_of_talkers_without_video_alone() -> None:
    sources = batch(3)["sources"]
    found = sources + 0.01 * torch.randn(sources.shape, generator=torch.Generator().manual_seed(4))
    right = scale_invariant_signal_noise_ratio(found, sources)
    swapped = found[:, [0, 2, 1, 3]]
    torch.testing.assert_close(RAVSSModel.ratios(swapped, sources, 1), right)  # the last two talkers are not seen
    assert RAVSSModel.ratios(swapped, sources, 3).mean() < right.mean() - 10  # all are
    noise_swapped = found[:, [0, 1, 3, 2]]
    assert RAVSSModel.ratios(noise_swapped, sources, 1).mean() < right.mean() - 10


def test_clips_with_and_without_video_train_together(network: RAVSS) -> None:
    model, data = RAVSSModel(network), batch(2)
    whole = model.loss(data)
    data["seen"][1, 1] = False
    mixed = model.loss(data)
    rows = [model.loss({k: v if k == "layout" else v[i : i + 1] for k, v in data.items()}) for i in (0, 1)]
    torch.testing.assert_close(mixed, sum(rows) / 2, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mixed, whole)


def test_every_parameter_has_a_gradient_where_nobody_is_seen() -> None:
    """Or the processes that wait for it would wait for ever."""
    model, data = RAVSSModel(tiny_ravss()), batch(2)
    whole = {name for name, p in model.named_parameters() if p.requires_grad}
    model.loss({**data, "seen": torch.zeros_like(data["seen"])}).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == whole
