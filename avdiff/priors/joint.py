"""The product of priors: one for talkers, one for noise. The only place that knows roles."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from avdiff.audio.representation import STFT
from avdiff.errors import UserError
from avdiff.priors.base import ConditionalDiffusionPrior, DiffusionPrior
from avdiff.priors.tiled import tiled_denoise, tiled_estimate
from avdiff.types import OFFSCREEN, SPEAKER, Observation, Role


class JointPrior(nn.Module):
    """p(s_1, ..., s_K, n | v) = p(n) prod_k p(s_k | v_k): independent sources (SSNAPS, eq. 11).

    Args:
        priors: one prior a role. "speaker" must take video; "offscreen" may be left out, and is then the speaker's prior
            with its null feature.
        guidance: weight w of classifier-free guidance, D = (1 + w) D(v) - w D(null); 0 switches it off. SSNAPS does not
            give its value.
        guidance_interval: noise levels (low, high), in units of the prior's sigma_data, in which guidance acts; outside
            it one branch is evaluated. None for all. Ours (after arXiv 2404.07724).
        bounded: in `denoise`, let no bin of the STFT come out louder than both the noisy state and the noise in it. Where a
            sampler feeds estimates back, what the mixture does not settle grows without bound wherever a denoiser's gain
            exceeds one: with guidance by design, and for states unlike a network's training. False is the plain form. Ours.
        overlap: of the windows that a recording longer than a prior's training clips is cut into, in samples.
        max_rows: most windows in one network call, to bound memory; 1 for one source and one guidance branch after the other.
        bf16: run the networks in bfloat16 where torch's autocast allows it; all around them stays in float32.
        channels_last: keep the channels of images last in memory.
        compiled: compile the networks with torch.compile, on a GPU into CUDA graphs. The first call of every shape takes minutes.
    """

    def __init__(
        self,
        priors: Mapping[Role, DiffusionPrior],
        guidance: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        bounded: bool = False,
        overlap: int = 16_000,
        max_rows: int = 32,
        bf16: bool = False,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.overlap, self.max_rows, self.bf16 = overlap, max_rows, bf16
        self.priors = nn.ModuleDict(dict(priors))
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            for prior in {id(prior): prior for prior in priors.values()}.values():
                if (network := prior.evaluated) is not None:
                    # the function, not the module: names of weights stay, and hooks run outside of the compiled code
                    network.forward = torch.compile(network.forward, mode="reduce-overhead")
        self.guidance, self.guidance_interval = guidance, guidance_interval
        self.bounded = bounded
        rates = {prior.sample_rate for prior in priors.values()}
        if len(rates) > 1:
            raise ValueError(f"the priors have different sample rates, {sorted(rates)} Hz; they must agree")
        levels = sorted({prior.sigma_data for prior in priors.values() if prior.evaluated is not None})
        if levels and levels[-1] > 1.01 * levels[0]:
            raise ValueError(
                f"the priors' networks have sigma_data from {levels[0]:g} to {levels[-1]:g}, and a mixture has one level; give "
                "those that are adapted the sigma_data of the others, with the gain that brings it to what the network knows"
            )

    @property
    def oracle(self) -> bool:
        """Whether one of the priors is told the sources themselves."""
        return any(prior.oracle for prior in self.priors.values())

    @property
    def exact(self) -> bool:
        """Whether all of them are, so that the posterior is known."""
        return all(prior.oracle for prior in self.priors.values())

    @property
    def sigma_data(self) -> float:
        """Level that mixtures are scaled to before sampling."""
        return next(iter(self.priors.values())).sigma_data  # type: ignore[return-value]

    def _prior(self, role: Role) -> DiffusionPrior:
        if role == OFFSCREEN and OFFSCREEN not in self.priors:
            role = SPEAKER
        if role not in self.priors:
            raise ValueError(f"the layout has a source of role {role!r}; this joint prior has {sorted(self.priors)}")
        return self.priors[role]  # type: ignore[return-value]

    def bind(
        self, observation: Observation, levels: Mapping[Role, float] | None = None, scale: float = 1.0, draws: int = 1
    ) -> BoundJointPrior:
        """Embed the video once and fix which rows of a network call belong to which source.

        Args:
            observation: what is separated, at the priors' level.
            levels: of the sources of each role, in dB relative to the priors' training data; 0 where it says nothing.
            scale: factor on all amplitudes, `sigma_data` among them.
            draws: of every clip, side by side: B is then draws times the clips, a clip's draws one after the other.
        """
        return BoundJointPrior(self, observation, levels or {}, scale, draws)


class BoundJointPrior:
    """A joint prior tied to one observation. See `avdiff.priors.base.BoundPrior`.

    A source of gain g has the prior p(s / g), whose denoiser is g D(x / g; sigma / g). Knowing the level keeps a source from
    taking a share of another: half of a voice is a plausible voice, but not at half its level.

    Attributes:
        gains: (B, K) amplitudes relative to the priors' training data.
    """

    def __init__(
        self, joint: JointPrior, observation: Observation, levels: Mapping[Role, float], scale: float, draws: int = 1
    ) -> None:
        self.sigma_data = scale * joint.sigma_data
        self.evaluations = 0
        self._joint = joint
        self._groups: list[tuple[DiffusionPrior, list[int], Tensor | None, Tensor | None]] = []
        layout, batch = observation.layout, observation.mixture.shape[0]
        decibel = observation.mixture.new_tensor([levels.get(role, 0.0) for role in layout])
        self.gains = (scale * 10 ** (decibel / 20)).repeat(batch, 1)
        roles_of: dict[int, list[int]] = {}
        for source, role in enumerate(layout):
            roles_of.setdefault(id(joint._prior(role)), []).append(source)
        for sources in roles_of.values():
            prior = joint._prior(layout[sources[0]])
            cond = null = None
            if prior.oracle:
                cond = prior.reveal(_truth(observation)[:, sources].flatten(0, 1) / scale).unflatten(0, (batch, -1))
                self.gains[:, sources] = scale  # it knows the levels too
            elif prior.conditional:
                cond, null = _conditions(
                    cast(ConditionalDiffusionPrior, prior), observation, [layout[s] for s in sources], batch
                )
            cond, null = (None if of is None else of.repeat_interleave(draws, 0) for of in (cond, null))
            self._groups.append((prior, sources, cond, null))
        self.gains = self.gains.repeat_interleave(draws, 0)
        # guidance takes a second branch of those who are seen
        self._seen = any(null is not None and null.shape[1] for *_, null in self._groups)

    def _guided(self, sigma: float) -> bool:
        if not self._joint.guidance or not self._seen:
            return False
        if self._joint.guidance_interval is None:
            return True
        low, high = self._joint.guidance_interval
        return low <= sigma / self.sigma_data <= high

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(x.device.type, torch.bfloat16) if self._joint.bf16 else nullcontext()

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """(B, K, T) -> (B, K, T): all sources of a prior, and both guidance branches, in one network call."""
        batch, _, samples = x.shape
        guided = self._guided(sigma)
        self.evaluations += 2 if guided else 1
        sigmas = sigma / self.gains
        state, x = x, x / self.gains[..., None]
        out = torch.empty_like(x)
        for prior, sources, cond, null in self._groups:
            rows, noise = x[:, sources].reshape(batch * len(sources), samples), sigmas[:, sources].flatten()
            visible = 0 if null is None else null.shape[1]
            if guided and visible and cond is not None and null is not None:
                lips = x[:, sources[:visible]].reshape(batch * visible, samples)
                rows, noise = torch.cat([rows, lips]), torch.cat([noise, sigmas[:, sources[:visible]].flatten()])
                cond = torch.cat([cond.flatten(0, 1), null.flatten(0, 1)])
            elif cond is not None:
                cond = cond.flatten(0, 1)
            with self._precision(x):
                clean = tiled_denoise(prior, rows, noise, cond, self._joint.overlap, self._joint.max_rows)
            clean, free = clean[: batch * len(sources)], clean[batch * len(sources) :]
            clean = clean.view(batch, len(sources), samples)
            if free.numel():
                w = self._joint.guidance
                guide = (1 + w) * clean[:, :visible] - w * free.view(batch, visible, samples)
                clean = torch.cat([guide, clean[:, visible:]], dim=1)
            out[:, sources] = clean
        out = out * self.gains[..., None]
        return _bounded(out, state, sigma) if self._joint.bounded else out

    def estimate(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """See `avdiff.priors.base.BoundPrior`."""
        self.evaluations += 1
        batch = x.shape[0]
        x, sigma = x / self.gains[..., None], sigma / self.gains[..., None, None]
        mean, variance = torch.empty_like(x), torch.empty_like(sigma)
        for prior, of, cond, _ in self._groups:
            if not prior.local:
                raise UserError(
                    f"the sampler wants priors that take noise of its own level in every bin, which the one for source {of[0]} "
                    "does not; take the shipped priors, or another method"
                )
            rows, noise = x[:, of].flatten(0, 1), sigma[:, of].flatten(0, 1)
            known = None if cond is None else cond.flatten(0, 1)
            with self._precision(x):
                parts = tiled_estimate(prior, rows, noise, known, self._joint.overlap, self._joint.max_rows)
            mean[:, of], variance[:, of] = (part.unflatten(0, (batch, len(of))) for part in parts)
        return mean * self.gains[..., None], variance * self.gains[..., None, None].square()

    def deviation(self, samples: int) -> Tensor | None:
        """See `avdiff.priors.base.BoundPrior`."""
        batch, sources = self.gains.shape
        parts: list[Tensor | None] = [None] * sources
        for prior, of, cond, _ in self._groups:
            known = prior.deviation(samples, None if cond is None else cond.flatten(0, 1))
            if known is None:
                return None
            known = known.to(self.gains).expand(batch * len(of), -1, -1).unflatten(0, (batch, len(of)))
            for row, source in enumerate(of):
                parts[source] = known[:, row]
        return torch.stack(cast(list[Tensor], parts), dim=1) * self.gains[..., None, None]

    def rescale(self, gains: Tensor) -> None:
        """See `avdiff.priors.base.BoundPrior`."""
        self.gains = self.gains * gains


def _truth(observation: Observation) -> Tensor:
    """The sources themselves, (B, K, T)."""
    if observation.truth is None:
        raise UserError(
            "the method has a prior that is told the sources, and of this mixture they are not known; run it by avdiff benchmark "
            "or avdiff predict on a list, or take another method"
        )
    return observation.truth


def _bounded(x: Tensor, state: Tensor, sigma: float) -> Tensor:
    """x with no bin of its STFT louder than in the state and than white noise of level sigma; both (B, K, T)."""
    stft = STFT().to(x)
    bins = stft(x.flatten(0, 1))
    most = stft(state.flatten(0, 1)).abs().clamp_min(sigma * float(stft.energy.sqrt()))
    bins = bins * (most / bins.abs().clamp_min(1e-12)).clamp_max(1.0)
    return stft.inverse(bins, x.shape[-1]).view_as(x)


def _conditions(
    prior: ConditionalDiffusionPrior, observation: Observation, roles: list[Role], batch: int
) -> tuple[Tensor, Tensor]:
    """Conditions of a group of talkers, (B, K, F, D), and the null condition of the visible ones, (B, K_visible, F, D)."""
    visible = roles.count(SPEAKER)
    frames = -(-observation.mixture.shape[1] * 25 // observation.sample_rate)
    parts = []
    if visible and observation.visual is not None:
        frames = observation.visual.shape[2]
        mask = observation.visual_mask
        embedded = prior.embed(observation.visual.flatten(0, 1), None if mask is None else mask.flatten(0, 1))
        parts.append(embedded.unflatten(0, (batch, visible)))
    null = prior.null(batch * len(roles), frames).unflatten(0, (batch, len(roles)))
    parts.append(null[:, : len(roles) - visible])
    return torch.cat(parts, dim=1), null[:, :visible]
