"""VAE-MCEM and its kin on an observation: talkers by a VAE with lips, noise by NMF."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avdiff.em.base import MixtureEM, Outcome, Watch, talkers_of
from avdiff.em.mcem import Algorithm
from avdiff.em.mixture import Talkers
from avdiff.priors.vae import SpeechVAE
from avdiff.priors.variance import VariancePrior
from avdiff.rng import ClipNoise
from avdiff.types import SPEAKER, Observation


class VAEMixture(MixtureEM):
    """x = sum_k s_k + b, s_k by a VAE given the lips, b by NMF (arXiv 2008.07191).

    Args:
        vae: of whoever speaks.
        algorithm: what finds latent variables and parameters.
        rank: NMF patterns of each noise. Public code: 10, later 8.
        levels: of talkers in the mixture by their number, in dB: what gains begin with. Nothing for a VAE whose posterior was
            trained on mixtures, where it says the level itself.
    """

    visual_input = "mouth"

    def __init__(
        self, vae: SpeechVAE, algorithm: Algorithm, rank: int = 10, levels: Mapping[int, float] | None = None
    ) -> None:
        super().__init__()
        self.vae, self.algorithm, self.rank, self.levels = vae, algorithm, rank, dict(levels or {})

    @property
    def prior(self) -> VariancePrior:
        return self.vae

    def estimate(
        self, power: Tensor, observation: Observation, *, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        count = talkers_of(observation.layout)
        found = talkers(self.vae, power, observation, count, self.level(count))
        return self.algorithm.run(power, found, len(observation.layout) - count, self.rank, rng, watch)

    def level(self, count: int) -> float:
        """Gain to begin with, of so many talkers."""
        known = [number for number in self.levels if number <= count]
        return 10 ** (self.levels[max(known)] / 10) if known else 1.0


def talkers(vae: SpeechVAE, power: Tensor, observation: Observation, count: int, gain: float) -> Talkers:
    """Talkers of an observation as a VAE has them.

    Args:
        vae: of all of them.
        power: (B, N, F) of the mixture.
        observation: for its lips.
        count: talkers, those who are seen first.
        gain: to begin with.
    """
    batch, frames, _ = power.shape
    v = _lips(vae, observation, count, batch, frames)
    heard = power[:, None].expand(-1, count, -1, -1)
    offset = vae.decoder.offset(v)

    def log_variance(z: Tensor) -> Tensor:
        return vae.decoder(z, offset)

    start = vae.infer(heard, v).mean
    return Talkers(log_variance, vae.latent_prior(v, heard), start, power.new_full((batch, count, frames), gain))


def _lips(vae: SpeechVAE, observation: Observation, count: int, batch: int, frames: int) -> Tensor | None:
    """v of every talker, (B, count, N, dim); None for a VAE without lips."""
    if vae.project is None:
        return None
    visible, parts = observation.layout.count(SPEAKER), []
    if visible and observation.visual is not None:
        visual = observation.visual.flatten(0, 1)
        seen = observation.visual_mask
        shown = torch.ones(visual.shape[:2], dtype=torch.bool, device=visual.device)
        v = vae.see(visual, shown if seen is None else seen.flatten(0, 1), frames)
        assert v is not None
        parts.append(v.unflatten(0, (batch, visible)))
    hidden = vae.unseen(batch * (count - visible), frames)
    assert hidden is not None
    parts.append(hidden.unflatten(0, (batch, count - visible)))
    return torch.cat(parts, 1)
