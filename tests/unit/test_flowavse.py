"""FlowAVSE: its size, its transform, one step of Euler, its loss, and what it does not depend on."""

from __future__ import annotations

import pytest
import torch

from avdiff.lit.flowavse import FlowAVSEModel
from avdiff.nets.count import count_parameters
from avdiff.nets.flowavse import AVFusion, AVUNet, FaceEncoder, FlowAVSE, fir_down, fir_up
from avdiff.rng import ClipNoise
from avdiff.separators.flowavse import FlowAVSESeparator
from avdiff.separators.presets import flowavse, tiny_flowavse
from avdiff.types import Observation
from tests.supervised import batch, observation, randomise


@pytest.fixture(scope="module")
def network() -> FlowAVSE:
    return randomise(tiny_flowavse())


def test_published_size() -> None:
    with torch.device("meta"):
        network = flowavse()
    predictor, velocity = network.predictor, network.velocity
    assert count_parameters(network) == 60_200_882  # 60.20 M
    assert (count_parameters(predictor), count_parameters(velocity)) == (28_313_358, 28_727_450)
    assert count_parameters(network.encoder) == 1_580_037
    idle = [block.noise for block in predictor.modules() if hasattr(block, "noise")]
    assert sum(map(count_parameters, idle)) == 2_363_904


def test_transform_is_undone_and_compresses(network: FlowAVSE) -> None:
    x = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    planes = network.transform(x)
    assert planes.shape == (2, 2, 256, 48)  # 40 frames, padded to 16
    magnitude = planes[..., :39].square().sum(1).sqrt()
    torch.testing.assert_close(magnitude, 0.33 * network.stft(x)[..., :39].abs().sqrt(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.inverse(planes, 5000), x, rtol=0, atol=2e-3)


def test_fir_halves_and_doubles_without_changing_a_constant() -> None:
    x = torch.ones(1, 3, 8, 8)
    assert fir_down(x).shape == (1, 3, 4, 4)
    assert fir_up(x).shape == (1, 3, 16, 16)
    torch.testing.assert_close(fir_down(x)[..., 1:-1, 1:-1], torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(fir_up(x)[..., 2:-2, 2:-2], torch.ones(1, 3, 12, 12))


def test_fusion_reaches_every_frequency_alike() -> None:
    torch.manual_seed(0)
    fusion, h = AVFusion(32, 16, 8, heads=2, head_dim=4), torch.randn(2, 32, 5, 7)
    change = fusion(h, torch.randn(2, 3, 8)) - h
    torch.testing.assert_close(change, change[:, :, :1].expand_as(change), rtol=0, atol=1e-5)
    assert change.abs().max() > 0.01


def test_faces_of_one_talker_do_not_reach_another() -> None:
    torch.manual_seed(0)
    encoder = FaceEncoder(width=4, dim=8).eval()
    crops = torch.randint(0, 256, (2, 5, 96, 96), dtype=torch.uint8)
    torch.testing.assert_close(encoder(crops)[1:], encoder(crops[1:]), rtol=0, atol=1e-5)
    assert encoder(crops).shape == (2, 5, 8)


def test_one_step_of_euler_goes_from_the_prediction_to_time_one(network: FlowAVSE) -> None:
    seen = observation(1, 5000)
    mixture, lips, known = seen.mixture, seen.visual[:, 0], torch.ones(2, 8, dtype=torch.bool)
    peak = mixture.abs().amax(1, keepdim=True)
    planes = network.transform(mixture / peak)
    first, second = network.embed(lips, known, planes.shape[-1])
    predicted = network.predictor(planes, first)
    end = predicted + 0.97 * network.flow(predicted, predicted, second, torch.full((2,), 0.03))
    torch.testing.assert_close(network.extract(mixture, lips, known), network.inverse(end, 5000) * peak)
    alone = network.extract(mixture, lips, known, steps=0)
    torch.testing.assert_close(alone, network.inverse(predicted, 5000) * peak)


def test_the_velocity_is_divided_by_the_time_and_negated() -> None:
    unet = randomise(AVUNet(4, 8, (1, 1), visual_dim=8, heads=2, timed=True, patch=(16, 4)))
    torch.nn.init.zeros_(unet.embed.second.weight)  # so that the time has no other way in
    x, lips = torch.randn(1, 4, 256, 8), torch.randn(1, 3, 8)
    late, early = (unet(x, lips, torch.tensor([t])) for t in (1.0, 0.25))
    bias = -unet.output.bias[:, None, None]
    torch.testing.assert_close(early - bias, 4 * (late - bias))


def test_a_perfect_velocity_of_a_perfect_prediction_has_no_loss(
    network: FlowAVSE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The velocity's target is x_1 - x_0: zero, but for the noise of sigma_min, where the prediction is right."""
    model = FlowAVSEModel(network)
    model.log_dict = lambda *_, **__: None
    data = batch(2)
    truth = data["sources"][:, :2].flatten(0, 1) / data["mixture"].abs().amax(1).repeat_interleave(2)[:, None]
    monkeypatch.setattr(network.predictor, "forward", lambda x, visual: network.transform(truth))
    monkeypatch.setattr(network.velocity, "forward", lambda x, visual, time: torch.zeros_like(x[:, :2]))
    assert float(model.loss(data)) < 1e-6


def test_talkers_without_video_are_no_examples(network: FlowAVSE) -> None:
    model = FlowAVSEModel(network)
    model.log_dict = lambda *_, **__: None
    data = batch(2)
    hidden = {**data, "seen": data["seen"].clone(), "visual": data["visual"].clone()}
    hidden["seen"][:, 1] = False
    cut = {**data, **{name: data[name][:, :1] for name in ("seen", "visual")}, "sources": data["sources"][:, [0, 2]]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = model.loss(cut)
        torch.manual_seed(0)
        torch.testing.assert_close(model.loss(hidden), expected)


def test_a_batch_in_which_nobody_is_seen_moves_nothing() -> None:
    model, data = FlowAVSEModel(tiny_flowavse()), batch(2)
    data["seen"][:] = False
    model.loss(data).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in trained)


def test_the_network_for_the_number_of_talkers_is_taken() -> None:
    networks = {2: tiny_flowavse(), 3: tiny_flowavse()}
    separator = FlowAVSESeparator(networks)
    assert [separator.network(k) for k in (1, 2, 3, 4)] == [networks[2], networks[2], networks[3], networks[3]]


def test_an_unseen_talker_and_the_noise_are_the_residual_and_marked(network: FlowAVSE) -> None:
    seen = observation(1, 5000, "offscreen", "noise")
    result = FlowAVSESeparator({1: network}).separate(seen, rng=ClipNoise(0, seen.key))
    assert result.info["residual"] == ("offscreen", "noise")
    torch.testing.assert_close(result.sources.sum(1), seen.mixture, rtol=0, atol=1e-3)
    assert torch.equal(result.sources[:, 1], result.sources[:, 2])


def test_windows_are_those_of_the_training(network: FlowAVSE) -> None:
    """A long mixture whose first window is a mixture of its own: up to the cross-fade they agree."""
    long = observation(1, 640 * 20)
    separator = FlowAVSESeparator({1: network}, overlap=640 * 4)
    separator.window = 640 * 12
    short = Observation(long.key, long.mixture[:, : 640 * 12], long.visual[:, :, :12], None, long.layout)
    whole, part = (separator.separate(o, rng=ClipNoise(0, o.key)).sources[:, 0, : 640 * 8] for o in (long, short))
    torch.testing.assert_close(whole, part, rtol=0, atol=1e-5 * float(whole.abs().max()))
