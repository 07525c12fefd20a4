"""The values that travel through avdiff: what a method may see, and what it must return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from avdiff.errors import UserError

SAMPLE_RATE = 16_000  # Hz, of every model in the package
VIDEO_FPS = 25  # frames a second, of every visual stream handed to a model
SAMPLES_PER_FRAME = SAMPLE_RATE // VIDEO_FPS  # 640

Role = str
SPEAKER: Role = "speaker"  # a talker whose lips are seen
OFFSCREEN: Role = "offscreen"  # a talker without video
NOISE: Role = "noise"  # everything that is not a talker
ROLES: tuple[Role, ...] = (SPEAKER, OFFSCREEN, NOISE)


def check_layout(layout: tuple[Role, ...]) -> None:
    """Refuse a layout that no method could honour.

    Raises:
        ValueError: an unknown role, or sources out of order (speakers, then off-screen, then noise).
    """
    unknown = [role for role in layout if role not in ROLES]
    if unknown:
        raise ValueError(f"layout {layout} names the unknown role {unknown[0]!r}; the roles are {', '.join(ROLES)}")
    order = [ROLES.index(role) for role in layout]
    if not layout or order != sorted(order):
        raise ValueError(f"layout {layout} must list speakers first, then off-screen speakers, then noise")


def source_names(layout: tuple[Role, ...]) -> tuple[str, ...]:
    """A name for every source, for files and tables: speaker1, speaker2, ..., offscreen, noise.

    Speakers are always numbered; the other roles only where there are several.
    """
    return tuple(
        role if role != SPEAKER and layout.count(role) == 1 else f"{role}{layout[: k + 1].count(role)}"
        for k, role in enumerate(layout)
    )


@dataclass(frozen=True)
class Observation:
    """All that a separation method may see of a batch of mixtures.

    Attributes:
        key: clip ids, length B. With the seed they alone decide the sampling noise.
        mixture: (B, T) float32 at `sample_rate`.
        visual: (B, K_visible, F, ...) what the method declares as its visual input at 25 fps; F = ceil(T / 640).
            Mouth crops are uint8 (B, K_visible, F, 96, 96). None when no source has role "speaker".
        visual_mask: (B, K_visible, F) bool, True where the face was seen. None means seen throughout.
        layout: one role a source, the same for the whole batch: speakers, then off-screen speakers, then noise.
        sample_rate: Hz.
        truth: (B, K, T) the sources themselves, only for a separator that says it is an oracle; None for every method.
    """

    key: tuple[str, ...]
    mixture: Tensor
    visual: Tensor | None
    visual_mask: Tensor | None
    layout: tuple[Role, ...]
    sample_rate: int = SAMPLE_RATE
    truth: Tensor | None = None

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if self.mixture.ndim != 2:
            raise ValueError(f"mixture has shape {tuple(self.mixture.shape)}; expected (batch, samples)")
        if len(self.key) != self.mixture.shape[0]:
            raise ValueError(f"{len(self.key)} keys were given for {self.mixture.shape[0]} mixtures; give one a clip")
        visible = self.layout.count(SPEAKER)
        if visible and (self.visual is None or self.visual.shape[1] != visible):
            given = "no video" if self.visual is None else f"{self.visual.shape[1]} visual streams"
            raise ValueError(f"the layout has {visible} visible speaker(s) but {given} came with it")

    def require_rate(self, sample_rate: int) -> None:
        """Refuse to be separated by models of another sample rate: they would take it for slower or faster sound.

        Args:
            sample_rate: of the models, Hz.

        Raises:
            UserError: it is another one.
        """
        if self.sample_rate != sample_rate:
            raise UserError(
                f"the mixture has a sample rate of {self.sample_rate} Hz, the method's models one of {sample_rate} Hz; "
                f"resample the mixture to {sample_rate} Hz first (avdiff.audio.io.resample)"
            )

    def to(self, *args: Any, **kwargs: Any) -> Observation:
        """The same observation with its tensors moved, for Lightning's batch transfer."""
        moved: dict[str, Any] = {
            name: value.to(*args, **kwargs)
            for name in ("mixture", "visual", "visual_mask", "truth")
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **moved)

    def select(self, rows: list[int]) -> Observation:
        """The observation of some of its clips."""
        index = torch.as_tensor(rows, device=self.mixture.device)
        pick = lambda t: None if t is None else t.index_select(0, index)  # noqa: E731
        return replace(
            self,
            key=tuple(self.key[row] for row in rows),
            mixture=self.mixture.index_select(0, index),
            visual=pick(self.visual),
            visual_mask=pick(self.visual_mask),
            truth=pick(self.truth),
        )


def repeated(observation: Observation, times: int) -> Observation:
    """Every clip of an observation so many times, one after the other: `times` = 2 gives a, a, b, b. The first has the key of
    the clip itself, the others keys of their own, and so noise of their own."""
    again = lambda t: None if t is None else t.repeat_interleave(times, 0)  # noqa: E731
    return replace(
        observation,
        key=tuple(f"{key}#{draw}" if draw else key for key in observation.key for draw in range(times)),
        mixture=observation.mixture.repeat_interleave(times, 0),
        visual=again(observation.visual),
        visual_mask=again(observation.visual_mask),
        truth=again(observation.truth),
    )


@dataclass(frozen=True)
class ClipInfo:
    """What a method tells of one clip.

    Attributes:
        figures: by name, free of tensors, such as the final data fit.
        failure: why it could not be separated, in a sentence; None if it was.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class Separation:
    """What a method returns.

    Attributes:
        key: clip ids, length B.
        layout: what was estimated, one role a source.
        sources: (B, K, T) raw estimates at the level that they have in the mixture.
            NaN throughout for a clip that could not be separated. (K, T) from a call on one mixture of shape (T,).
        info: figures of the whole batch (evaluations of each prior, seconds), free of tensors.
        clips: of each clip, length B; empty for a method that tells nothing of single clips.
        std: (B, K, T) standard deviation of every sample given the mixture, where `sources` is the mean of several draws: of a
            draw, not of the mean. NaN where fewer than two draws came to an end. None for a method that makes one estimate.
        sample_rate: Hz.
    """

    key: tuple[str, ...]
    layout: tuple[Role, ...]
    sources: Tensor
    info: dict[str, Any] = field(default_factory=dict)
    clips: tuple[ClipInfo, ...] = ()
    std: Tensor | None = None
    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        if not self.clips:
            object.__setattr__(self, "clips", (ClipInfo(),) * len(self.key))
        if len(self.clips) != len(self.key):
            raise ValueError(
                f"{len(self.clips)} clips are told of in a batch of {len(self.key)}; give one a clip, or none"
            )

    @property
    def named(self) -> dict[str, Tensor]:
        """The sources by name, (B, T) each, or (T,) where `sources` is (K, T): speaker1, speaker2, ..., offscreen, noise."""
        return dict(zip(source_names(self.layout), self.sources.unbind(-2), strict=True))

    @property
    def failures(self) -> tuple[str | None, ...]:
        """Why each clip could not be separated; None for those that were."""
        return tuple(clip.failure for clip in self.clips)

    def record(self, row: int) -> dict[str, Any]:
        """Figures of one clip for its record: the batch's, its own, and "failure" where it could not be separated."""
        clip = self.clips[row]
        failure = {} if clip.failure is None else {"failure": clip.failure}
        return {**self.info, **clip.figures, **failure, "clips_in_batch": len(self.key)}
