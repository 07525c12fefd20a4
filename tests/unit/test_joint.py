"""The product of priors: which source meets which prior, with which condition."""

import math

import pytest
import torch
import torchaudio
from torch import Tensor

from avdiff.audio.representation import STFT
from avdiff.priors.adapter import VE, X0, AdaptedPrior
from avdiff.priors.base import ConditionalDiffusionPrior
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.types import Observation


class Recorder(ConditionalDiffusionPrior):
    """Shrinks by the mean of its condition, and writes down the rows of every call."""

    sigma_data, sample_rate, conditional = 0.05, 16_000, True

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window, self.calls = window, []

    def embed(self, visual: Tensor, mask: Tensor | None = None) -> Tensor:
        return visual.float().mean((2, 3))[..., None]

    def null(self, count: int, frames: int) -> Tensor:
        return torch.zeros(count, frames, 1)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls.append(x.shape[0])
        return x * (1 if cond is None else cond.mean((1, 2))[:, None])


def observation(layout: tuple[str, ...], samples: int = 640 * 4, batch: int = 2) -> Observation:
    visible = layout.count("speaker")
    lips = torch.arange(1, batch * visible + 1, dtype=torch.uint8).view(batch, visible, 1, 1, 1)
    visual = lips.expand(batch, visible, -(-samples // 640), 96, 96) if visible else None
    return Observation(tuple("ab"[:batch]), torch.zeros(batch, samples), visual, None, layout)


def test_guidance_extrapolates_from_the_null_branch_in_one_call() -> None:
    speech, noise = Recorder(), Recorder()
    joint = JointPrior({"speaker": speech, "noise": noise}, guidance=0.5)
    noise.conditional = False
    layout = ("speaker", "speaker", "offscreen", "noise")
    bound = joint.bind(observation(layout))
    x = torch.ones(2, 4, 640 * 4)
    out = bound.denoise(x, 1.0)
    assert speech.calls == [2 * (3 + 2)]
    assert noise.calls == [2]
    assert bound.evaluations == 2
    # (1 + w) D(v) - w D(null), with D(null) = 0
    assert out[:, :2, 0].tolist() == [[1.5, 3.0], [4.5, 6.0]]
    assert out[:, 2, 0].tolist() == [0, 0]
    assert out[:, 3, 0].tolist() == [1, 1]


def test_guidance_outside_its_interval_costs_one_evaluation() -> None:
    joint = JointPrior({"speaker": Recorder()}, guidance=1.0, guidance_interval=(1.0, 10.0))
    bound = joint.bind(observation(("speaker",)))
    x = torch.ones(2, 1, 640 * 4)
    assert bound.denoise(x, 0.01)[:, 0, 0].tolist() == [1, 2]
    assert bound.denoise(x, 0.2)[:, 0, 0].tolist() == [2, 4]
    assert bound.evaluations == 3


@pytest.mark.parametrize("layout", [("offscreen", "noise"), ("noise",)])
def test_where_nobody_is_seen_guidance_costs_nothing(layout: tuple[str, ...]) -> None:
    noise = Recorder()
    noise.conditional = False
    speech = Recorder()
    bound = JointPrior({"speaker": speech, "noise": noise}, guidance=1.0).bind(observation(layout))
    bound.denoise(torch.ones(2, len(layout), 640 * 4), 1.0)
    assert (speech.calls, noise.calls) == ([2] * ("offscreen" in layout), [2])
    assert bound.evaluations == 1


def test_bounded_lets_no_bin_exceed_the_state_and_the_noise() -> None:
    class Louder(Recorder):
        def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
            """Three times as loud below 1 kHz, half as loud above."""
            low = torchaudio.functional.lowpass_biquad(x, 16_000, 1000.0)
            return 3 * low + 0.5 * (x - low)

    x = torch.randn(1, 1, 640 * 8, generator=torch.Generator().manual_seed(0))
    free, bounded = (
        JointPrior({"speaker": Louder()}, guidance=0.0, bounded=bound)
        .bind(observation(("speaker",), samples=640 * 8, batch=1))
        .denoise(x, sigma)
        for bound, sigma in ((False, 0.01), (True, 0.01))
    )
    bins = [STFT()(signal[0]).abs().square().mean((0, 2)).sqrt() for signal in (x, free, bounded)]
    assert (bins[1] / bins[0])[2:6].mean().item() == pytest.approx(3, rel=0.05)
    assert (bins[2] / bins[0])[2:6].mean().item() == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(bins[2][-50:], bins[1][-50:], rtol=0.05, atol=0.05)
    noisy = JointPrior({"speaker": Louder()}, guidance=0.0, bounded=True).bind(
        observation(("speaker",), samples=640 * 8, batch=1)
    )
    torch.testing.assert_close(noisy.denoise(x, 100.0), free, rtol=1e-3, atol=1e-3)  # far below the noise: left alone


def test_a_scale_multiplies_the_data_and_its_unit() -> None:
    joint = JointPrior({"noise": GaussianPrior(0.05)})
    plain, scaled = (joint.bind(observation(("noise",)), scale=scale) for scale in (1.0, 3.0))
    x = torch.randn(2, 1, 640 * 4)
    assert scaled.sigma_data == pytest.approx(0.15)
    torch.testing.assert_close(scaled.denoise(3 * x, 0.6), 3 * plain.denoise(x, 0.2))


def test_a_long_recording_is_tiled_in_one_batch() -> None:
    speech = Recorder(window=640 * 10)
    joint = JointPrior({"speaker": speech}, guidance=0.0, overlap=640 * 2, max_rows=4)
    bound = joint.bind(observation(("speaker",), samples=640 * 30 + 7, batch=1))
    x = torch.randn(1, 1, 640 * 30 + 7)
    assert torch.allclose(bound.denoise(x, 0.1), x, atol=1e-6)
    assert sum(speech.calls) == 4
    assert max(speech.calls) <= 4


def test_a_window_off_the_frame_grid_is_cut_to_it() -> None:
    joint = JointPrior({"speaker": Recorder(window=640 * 10 + 256)}, guidance=0.0, overlap=640 * 2)
    x = torch.randn(1, 1, 640 * 30 + 7)
    found = joint.bind(observation(("speaker",), samples=640 * 30 + 7, batch=1)).denoise(x, 0.1)
    assert torch.allclose(found, x, atol=1e-6)


def test_what_a_prior_knows_is_where_the_mixture_is() -> None:
    mixture = torch.zeros(1, 640, device="meta")
    bound = JointPrior({"noise": GaussianPrior()}).bind(Observation(("a",), mixture, None, None, ("noise",)))
    known = bound.deviation(640)
    assert known is not None
    assert known.device.type == "meta"


def test_networks_of_data_at_different_levels_are_refused() -> None:
    loud, quiet = (AdaptedPrior(torch.nn.Identity(), VE(), X0(), sigma_data=level) for level in (1.0, 0.05))
    with pytest.raises(ValueError, match=r"sigma_data from 0.05 to 1, and a mixture has one level"):
        JointPrior({"offscreen": quiet, "noise": loud})
    JointPrior({"offscreen": quiet, "noise": GaussianPrior(0.01)})  # which says how loud it is by that


def test_a_role_without_a_prior_is_refused() -> None:
    joint = JointPrior({"speaker": Recorder()})
    with pytest.raises(ValueError, match="role 'noise'"):
        joint.bind(observation(("speaker", "noise")))


def test_a_source_at_a_level_has_the_prior_of_scaled_data() -> None:
    """Half the amplitude of Gaussian data of deviation 0.05 is Gaussian data of deviation 0.025."""
    joint = JointPrior({"noise": GaussianPrior(0.05)})
    observation = Observation(("a",), torch.zeros(1, 640), None, None, ("noise", "noise"))
    bound = joint.bind(observation, {"noise": 20 * math.log10(0.5)})
    x = torch.randn(1, 2, 640)
    assert torch.allclose(bound.denoise(x, 0.03), x * 0.025**2 / (0.025**2 + 0.03**2))
