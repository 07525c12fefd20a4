"""Recordings of any length: stretches of about half a minute, separated one after the other and cross-faded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import NotSeparated, Separator, separation
from avdiff.types import NOISE, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEAKER, VIDEO_FPS, ClipInfo, Observation, Separation

Window = Callable[[int, int], Observation]


@dataclass(frozen=True)
class Piece:
    """Part of a separated recording that will not change any more.

    Attributes:
        start: its first sample.
        sources: (K, n) at 16 kHz.
        info: of the stretch that was just separated, with its `start` and `stop` in samples and its `layout`.
        std: (K, n) spread of the draws that `sources` is the mean of, where it is one.
    """

    start: int
    sources: Tensor
    info: dict[str, Any] = field(default_factory=dict)
    std: Tensor | None = None


def stretches(samples: int, seconds: int = 30, overlap: int = 2) -> list[tuple[int, int]]:
    """What a recording is cut into: (start, stop) in samples, of about equal length; starts are at whole seconds.

    Args:
        samples: length of the recording at 16 kHz.
        seconds: the longest stretch; the last may be a second longer.
        overlap: seconds that neighbours share.
    """
    total = ceil(samples / SAMPLE_RATE)
    if total <= seconds:
        return [(0, samples)]
    count = ceil((total - overlap) / (seconds - overlap))
    hop = ceil((total - overlap) / count)
    plan = [
        (start * SAMPLE_RATE, min((start + hop + overlap) * SAMPLE_RATE, samples))
        for start in range(0, total - overlap, hop)
    ]
    if plan[-1][1] - plan[-1][0] < SAMPLE_RATE:  # too little to separate
        plan[-2:] = [(plan[-2][0], samples)]
    return plan


class Chunked(Separator):
    """Any separator on recordings of any length.

    Every stretch is separated with the faces that are seen in it, at its own level, so that a quiet minute is not
    measured by a loud one. A source is a face, from one stretch to the next: a talker who is not seen in a stretch gets
    silence there, and what they say goes to another source. Where neither a face nor an off-screen talker is left,
    all is noise.

    Args:
        separator: what separates a stretch.
        seconds: the longest stretch.
        overlap: seconds over which neighbouring stretches are cross-faded; whole.
        shortest: pictures; a face seen in fewer of a stretch is no source there, nor one seen in less than half of a shorter one.
    """

    def __init__(self, separator: Separator, seconds: int = 30, overlap: int = 2, shortest: int = VIDEO_FPS) -> None:
        super().__init__()
        if not 0 <= 2 * overlap <= seconds or seconds < 1:
            raise ValueError(
                f"stretches of {seconds} s that overlap by {overlap} s leave nothing between; "
                "overlap must be at most half of seconds"
            )
        self.separator = separator
        self.seconds = seconds
        self.overlap = overlap
        self.shortest = shortest

    @property
    def visual_input(self) -> str:
        return self.separator.visual_input

    @property
    def oracle(self) -> bool:
        return self.separator.oracle

    @property
    def spreads(self) -> bool:
        return self.separator.spreads

    def plan(self, samples: int) -> list[tuple[int, int]]:
        """Stretches (start, stop) in samples: see `stretches`."""
        return stretches(samples, self.seconds, self.overlap)

    def stream(
        self, window: Window, samples: int, *, rng: ClipNoise, callback: Callback | None = None
    ) -> Iterator[Piece]:
        """Separate one recording, handing out what is finished.

        Args:
            window: gives the observation (batch of one, the whole recording's layout) of samples start to stop.
            samples: length of the recording at 16 kHz.
            rng: keyed to the one recording; every stretch draws noise of its own.

        Raises:
            NotSeparated: a stretch could not be separated; the pieces before it have been handed out.
        """
        tail: Tensor | None = None
        plan = self.plan(samples)
        for index, (start, stop) in enumerate(plan):
            key = rng.key if len(plan) == 1 else (f"{rng.key[0]}@{start // SAMPLE_RATE}",)
            observation = replace(window(start, stop), key=key)
            signals, found = self._stretch(observation, ClipNoise(rng.seed, key), callback)
            if (reason := found.failures[0]) is not None:
                span = f"seconds {start / SAMPLE_RATE:.1f} to {stop / SAMPLE_RATE:.1f}"
                raise NotSeparated(f"{span} could not be separated: {reason}")
            if tail is not None:
                fade = torch.linspace(0, 1, tail.shape[-1] + 2)[1:-1]
                signals[..., : tail.shape[-1]] = fade * signals[..., : tail.shape[-1]] + (1 - fade) * tail
            final = plan[index + 1][0] - start if index + 1 < len(plan) else stop - start
            tail = signals[..., final:].clone()
            std = signals[1, :, :final] if len(signals) > 1 else None
            yield Piece(
                start,
                signals[0, :, :final],
                {"start": start, "stop": stop, "layout": found.layout, **found.info, **found.clips[0].figures},
                std,
            )

    def _stretch(
        self, observation: Observation, rng: ClipNoise, callback: Callback | None
    ) -> tuple[Tensor, Separation]:
        """Sources, and their spread if any, (1 or 2, K, n) on the CPU for the whole layout, and the separation behind them."""
        mixture = observation.mixture
        here = self.present(observation)
        heard = _only(observation, here)
        if any(role != NOISE for role in heard.layout):
            separator = self.separator
            if len(here) < len(observation.layout):
                separator = separator.restricted([k for k in here if observation.layout[k] != NOISE])
            found = separator.separate(heard, rng=rng, callback=callback)
        else:
            found = separation(heard, mixture[:, None].expand(-1, len(here), -1), {})
        told = [found.sources] if found.std is None else [found.sources, found.std]
        signals = torch.zeros(1 + self.spreads, len(observation.layout), mixture.shape[-1])
        for of, signal in zip(signals, told, strict=False):  # a stretch of noise alone has no spread
            of[here] = signal[0].float().cpu()
        return signals, found

    def present(self, observation: Observation) -> list[int]:
        """Indices of the sources that are there: talkers without a face, noise, and faces that are seen for long enough."""
        if observation.visual_mask is None:
            return list(range(len(observation.layout)))
        enough = min(self.shortest, ceil(observation.visual_mask.shape[2] / 2))
        seen = (observation.visual_mask.sum(2) >= enough).all(0)
        return [k for k, role in enumerate(observation.layout) if role != SPEAKER or seen[k]]

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        observation.require_rate(SAMPLE_RATE)  # stretches are cut in step with the video
        samples = observation.mixture.shape[-1]
        if len(self.plan(samples)) == 1 and len(self.present(observation)) == len(observation.layout):
            return self.separator.separate(observation, rng=rng, callback=callback)
        clips: list[Tensor] = []  # sources, and their spread where there is one: (1 or 2, K, T)
        infos: list[list[dict[str, Any]]] = []
        failures: list[str | None] = []
        for row, key in enumerate(observation.key):
            window = _Windows(observation.select([row]))
            pieces: list[Piece] = []
            try:
                pieces.extend(self.stream(window, samples, rng=ClipNoise(rng.seed, (key,)), callback=callback))
                kinds = ("sources", "std") if self.spreads else ("sources",)
                clips.append(torch.stack([torch.cat([getattr(p, of) for p in pieces], dim=-1) for of in kinds]))
                failures.append(None)
            except NotSeparated as failure:
                clips.append(torch.full((1 + self.spreads, len(observation.layout), samples), torch.nan))
                failures.append(str(failure))
            infos.append([piece.info for piece in pieces])
        signals = torch.stack(clips, dim=1).to(observation.mixture.device)
        info: dict[str, Any] = {
            "evaluations": max(sum(stretch.get("evaluations", 0) for stretch in clip) for clip in infos),
            "seconds": sum(stretch.get("seconds", 0.0) for clip in infos for stretch in clip),
        }
        told = tuple(ClipInfo({"stretches": own}, why) for own, why in zip(infos, failures, strict=True))
        std = signals[1] if self.spreads else None
        return Separation(observation.key, observation.layout, signals[0], info, told, std)


def _only(observation: Observation, sources: list[int]) -> Observation:
    """The observation with some of its sources."""
    layout = tuple(observation.layout[k] for k in sources)
    faces = [k for k in sources if observation.layout[k] == SPEAKER]
    pick = lambda t: t[:, faces] if faces and t is not None else None  # noqa: E731
    return replace(
        observation,
        layout=layout,
        visual=pick(observation.visual),
        visual_mask=pick(observation.visual_mask),
        truth=None if observation.truth is None else observation.truth[:, sources],
    )


@dataclass(frozen=True)
class _Windows:
    """Windows of an observation that is whole in memory."""

    observation: Observation

    def __call__(self, start: int, stop: int) -> Observation:
        frames = slice(start // SAMPLES_PER_FRAME, ceil(stop / SAMPLES_PER_FRAME))
        visual, mask, truth = self.observation.visual, self.observation.visual_mask, self.observation.truth
        return replace(
            self.observation,
            mixture=self.observation.mixture[:, start:stop],
            visual=None if visual is None else visual[:, :, frames],
            visual_mask=None if mask is None else mask[:, :, frames],
            truth=None if truth is None else truth[..., start:stop],
        )
