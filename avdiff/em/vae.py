"""VAE-MCEM and its kin on an observation: talkers by a VAE with lips, noise by NMF."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from avdiff.em.base import MixtureEM, Outcome, Watch, talkers_of
from avdiff.em.mcem import Algorithm
from avdiff.em.mixture import LatentPrior, Talkers
from avdiff.errors import UserError
from avdiff.nets.vae import Gaussian
from avdiff.priors.nmf import enrolled, read_talkers
from avdiff.priors.vae import SpeechVAE, load_vae
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
        levelled: whether gains stay so. In the papers they are free in every frame.
    """

    visual_input = "mouth"

    def __init__(
        self,
        vae: SpeechVAE,
        algorithm: Algorithm,
        rank: int = 10,
        levels: Mapping[int, float] | None = None,
        levelled: bool = False,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}; the noise needs at least one pattern")
        self.vae, self.algorithm, self.rank, self.levels = vae, algorithm, rank, dict(levels or {})
        self.levelled = levelled

    @property
    def prior(self) -> VariancePrior:
        return self.vae

    def estimate(
        self, power: Tensor, observation: Observation, *, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        count = talkers_of(observation.layout)
        found = replace(self._talkers(power, observation, count), levelled=self.levelled)
        return self.algorithm.run(power, found, len(observation.layout) - count, self.rank, rng, watch)

    def _talkers(self, power: Tensor, observation: Observation, count: int) -> Talkers:
        return talkers(self.vae, power, observation, count, self.level(count))

    def level(self, count: int) -> float:
        """Gain to begin with, of so many talkers."""
        known = [number for number in self.levels if number <= count]
        return 10 ** (self.levels[max(known)] / 10) if known else 1.0


class EnrolledVAEMixture(VAEMixture):
    """The same with a VAE for every voice, learned from its enrolment, and a list that says who speaks in which clip.

    Args:
        folder: holds a folder a voice with one of each preset that was trained, and talkers.json:
            {"clip id": ["voice", ...], ...}.
        preset: which of a voice's VAEs; one with a single Gaussian prior.
        algorithm, rank, levels, levelled: see `VAEMixture`.

    Raises:
        UserError: a part of the folder is missing.
    """

    def __init__(
        self,
        folder: Path,
        algorithm: Algorithm,
        preset: str = "conditional_vae",
        rank: int = 10,
        levels: Mapping[int, float] | None = None,
        levelled: bool = False,
    ) -> None:
        folder = Path(folder)
        listed = read_talkers(folder)
        names = sorted({voice for voices in listed.values() for voice in voices})
        vaes = [load_vae(str(folder / name / preset)) for name in names]
        super().__init__(vaes[0], algorithm, rank, levels, levelled)
        self.folder, self.listed = folder, listed
        self.some: tuple[int, ...] | None = None  # of a recording's speakers; None for all of them
        self.vaes = nn.ModuleDict(dict(zip(names, vaes, strict=True)))

    def restricted(self, speakers: Sequence[int]) -> EnrolledVAEMixture:
        other = copy.copy(self)
        other.some = tuple(speakers)
        return other

    def _talkers(self, power: Tensor, observation: Observation, count: int) -> Talkers:
        cast = [enrolled(self.listed, key, count, self.folder, self.some) for key in observation.key]
        gain = self.level(count)
        each = [
            talkers(self._vae(voice), power[row : row + 1], _alone(observation, row, k), 1, gain)
            for row, voices in enumerate(cast)
            for k, voice in enumerate(voices)
        ]

        def gathered(parts: list[Tensor]) -> Tensor:
            """(..., 1, 1, N, D) of each talker of each clip -> (..., B, count, N, D)."""
            rows = [torch.cat(parts[start : start + count], -3) for start in range(0, len(parts), count)]
            return torch.cat(rows, -4)

        def log_variance(z: Tensor) -> Tensor:
            return gathered(
                [own.log_variance(z[..., i // count, None, i % count, None, :, :]) for i, own in enumerate(each)]
            )

        if not each:
            return talkers(self.vae, power, observation, count, gain)
        priors = [one_gaussian(own.prior) for own in each]
        prior = Gaussian(gathered([p.mean for p in priors]), gathered([p.log_variance for p in priors]))
        start = gathered([own.start for own in each])
        return Talkers(log_variance, prior, start, power.new_full(start.shape[:-1], gain))

    def _vae(self, voice: str) -> SpeechVAE:
        return self.vaes[voice]  # type: ignore[return-value]


def one_gaussian(prior: LatentPrior) -> Gaussian:
    """The prior, which must be one Gaussian.

    Raises:
        UserError: it is not.
    """
    if not isinstance(prior, Gaussian):
        raise UserError(
            "the enrolled VAEs have a prior of two branches; give a preset with one, such as conditional_vae"
        )
    return prior


def _alone(observation: Observation, row: int, k: int) -> Observation:
    """One clip with one of its talkers."""
    role = observation.layout[k]
    pick = lambda t: t[row : row + 1, k : k + 1] if role == SPEAKER and t is not None else None  # noqa: E731
    return replace(
        observation,
        key=observation.key[row : row + 1],
        mixture=observation.mixture[row : row + 1],
        visual=pick(observation.visual),
        visual_mask=pick(observation.visual_mask),
        layout=(role,),
    )


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
