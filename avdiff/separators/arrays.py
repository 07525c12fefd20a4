"""A method on arrays: a mixture of any rate, with mouths or the frames of a video, to named sources of that rate.

The steps are those by which recordings are separated: 16 kHz without rumble for the method, the estimates made to add up,
and what lies above 8 kHz given to the noise, so that the sources add up to the mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avdiff.audio.consistency import make_consistent
from avdiff.audio.io import join_band, resample
from avdiff.audio.rumble import without_rumble
from avdiff.errors import UserError
from avdiff.rng import ClipNoise
from avdiff.separators.base import NotSeparated, Separator
from avdiff.separators.chunked import Chunked
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEAKER, VIDEO_FPS, Observation, Separation
from avdiff.video.detectors import find_detector
from avdiff.video.faces import FaceDetector
from avdiff.video.talkers import find_talkers

SHORTEST = 0.1  # s of sound
APART = 0.5  # s by which sound and frames may differ in length
MOUTH = (96, 96)  # pixels of a crop


def separate_arrays(
    separator: Separator,
    mixture: Tensor | np.ndarray,
    *,
    sample_rate: int,
    mouths: Tensor | np.ndarray | None = None,
    seen: Tensor | np.ndarray | None = None,
    frames: np.ndarray | Sequence[np.ndarray] | None = None,
    fps: float = VIDEO_FPS,
    offscreen: int = 0,
    seed: int = 0,
    detector: FaceDetector | None = None,
    seconds: int = 30,
) -> Separation:
    """Separate one mixture, or a batch of mixtures of the same speakers' number and length.

    Args:
        separator: the method, on any device.
        mixture: (T,) or (B, T) real numbers, full scale 1.
        sample_rate: of the mixture, Hz.
        mouths: (K, F, 96, 96) uint8 grey crops of K speakers, aligned as `avdiff.video.mouth` cuts them; with a batch (B, K, F,
            96, 96).
        seen: (K, F) or (B, K, F) bool: where the face was seen. None: throughout.
        frames: (F, height, width, 3) uint8 RGB, instead of mouths: the faces are found in them. Only for one mixture (T,).
        fps: of mouths or frames; from other rates than 25 the nearest is taken.
        offscreen: speakers who are heard and not seen, 0 or 1.
        seed: of the sampling noise.
        detector: of faces, for `frames`. None: dlib's.
        seconds: separated at a time.

    Returns:
        sources (K, T) or (B, K, T) at `sample_rate`, by name in `named`: the speakers in the order of `mouths`, or in order of
        appearance; off-screen; noise. They add up to the mixture. `std` is that at 16 kHz, interpolated linearly. In a batch, a
        clip that could not be separated is NaN, with the reason in `failures`.

    Raises:
        UserError: the arrays do not fit each other; the sentence says why and what to change.
        NotSeparated: one mixture (T,) that could not be separated.
    """
    sound = _mixture(mixture, sample_rate)
    single = sound.ndim == 1
    sound = sound[None] if single else sound
    if offscreen not in (0, 1):
        raise UserError(f"offscreen is {offscreen}; give 0 or 1: nothing tells apart two voices that have no face")
    if separator.visual_input == "features":
        raise UserError("the method takes visual features made beforehand; choose one that takes mouths")
    heard = torch.stack(
        [without_rumble(x if sample_rate == SAMPLE_RATE else resample(x, sample_rate, SAMPLE_RATE)) for x in sound]
    )
    count = ceil(heard.shape[-1] / SAMPLES_PER_FRAME)
    duration = sound.shape[-1] / sample_rate
    visual, mask = None, None
    if frames is not None:
        if mouths is not None or seen is not None:
            raise UserError("both frames and mouths were given; give one of them")
        if not single:
            raise UserError(f"frames go with one mixture, and {len(sound)} were given; separate them one by one")
        visual, mask = _found(frames, fps, duration, count, detector)
    elif mouths is not None:
        visual, mask = _given(mouths, seen, fps, duration, count, single)
        if len(visual) != len(sound):
            raise UserError(f"mouths are of {len(visual)} mixtures, and {len(sound)} were given; give them for each")
    speakers = 0 if visual is None else visual.shape[1]
    if not speakers and not offscreen:
        missing = "no mouths and no frames were given" if frames is None else "no face was seen for a second or longer"
        raise UserError(f"{missing}; give them, or offscreen=1 for one unseen speaker")
    layout = (SPEAKER,) * speakers + (OFFSCREEN,) * offscreen + (NOISE,)
    key = tuple(
        "recording" if row == 0 else f"recording{row}" for row in range(len(sound))
    )  # the first as in recordings
    shown = (visual, mask) if speakers else (None, None)
    weights = next(chain(separator.parameters(), separator.buffers()), None)
    observation = Observation(key, heard, *shown, layout).to("cpu" if weights is None else weights.device)
    method = separator if isinstance(separator, Chunked) else Chunked(separator, seconds, overlap=min(2, seconds // 2))
    found = method.separate(observation, rng=ClipNoise(seed, key))
    if single and found.failures[0] is not None:
        raise NotSeparated(f"the mixture could not be separated: {found.failures[0]}")
    sources = make_consistent(found.sources.float().cpu(), heard)
    sources = join_band(sources, sample_rate, sound.shape[-1]).clone()
    sources[:, -1] = sound - sources[:, :-1].sum(1)
    std = None if found.std is None else F.interpolate(found.std.float().cpu(), sound.shape[-1], mode="linear")
    if single:
        sources, std = sources[0], None if std is None else std[0]
    return replace(found, sources=sources, std=std, sample_rate=sample_rate)


def _mixture(mixture: Tensor | np.ndarray, sample_rate: int) -> Tensor:
    """The mixture as float32 on the CPU, refused where it is none."""
    x = torch.as_tensor(mixture).detach().cpu()
    if sample_rate != int(sample_rate) or sample_rate <= 0:
        raise UserError(f"sample_rate is {sample_rate}; give a whole number of Hz, such as 48000")
    if x.ndim not in (1, 2) or not x.is_floating_point():
        raise UserError(
            f"mixture has shape {tuple(x.shape)} of {x.dtype}; give real numbers, full scale 1, of shape (T,) or (B, T)"
        )
    if not len(x) or x.shape[-1] < SHORTEST * sample_rate:
        raise UserError(
            f"mixture has shape {tuple(x.shape)}, which lasts {x.shape[-1] / sample_rate:.3f} s at {sample_rate} Hz; give "
            f"{SHORTEST:g} s or more, time last, channels averaged"
        )
    if not x.isfinite().all():
        raise UserError("mixture holds values that are no finite numbers; mend it")
    return x.float()


def _indices(length: int, fps: float, duration: float, count: int, name: str) -> Tensor:
    """The frame nearest to each of `count` frames at 25 fps, (count,); from `length` on there is none."""
    if not fps > 0:
        raise UserError(f"fps is {fps}; give the frames a second of the {name}, such as 25")
    if abs(length / fps - duration) > APART:
        raise UserError(
            f"the {length} {name} last {length / fps:.2f} s at {fps:g} fps, and the mixture {duration:.2f} s; give fps, or cut "
            "or pad them to the mixture's length"
        )
    return (torch.arange(count) * (fps / VIDEO_FPS) + 0.5).long()


def _given(mouths: Any, seen: Any, fps: float, duration: float, count: int, single: bool) -> tuple[Tensor, Tensor]:
    """Crops (B, K, count, 96, 96) and where they were seen, (B, K, count), at 25 fps."""
    crops = torch.as_tensor(mouths).detach().cpu()
    expected = "(K, F, 96, 96)" if single else "(B, K, F, 96, 96)"
    if crops.ndim != 4 + (not single) or tuple(crops.shape[-2:]) != MOUTH or crops.dtype != torch.uint8:
        raise UserError(f"mouths have shape {tuple(crops.shape)} of {crops.dtype}; give uint8 of shape {expected}")
    there = torch.ones(crops.shape[:-2], dtype=torch.bool) if seen is None else torch.as_tensor(seen).cpu().bool()
    if there.shape != crops.shape[:-2]:
        raise UserError(f"seen has shape {tuple(there.shape)}; give {tuple(crops.shape[:-2])}, as the mouths have")
    if single:
        crops, there = crops[None], there[None]
    index = _indices(crops.shape[2], fps, duration, count, "mouths")
    inside = index < crops.shape[2]
    index = index.clamp_max(crops.shape[2] - 1)
    there = there[:, :, index] & inside
    return crops[:, :, index] * inside[:, None, None], there


def _found(
    frames: Any, fps: float, duration: float, count: int, detector: FaceDetector | None
) -> tuple[Tensor, Tensor]:
    """As `_given`, of everyone who is seen in the frames of a video."""
    shapes = {np.shape(frame) for frame in (frames[0], frames[-1])} if len(frames) else {()}
    shape: tuple[int, ...] = shapes.pop()
    if shapes or len(shape) != 3 or shape[2] != 3 or np.asarray(frames[0]).dtype != np.uint8:
        raise UserError("frames are no RGB pictures; give uint8 of shape (F, height, width, 3)")
    index = _indices(len(frames), fps, duration, count, "frames").tolist()
    pictures = [np.ascontiguousarray(frames[i]) for i in index if i < len(frames)]
    found = [talker.mouth(0, count) for talker in find_talkers(lambda stage: pictures, detector or find_detector())]
    if not found:
        return torch.zeros(1, 0, count, *MOUTH, dtype=torch.uint8), torch.zeros(1, 0, count, dtype=torch.bool)
    return tuple(torch.from_numpy(np.stack(arrays))[None] for arrays in zip(*found, strict=True))  # type: ignore[return-value]
