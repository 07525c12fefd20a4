"""Separation by expectation-maximisation: a model of each source's variances, and Wiener filters from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from avdiff.em.base import MixtureEM
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Progress
from avdiff.separators.base import Separator, separation
from avdiff.types import Observation, Separation

_SILENCE = 1e-8  # root mean square below which a mixture counts as silent
_WATCHED = 10  # iterations between two calls of a callback, each of which costs inverse transforms


class EMSeparator(Separator):
    """s_k,fn = E[g_k sigma²_k,fn / V_fn] x_fn: the Wiener filter of variances that EM finds (NMF, VAE-MCEM, LDEM).

    The mixture is scaled to root mean square 1 for the model, which is undone at the end. Estimates add up to the mixture.

    Args:
        model: what is estimated, and how.
    """

    def __init__(self, model: MixtureEM) -> None:
        super().__init__()
        self.model = model

    @property
    def visual_input(self) -> str:
        return self.model.visual_input

    def restricted(self, speakers: Sequence[int]) -> EMSeparator:
        return EMSeparator(self.model.restricted(speakers))

    @torch.no_grad()
    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        started = time.perf_counter()
        mixture, prior = observation.mixture, self.model.prior
        observation.require_rate(prior.sample_rate)
        rms = mixture.square().mean(-1, keepdim=True).sqrt()
        unit = torch.where(rms > _SILENCE, rms, 0.0)  # silence comes back as silence
        spectrum = prior.transform(torch.where(unit > 0, mixture / unit, 0.0))
        power = spectrum.real.square() + spectrum.imag.square()

        def heard(shares: Tensor) -> Tensor:
            return prior.inverse(shares * spectrum[:, None], mixture.shape[-1]) * unit[:, None]

        def watch(step: int, steps: int, shares: Callable[[], Tensor]) -> None:
            if callback is not None and (step % _WATCHED == 0 or step == steps):
                callback(Progress(step=step, steps=steps, sigma=0.0, denoised=heard(shares())))

        found = self.model.estimate(power, observation, rng=rng, watch=watch)
        info = {
            "evaluations": found.evaluations,
            "seconds": time.perf_counter() - started,
        }
        figures = [{"costs": costs} for costs in found.costs]
        return separation(observation, heard(found.shares), info, figures=figures)
