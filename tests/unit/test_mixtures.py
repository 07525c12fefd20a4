"""Batches of mixtures: one layout each, every clip once whatever the number of processes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from avdiff.errors import UserError
from avdiff.types import NOISE, SPEAKER, Observation
from datamodules.mixtures import (
    AtLevels,
    Entry,
    FirstMixtures,
    Mixture,
    MixtureList,
    Mixtures,
    ToyMixtures,
    WrongLips,
    collate,
)
from datamodules.synthetic.benchmark import EmbeddedBenchmark


def batches(mixtures: Mixtures, rank: int = 0, processes: int = 1) -> list[Observation]:
    mixtures.trainer = cast(Any, SimpleNamespace(global_rank=rank, world_size=processes))
    return list(mixtures.predict_dataloader())


def keys(observations: list[Observation]) -> list[str]:
    return [key for observation in observations for key in observation.key]


def test_a_batch_has_one_layout_and_every_clip_comes_once() -> None:
    found = batches(Mixtures(ToyMixtures(9), batch_size=2))
    assert sorted(keys(found)) == [entry.key for entry in ToyMixtures(9).entries()]
    layouts = {entry.key: entry.layout for entry in ToyMixtures(9).entries()}
    assert all(layouts[key] == observation.layout for observation in found for key in observation.key)
    assert [len(observation.key) for observation in found] == [2, 2, 1, 2, 2]


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_share_the_batches_out(processes: int) -> None:
    shares = [batches(Mixtures(ToyMixtures(9), batch_size=2), rank, processes) for rank in range(processes)]
    assert sorted(key for share in shares for key in keys(share)) == [e.key for e in ToyMixtures(9).entries()]
    counts = [len(share) for share in shares]
    assert max(counts) - min(counts) <= 1


def test_clips_that_are_done_are_left_out() -> None:
    mixtures = Mixtures(ToyMixtures(5), batch_size=2)
    mixtures.skip({"toy/000", "toy/003"})
    assert sorted(keys(batches(mixtures))) == ["toy/001", "toy/002", "toy/004"]


def test_a_mixture_is_the_sum_of_its_sources_and_always_the_same() -> None:
    one, again = ToyMixtures(4)[2], ToyMixtures(8)[2]
    assert torch.equal(one.mixture, one.sources.sum(0))
    assert torch.equal(one.mixture, again.mixture)


def test_mixtures_of_different_length_do_not_share_a_batch() -> None:
    with pytest.raises(ValueError, match="use batch_size 1"):
        collate([ToyMixtures(1, samples=64)[0], ToyMixtures(1, samples=65)[0]])


class Seen(MixtureList):
    """One mixture of as many visible talkers as asked for."""

    def __init__(self, talkers: int, masked: bool = False) -> None:
        self.layout, self.masked = (*[SPEAKER] * talkers, NOISE), masked

    def entries(self) -> list[Entry]:
        return [Entry("a", self.layout)]

    def __getitem__(self, index: int) -> Mixture:
        count = len(self.layout)
        mouth = torch.arange(count - 1, dtype=torch.uint8)[:, None, None, None].expand(-1, 5, 2, 2)
        seen = torch.arange(count - 1)[:, None].expand(-1, 5) > 0 if self.masked else None  # the first is never seen
        return Mixture("a", "seen", self.layout, torch.ones(count, 8), torch.full((8,), 1.0 * count), mouth, seen)


def test_withheld_lips_are_masked_and_swapped_ones_are_another_talkers() -> None:
    plain, withheld, swapped = (
        collate([of[0]]) for of in (Seen(2), WrongLips(Seen(2), "withheld"), WrongLips(Seen(2), "swapped"))
    )
    assert plain.visual_mask is None
    assert withheld.visual_mask is not None
    assert withheld.visual_mask.shape == (1, 2, 5)
    assert not withheld.visual_mask.any()
    assert plain.visual is not None
    assert swapped.visual is not None
    assert torch.equal(swapped.visual, plain.visual.flip(1))


def test_swapped_lips_are_seen_when_those_of_the_other_were() -> None:
    swapped = collate([WrongLips(Seen(2, masked=True), "swapped")[0]])
    assert swapped.visual is not None
    assert swapped.visual_mask is not None
    assert (swapped.visual_mask == (swapped.visual[..., 0, 0] > 0)).all()


def test_lips_of_a_lone_talker_cannot_be_swapped() -> None:
    with pytest.raises(UserError, match="two visible talkers"):
        WrongLips(Seen(1), "swapped")


class Heard(Seen):
    """The same, with sound."""

    def __getitem__(self, index: int) -> Mixture:
        sources = torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
        return replace(super().__getitem__(index), sources=sources, mixture=sources.sum(0))


def test_a_list_at_other_levels_has_them() -> None:
    of = AtLevels(Heard(2), snr=20.0, step=8.0)
    mixture = of[0]
    power = mixture.sources.var(-1)
    assert (10 * (power[0] / power[1]).log10()).item() == pytest.approx(8, abs=0.1)
    assert (10 * (mixture.sources[:2].sum(0).var() / power[2]).log10()).item() == pytest.approx(20, abs=0.1)
    assert torch.allclose(mixture.mixture, mixture.sources.sum(0))
    assert of.entries() == Seen(2).entries()


def test_the_first_mixtures_are_of_every_condition() -> None:
    embedded = EmbeddedBenchmark("val", ["speakers1", "grid2"], clips=3)
    few = EmbeddedBenchmark("val", ["speakers1", "grid2"], clips=2)
    assert FirstMixtures(embedded, 2).entries() == few.entries()
    assert FirstMixtures(embedded, 9).entries() == embedded.entries()
    toys = FirstMixtures(ToyMixtures(4), 3)
    assert [toys[i].key for i in range(len(toys.entries()))] == ["toy/000", "toy/001", "toy/002"]


def test_a_mixture_is_told_from_another_of_its_key() -> None:
    lists = [ToyMixtures(3), ToyMixtures(3, seed=1), ToyMixtures(3, std=0.2)]
    lists += [AtLevels(lists[0], snr) for snr in (-10.0, 30.0)]
    lists += [WrongLips(lists[0], "withheld"), WrongLips(lists[1], "withheld")]
    assert len({of.version(2) for of in lists}) == len(lists)
    assert ToyMixtures(9).version(2) == FirstMixtures(ToyMixtures(9), 4).version(2) == lists[0].version(2)
