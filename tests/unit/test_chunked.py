"""Long recordings are separated in stretches that fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import NotSeparated, Separator
from avdiff.separators.chunked import Chunked, stretches
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SPEAKER, ClipInfo, Observation, Separation


class Shares(Separator):
    """Source k of K gets the share (k + 1) / (1 + ... + K) of the mixture; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Observation] = []
        self.noise: list[ClipNoise] = []
        self.among: list[list[int]] = []

    def restricted(self, speakers: Sequence[int]) -> Separator:
        self.among.append(list(speakers))
        return self

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        self.asked.append(observation)
        self.noise.append(rng)
        share = torch.arange(1.0, len(observation.layout) + 1)
        sources = observation.mixture[:, None] * (share / share.sum())[:, None]
        return Separation(observation.key, observation.layout, sources, {"evaluations": 7})


def observe(seconds: float, *, faces: int = 1, offscreen: int = 0, batch: int = 1) -> Observation:
    samples = round(seconds * SAMPLE_RATE)
    frames = -(-samples // 640)
    return Observation(
        key=tuple(f"clip{i}" for i in range(batch)),
        mixture=torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)),
        visual=torch.arange(frames).view(1, 1, frames, 1, 1).expand(batch, faces, -1, 1, 1) if faces else None,
        visual_mask=torch.ones(batch, faces, frames, dtype=torch.bool) if faces else None,
        layout=(SPEAKER,) * faces + (OFFSCREEN,) * offscreen + (NOISE,),
    )


def test_the_plan_covers_everything_in_stretches_of_like_length() -> None:
    chunked = Chunked(Shares(), seconds=30, overlap=2)
    for samples in (1, 479_999, 480_000, 480_001, 1_000_000, 16_000 * 3_600 + 5):
        plan = chunked.plan(samples)
        assert plan[0][0] == 0
        assert plan[-1][1] == samples
        assert all(stop - start <= 30 * SAMPLE_RATE for start, stop in plan)
        assert all(a[1] - b[0] == 2 * SAMPLE_RATE for a, b in pairwise(plan))
        assert all(start % SAMPLE_RATE == 0 for start, _ in plan)
    assert chunked.plan(31 * SAMPLE_RATE) == [(0, 17 * SAMPLE_RATE), (15 * SAMPLE_RATE, 31 * SAMPLE_RATE)]


def test_what_is_left_over_is_not_a_stretch_of_its_own() -> None:
    assert stretches(16_001, seconds=1, overlap=0) == [(0, 16_001)]
    assert stretches(40_000, seconds=1, overlap=0) == [(0, 16_000), (16_000, 40_000)]


def test_stretches_join_without_a_seam_and_pictures_stay_with_their_sound() -> None:
    inner = Shares()
    observation = observe(11.3)
    result = Chunked(inner, seconds=4, overlap=1).separate(observation, rng=ClipNoise(3, ("clip0",)))
    assert len(inner.asked) == 4
    assert torch.allclose(result.sources[0, 0], observation.mixture[0] / 3, atol=1e-6)
    assert torch.allclose(result.sources.sum(1), observation.mixture, atol=1e-6)
    plan = Chunked(inner, seconds=4, overlap=1).plan(observation.mixture.shape[-1])
    for asked, (start, stop) in zip(inner.asked, plan, strict=True):
        assert torch.equal(asked.mixture, observation.mixture[:, start:stop])
        assert asked.visual is not None
        assert int(asked.visual[0, 0, 0, 0, 0]) == start // 640
        assert asked.visual.shape[2] == -(-(stop - start) // 640)
    assert len({noise.key for noise in inner.noise}) == 4
    assert result.info["evaluations"] == 4 * 7
    assert [stretch["start"] for stretch in result.clips[0].figures["stretches"]] == [start for start, _ in plan]
    assert all(
        noise.seed == 3 and noise.key == asked.key for noise, asked in zip(inner.noise, inner.asked, strict=True)
    )


def test_who_is_not_seen_in_a_stretch_is_silent_there_and_keeps_their_place() -> None:
    inner = Shares()
    observation = observe(7.0, faces=2)
    assert observation.visual_mask is not None
    observation.visual_mask[0, 0, 80:] = False  # leaves 5 pictures of the second stretch, (3, 7) s
    result = Chunked(inner, seconds=4, overlap=1).separate(observation, rng=ClipNoise(0, ("clip0",)))
    assert [asked.layout for asked in inner.asked] == [(SPEAKER, SPEAKER, NOISE), (SPEAKER, NOISE)]
    assert inner.among == [[1]], "which of the recording's speakers the second stretch has"
    late = slice(4 * SAMPLE_RATE, None)
    assert result.sources[0, 0, late].abs().max() == 0.0
    assert torch.allclose(result.sources[0, 1, late], observation.mixture[0, late] / 3, atol=1e-6)
    assert torch.allclose(result.sources.sum(1), observation.mixture, atol=1e-5)


def test_with_nobody_there_all_is_noise_unless_someone_is_off_screen() -> None:
    for offscreen in (0, 1):
        inner = Shares()
        observation = observe(2.0, faces=1, offscreen=offscreen)
        assert observation.visual_mask is not None
        observation.visual_mask[:] = False
        result = Chunked(inner).separate(observation, rng=ClipNoise(0, ("clip0",)))
        assert result.layout == observation.layout
        assert result.sources[0, 0].abs().max() == 0.0
        if offscreen:
            assert inner.asked[0].layout == (OFFSCREEN, NOISE)
            assert inner.asked[0].visual is None
        else:
            assert not inner.asked
            observation.mixture[0, 5] = torch.nan
            assert Chunked(inner).separate(observation, rng=ClipNoise(0, ("clip0",))).sources.isnan().all()
            observation.mixture[0, 5] = 0.0
            result = Chunked(inner).separate(observation, rng=ClipNoise(0, ("clip0",)))
            assert torch.equal(result.sources[0, 1], observation.mixture[0])


def test_a_batch_that_fits_one_stretch_is_handed_on_whole() -> None:
    inner = Shares()
    observation = observe(2.0, batch=3)
    result = Chunked(inner).separate(observation, rng=ClipNoise(0, observation.key))
    assert len(inner.asked) == 1
    assert inner.asked[0] is observation
    assert result.info == {"evaluations": 7}


def test_clips_of_a_batch_do_not_depend_on_each_other() -> None:
    observation = observe(5.0, batch=2)
    chunked = Chunked(Shares(), seconds=4, overlap=1)
    both = chunked.separate(observation, rng=ClipNoise(0, observation.key))
    second = chunked.separate(observation.select([1]), rng=ClipNoise(0, ("clip1",)))
    assert torch.equal(both.sources[1], second.sources[0])


def test_pieces_come_as_they_are_finished() -> None:
    inner = Shares()
    observation = observe(10.0, faces=0, offscreen=1)
    chunked = Chunked(inner, seconds=4, overlap=1)
    pieces = chunked.stream(
        lambda a, b: observe((b - a) / SAMPLE_RATE, faces=0, offscreen=1), 160_000, rng=ClipNoise(0, ("a",))
    )
    first = next(pieces)
    assert len(inner.asked) == 1
    rest = list(pieces)
    assert [first.start, *(piece.start for piece in rest)] == [start for start, _ in chunked.plan(160_000)]
    assert first.sources.shape[-1] + sum(p.sources.shape[-1] for p in rest) == observation.mixture.shape[-1]
    assert first.info["evaluations"] == 7


def test_an_overlap_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap must be at most half"):
        Chunked(Shares(), seconds=3, overlap=2)


class Stumbles(Shares):
    """Cannot do the second stretch of the first clip."""

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        result = super().separate(observation, rng=rng)
        if rng.key != ("clip0@3",):
            return result
        lost = torch.full_like(result.sources, torch.nan)
        return replace(result, sources=lost, clips=(ClipInfo(failure="it went astray"),))


def test_a_stretch_that_fails_takes_its_own_clip_alone() -> None:
    chunked = Chunked(Stumbles(), seconds=4, overlap=1)
    assert chunked.plan(7 * SAMPLE_RATE)[1] == (3 * SAMPLE_RATE, 7 * SAMPLE_RATE)
    seen = observe(7, batch=2)
    result = chunked.separate(seen, rng=ClipNoise(0, seen.key))
    assert result.failures == ("seconds 3.0 to 7.0 could not be separated: it went astray", None)
    assert result.sources[0].isnan().all()
    assert result.sources[1].isfinite().all()


def test_a_recording_is_told_which_stretch_failed() -> None:
    chunked, seen = Chunked(Stumbles(), seconds=4, overlap=1), observe(7)

    def window(start: int, stop: int) -> Observation:
        return replace(seen, mixture=seen.mixture[:, start:stop])

    pieces = chunked.stream(window, 7 * SAMPLE_RATE, rng=ClipNoise(0, seen.key))
    assert next(pieces).sources.isfinite().all()
    with pytest.raises(NotSeparated, match=r"seconds 3\.0 to 7\.0"):
        next(pieces)


class Spread(Shares):
    """Has a spread of one tenth of each source."""

    @property
    def spreads(self) -> bool:
        return True

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        found = super().separate(observation, rng=rng, callback=callback)
        return replace(found, std=0.1 * found.sources)


def test_the_spread_of_draws_is_joined_as_the_sources_are() -> None:
    observation = observe(5, batch=2)
    result = Chunked(Spread(), seconds=3, overlap=1).separate(observation, rng=ClipNoise(0, observation.key))
    assert result.std is not None
    assert result.std.shape == result.sources.shape
    torch.testing.assert_close(result.std, 0.1 * result.sources)
    assert Chunked(Shares(), seconds=3, overlap=1).separate(observation, rng=ClipNoise(0, observation.key)).std is None
