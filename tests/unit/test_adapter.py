"""Networks of every form and process against the one prior that all of them are of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from avdiff.priors.adapter import (
    VE,
    X0,
    AdaptedPrior,
    AdaptedVisualPrior,
    ContinuousVP,
    DiscreteVP,
    Epsilon,
    FlowVelocity,
    Form,
    Process,
    RectifiedFlow,
    Score,
    Velocity,
    cosine_alpha_bar,
    linear_alpha_bar,
)
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.types import NOISE, SPEAKER, Observation

STD, GAIN = 0.05, 12.0
LINEAR, COSINE = linear_alpha_bar(), cosine_alpha_bar(200)


def continuous_vp(t: Tensor) -> tuple[Tensor, Tensor]:
    """a and s at t, from the rate by the trapezoidal rule."""
    u = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None] * t
    a = torch.exp(-0.5 * torch.trapezoid(0.1 + u * 19.9, u, dim=0))
    return a, (1 - a**2).sqrt()


def discrete_vp(alpha_bar: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """a and s at a step that may lie between two, where ln(s / a) is interpolated."""
    log_sigma = (0.5 * ((1 - alpha_bar) / alpha_bar).log()).to(step.dtype)
    low = step.floor().long().clamp(max=len(log_sigma) - 2)
    sigma = (log_sigma[low] + (step - low) * (log_sigma[low + 1] - log_sigma[low])).exp()
    a = (1 + sigma**2).rsqrt()
    return a, sigma * a


#: a process, and a and s as functions of what it gives the network for the time
PROCESSES: dict[str, tuple[Process, object]] = {
    "VE": (VE(), lambda t: (torch.ones_like(t), t)),
    "VE, EDM's time": (VE(lambda sigma: sigma.log() / 4), lambda t: (torch.ones_like(t), (4 * t).exp())),
    "VP": (ContinuousVP(), continuous_vp),
    "VP, scaled time": (ContinuousVP(scale=999.0), lambda t: continuous_vp(t / 999)),
    "DDPM, linear": (DiscreteVP(LINEAR), lambda t: discrete_vp(LINEAR, t)),
    "DDPM, cosine": (DiscreteVP(COSINE), lambda t: discrete_vp(COSINE, t)),
    "flow": (RectifiedFlow(), lambda t: (1 - t, t)),
    "flow, from noise": (RectifiedFlow(reverse=True), lambda t: (t, 1 - t)),
}
#: what a network returns, from x_t, x0, a and s
FORMS: dict[str, tuple[Form, object]] = {
    "x0": (X0(), lambda x_t, x0, a, s: x0),
    "epsilon": (Epsilon(), lambda x_t, x0, a, s: (x_t - a * x0) / s),
    "score": (Score(), lambda x_t, x0, a, s: (a * x0 - x_t) / s**2),
    "velocity": (Velocity(), lambda x_t, x0, a, s: a * (x_t - a * x0) / s - s * x0),
    "flow velocity": (FlowVelocity(), lambda x_t, x0, a, s: (x_t - a * x0) / s - x0),
    "flow velocity to data": (FlowVelocity(reverse=True), lambda x_t, x0, a, s: x0 - (x_t - a * x0) / s),
}


class Analytic(nn.Module):
    """The network of white noise of deviation GAIN * STD."""

    def __init__(self, coefficients: object, output: object) -> None:
        super().__init__()
        self.coefficients, self.output = coefficients, output

    def forward(self, x_t: Tensor, time: Tensor) -> Tensor:
        a, s = (c[:, None] for c in self.coefficients(time.double()))
        variance = (GAIN * STD) ** 2
        x_t = x_t.double()
        return self.output(x_t, a * variance / (a**2 * variance + s**2) * x_t, a, s)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("process", PROCESSES)
def test_every_form_gives_the_denoiser(process: str, form: str) -> None:
    (kind, coefficients), (what, output) = PROCESSES[process], FORMS[form]
    prior = AdaptedPrior(Analytic(coefficients, output), kind, what, sigma_data=STD, gain=GAIN).double()
    sigma = torch.tensor([0.003, 0.02, 0.05, 0.3, 2.0], dtype=torch.float64)
    x = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior.denoise(x, sigma), GaussianPrior(STD).denoise(x, sigma), rtol=1e-4, atol=1e-6)


def test_steps_of_a_schedule_are_found_and_ends_are_held() -> None:
    sigma = ((1 - LINEAR) / LINEAR).sqrt()
    fractional, whole = DiscreteVP(LINEAR), DiscreteVP(LINEAR, whole=True)
    steps = torch.arange(1000)
    torch.testing.assert_close(fractional.at(sigma)[2], steps.double(), rtol=0, atol=0.01)
    assert torch.equal(whole.at(sigma * 1.0001)[2], steps)
    assert whole.at(torch.tensor([1e-9, 1e9]))[2].tolist() == [0, 999]
    assert ContinuousVP().at(torch.tensor([1e9]))[2].tolist() == [1.0]
    assert torch.equal(fractional.at(sigma)[0].square(), fractional.at(sigma)[0] ** 2)
    torch.testing.assert_close(fractional.at(sigma)[0].square(), LINEAR)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="must fall from step to step"):
        DiscreteVP(LINEAR.flip(0))
    with pytest.raises(ValueError, match="must fall from step to step"):
        DiscreteVP(torch.linspace(1e-4, 0.02, 1000))  # the rates
    with pytest.raises(ValueError, match="positive and rise"):
        ContinuousVP(20.0, 0.1)
    network = nn.Module()
    network.forward = lambda x, t: x[:, None]
    with pytest.raises(ValueError, match=r"returned \(2, 1, 30\)"):
        AdaptedPrior(network, VE(), X0()).denoise(torch.zeros(2, 30), torch.ones(2))


class Lips(nn.Module):
    """Passes on the mean of the condition."""

    def forward(self, x_t: Tensor, time: Tensor, cond: Tensor) -> Tensor:
        return cond.mean((1, 2))[:, None].expand_as(x_t)


class Brightness(nn.Module):
    def forward(self, visual: Tensor) -> Tensor:
        return visual.float().mean((-2, -1))[..., None].expand(-1, -1, 3)


def test_video_reaches_the_network_and_unseen_frames_are_null() -> None:
    prior = AdaptedVisualPrior(Lips(), VE(), X0(), Brightness(), torch.full((3,), -1.0), gain=1.0)
    joint = JointPrior({SPEAKER: prior, NOISE: GaussianPrior()}, guidance=0.5)
    visual, mask = torch.full((1, 1, 4, 96, 96), 7, dtype=torch.uint8), torch.tensor([[[True, True, True, False]]])
    observation = Observation(("a",), torch.zeros(1, 2560), visual, mask, (SPEAKER, NOISE))
    seen = (3 * 7 - 1) / 4
    clean = joint.bind(observation).denoise(torch.zeros(1, 2, 2560), 0.1)
    assert clean[0, 0, 0].item() == pytest.approx(1.5 * seen - 0.5 * -1)


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code under "Bring your own denoiser" in CONTRIBUTING.md, as it stands there."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    section = text.split("## Bring your own denoiser")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    exec(code, names)
    sources = names["sources"]
    assert isinstance(sources, Tensor)
    assert sources.shape == (1, 2, 16_000)
    mixture = names["mixture"]
    assert isinstance(mixture, Tensor)
    assert float((sources.sum(1) - mixture).square().mean() / mixture.square().mean()) < 0.1
