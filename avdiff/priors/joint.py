"""The product of priors: one for talkers, one for noise. The only place that knows roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from avdiff.audio.representation import STFT
from avdiff.errors import UserError
from avdiff.priors.base import ConditionalDiffusionPrior, DiffusionPrior
from avdiff.priors.execution import Execution, with_compiled_network
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation, Role


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
        self.execution = Execution(overlap, max_rows, bf16)
        if compiled:
            run = {id(prior): with_compiled_network(prior) for prior in priors.values()}
            priors = {role: run[id(prior)] for role, prior in priors.items()}
        self.priors = nn.ModuleDict(dict(priors))
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    def sample_rate(self) -> int:
        """Of all priors, Hz."""
        return next(iter(self.priors.values())).sample_rate  # type: ignore[return-value]

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
            observation: the mixtures, at the priors' level and sample rate.
            levels: of the sources of each role, in dB relative to the priors' training data; 0 where it says nothing.
            scale: factor on all amplitudes, `sigma_data` among them.
            draws: of every clip, side by side: B is then draws times the clips, a clip's draws one after the other.

        Raises:
            UserError: the mixture has another sample rate than the priors, or its sources are not known and a prior is told them.
        """
        observation.require_rate(self.sample_rate)
        layout, batch = observation.layout, observation.mixture.shape[0]
        decibel = observation.mixture.new_tensor([(levels or {}).get(role, 0.0) for role in layout])
        gains = (scale * 10 ** (decibel / 20)).repeat(batch, 1)
        noise = torch.tensor([role == NOISE for role in layout], device=observation.mixture.device)
        of_prior: dict[int, list[int]] = {}
        for source, role in enumerate(layout):
            of_prior.setdefault(id(self._prior(role)), []).append(source)
        groups = []
        for sources in of_prior.values():
            group = _Group(self._prior(layout[sources[0]]), sources)
            if group.prior.oracle:
                truth = _truth(observation)[:, sources].flatten(0, 1) / scale
                group = replace(group, cond=group.prior.reveal(truth).unflatten(0, (batch, -1)))
                gains[:, sources] = scale  # it knows the levels too
            elif isinstance(group.prior, ConditionalDiffusionPrior) and group.prior.conditional:
                cond, null = _conditions(group.prior, observation, [layout[source] for source in sources], batch)
                group = replace(group, cond=cond, null=null)
            groups.append(group.repeated(draws))
        return BoundJointPrior(self, tuple(groups), gains.repeat_interleave(draws, 0), noise, scale * self.sigma_data)


@dataclass(frozen=True)
class _Group:
    """The sources of a layout that have a prior in common.

    Attributes:
        prior: theirs.
        sources: their indices in the layout, those of visible speakers first.
        cond: (B, k, F, D) their conditions; None for a prior without any.
        null: (B, k_visible, F, D) the null condition of the visible speakers; None for a prior without video.
    """

    prior: DiffusionPrior
    sources: list[int]
    cond: Tensor | None = None
    null: Tensor | None = None

    @property
    def visible(self) -> int:
        """Number of visible speakers, which guidance needs a second branch of."""
        return 0 if self.null is None else self.null.shape[1]

    def repeated(self, draws: int) -> _Group:
        """The same with every clip so many times, one after the other."""
        cond, null = (None if of is None else of.repeat_interleave(draws, 0) for of in (self.cond, self.null))
        return replace(self, cond=cond, null=null)


@dataclass
class _Meter:
    """Count of network evaluations a source."""

    evaluations: int = 0


@dataclass(frozen=True)
class BoundJointPrior:
    """A joint prior tied to one observation. See `avdiff.priors.base.BoundPrior`.

    A source of gain g has the prior p(s / g), whose denoiser is g D(x / g; sigma / g). Knowing the level keeps a source from
    taking a share of another: half of a voice is a plausible voice, but not at half its level.

    Attributes:
        joint: the product of priors.
        groups: sources by prior.
        gains: (B, K) amplitudes relative to the priors' training data.
        noise: (K,) bool, the sources of role "noise".
        sigma_data: std of the data in waveform units.
    """

    joint: JointPrior
    groups: tuple[_Group, ...]
    gains: Tensor
    noise: Tensor
    sigma_data: float
    _meter: _Meter = field(default_factory=_Meter)  # one for all that are made of this by `rescaled`

    @property
    def evaluations(self) -> int:
        """See `avdiff.priors.base.BoundPrior`."""
        return self._meter.evaluations

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """(B, K, T) -> (B, K, T): all sources of a prior, and both guidance branches, in one network call."""
        self._meter.evaluations += 2 if self._guided(sigma) else 1
        out = torch.empty_like(x)
        for group in self.groups:
            out[:, group.sources] = self._denoise_group(group, x[:, group.sources], sigma)
        return _bounded(out, x, sigma) if self.joint.bounded else out

    def _denoise_group(self, group: _Group, x: Tensor, sigma: float) -> Tensor:
        """g D(x / g; sigma / g) of the sources of a group, (B, k, T) -> (B, k, T), guided where they are visible."""
        gains, visible = self.gains[:, group.sources], group.visible
        x, sigmas, cond = x / gains[..., None], sigma / gains, group.cond
        if not (self._guided(sigma) and visible):
            return gains[..., None] * self.joint.execution.denoise(group.prior, x, sigmas, cond)
        assert cond is not None and group.null is not None  # noqa: PT018  # there are visible speakers
        x2, sigmas2 = (torch.cat([of, of[:, :visible]], dim=1) for of in (x, sigmas))
        both = self.joint.execution.denoise(group.prior, x2, sigmas2, torch.cat([cond, group.null], dim=1))
        given, free = both.split([x.shape[1], visible], dim=1)
        guided = torch.lerp(free, given[:, :visible], 1 + self.joint.guidance)  # (1 + w) D(v) - w D(null)
        return gains[..., None] * torch.cat([guided, given[:, visible:]], dim=1)

    def _guided(self, sigma: float) -> bool:
        if not self.joint.guidance or not any(group.visible for group in self.groups):
            return False
        if self.joint.guidance_interval is None:
            return True
        low, high = self.joint.guidance_interval
        return low <= sigma / self.sigma_data <= high

    def estimate(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """See `avdiff.priors.base.BoundPrior`."""
        self._meter.evaluations += 1
        mean, variance = torch.empty_like(x), torch.empty_like(sigma)
        for group in self.groups:
            of = group.sources
            if not group.prior.local:
                raise UserError(
                    f"the sampler wants priors that take noise of its own level in every bin, which the one for source {of[0]} "
                    "does not; take the shipped priors, or another method"
                )
            gains = self.gains[:, of, None]
            own = x[:, of] / gains, sigma[:, of] / gains[..., None]
            own_mean, own_variance = self.joint.execution.estimate(group.prior, *own, group.cond)
            mean[:, of], variance[:, of] = own_mean * gains, own_variance * gains[..., None].square()
        return mean, variance

    def deviation(self, samples: int) -> Tensor | None:
        """See `avdiff.priors.base.BoundPrior`."""
        batch, sources = self.gains.shape
        parts: list[Tensor | None] = [None] * sources
        for group in self.groups:
            cond, of = group.cond, group.sources
            known = group.prior.deviation(samples, None if cond is None else cond.flatten(0, 1))
            if known is None:
                return None
            known = known.to(self.gains).expand(batch * len(of), -1, -1).unflatten(0, (batch, len(of)))
            for row, source in enumerate(of):
                parts[source] = known[:, row]
        return torch.stack(cast(list[Tensor], parts), dim=1) * self.gains[..., None, None]

    def rescaled(self, gains: Tensor) -> BoundJointPrior:
        """See `avdiff.priors.base.BoundPrior`."""
        return replace(self, gains=self.gains * gains)


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
