"""Clips that a prior makes up: unconditional samples, or samples for given lips."""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.priors.base import DiffusionPrior
from avdiff.priors.joint import JointPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.ode import Heun
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation, Role


@torch.no_grad()
def draw(
    prior: DiffusionPrior,
    count: int,
    samples: int,
    visual: Tensor | None = None,
    seen: Tensor | None = None,
    *,
    steps: int = 20,
    start: float = 40.0,
    guidance: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Samples of a prior by the probability flow ODE (SSNAPS, eq. 2) with Heun's steps (EDM, algorithm 1): (count, samples).

    Args:
        prior: for speech or for noise.
        count: clips.
        samples: of each.
        visual: (count, F, ...) lips to speak by; None for speech without, or noise.
        seen: (count, F) bool; None where every frame is.
        steps: noise levels; 2 evaluations each but the last.
        start: first noise level, in units of the prior's sigma_data. 40 is that of SSNAPS's Table I.
        guidance: weight of classifier-free guidance, with lips.
        seed: of the noise.
    """
    role: Role = NOISE if not prior.conditional else OFFSCREEN if visual is None else SPEAKER
    observation = Observation(
        tuple(map(str, range(count))),
        torch.zeros(count, samples),
        None if visual is None else visual[:, None],
        None if seen is None else seen[:, None],
        (role,),
    )
    bound = JointPrior({SPEAKER if prior.conditional else NOISE: prior}, guidance=guidance).bind(observation)
    sigma = start * bound.sigma_data
    noise = ClipNoise(seed, observation.key).normal((count, 1, samples), 0, like=observation.mixture)
    return Heun(steps=steps, sigma_end=0.02 * bound.sigma_data).solve(bound, sigma * noise, sigma)[:, 0]
