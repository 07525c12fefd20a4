"""The fixed lists of mixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avdiff.audio.mixing import power, ratio_db
from avdiff.types import check_layout
from datamodules.synthetic.benchmark import CONDITIONS, EmbeddedBenchmark, cast
from datamodules.synthetic.natural import VOICES
from datamodules.synthetic.sentences import split_of
from datamodules.synthetic.voices import VARIANTS


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark")


@pytest.mark.parametrize("name", ["speakers1", "speakers2", "speakers3", "offscreen3", "unmatched1", "grid2"])
def test_levels_are_those_of_the_condition(name: str, cache: Path) -> None:
    item = EmbeddedBenchmark(conditions=[name], clips=1, cache=cache)[0]
    condition, sources = CONDITIONS[name], item.sources
    speech, noise = sources[:-1], sources[-1]
    check_layout(item.layout)
    assert item.layout == condition.layout
    assert sources.shape == (len(item.layout), 64000)
    assert item.mouth is not None
    assert item.mouth.shape == (condition.speakers, 100, 96, 96)
    assert torch.equal(item.mixture, sources.sum(0))
    assert item.mixture.abs().max() < 1
    assert power(sources).sqrt().min() > 1e-3  # nobody near silent
    snr = ratio_db(speech, noise)
    if len(speech) == 1:
        assert -5 <= snr.item() <= 10
    elif len(speech) == 2:
        assert abs(ratio_db(speech[0], speech[1]).item()) <= 5
        assert abs(snr.min().item()) <= 3
    else:
        torch.testing.assert_close(snr, torch.full((3,), 15.0), atol=1e-3, rtol=0)
    assert len(item.transcripts) == (len(speech) if condition.grid else 0)


def test_talkers_of_a_mixture_are_different_and_of_the_split() -> None:
    for split in ("test", "val"):
        for name in CONDITIONS:
            for number in range(50):
                specs = cast(split, name, number)
                assert len({spec.voice.variant for spec in specs}) == len({spec.face for spec in specs}) == len(specs)
                voices = VOICES if CONDITIONS[name].natural else VARIANTS
                assert all(spec.split == split and spec.voice.variant in voices[split] for spec in specs)


def test_every_test_voice_is_heard() -> None:
    heard = {spec.voice.variant for number in range(50) for spec in cast("test", "speakers2", number)}
    assert heard == set(VARIANTS["test"])


def test_short_lists_are_the_beginning_of_long_ones_and_nothing_depends_on_order(tmp_path: Path, cache: Path) -> None:
    long = EmbeddedBenchmark(conditions=["grid1"], clips=3, cache=tmp_path)
    last = long[2]
    short = EmbeddedBenchmark(conditions=["grid1"], clips=1, cache=cache)
    assert [entry.key for entry in short.entries()] == [entry.key for entry in long.entries()][:1]
    assert torch.equal(short[0].mixture, long[0].mixture)
    assert not torch.equal(last.mixture, long[0].mixture)
    assert split_of(last.transcripts[0]) == "test"


def test_keys_are_unlike_across_splits_and_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVDIFF_VOICES", str(tmp_path))  # without those of natural voices
    keys = [entry.key for split in ("test", "val") for entry in EmbeddedBenchmark(split, clips=2).entries()]
    assert len(keys) == len(set(keys)) == 2 * (9 + 7)


def test_held_out_noises_are_for_the_test_alone() -> None:
    assert not any(CONDITIONS[name].unmatched for name in EmbeddedBenchmark("val").conditions)
    with pytest.raises(ValueError, match="val has no condition 'unmatched1'"):
        EmbeddedBenchmark("val", ["unmatched1"])


def test_training_has_no_benchmark() -> None:
    with pytest.raises(ValueError, match="'test' and 'val'"):
        EmbeddedBenchmark("train")


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut off"])
def test_a_damaged_mixture_of_the_cache_is_made_anew(content: bytes, cache: Path) -> None:
    mixtures = EmbeddedBenchmark(conditions=["speakers1"], clips=1, cache=cache)
    first = mixtures[0]
    (file,) = cache.rglob("test-speakers1-000.npz")
    for damaged in (content, file.read_bytes()[:-200]):
        file.write_bytes(damaged)
        assert torch.equal(mixtures[0].sources, first.sources)
