"""Clips on disk: there whole, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import avdiff.lit.store as store_module
from avdiff.errors import UserError
from avdiff.lit.store import SeparationStore, StoredSeparation
from avdiff.types import NOISE, SPEAKER, source_names

LAYOUT = (SPEAKER, SPEAKER, NOISE)


def clip(key: str = "list/007", seed: int = 0) -> StoredSeparation:
    sources = 3 * torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    return StoredSeparation(key, LAYOUT, sources, 16_000, {"seconds": 1.5, "fit": torch.tensor(2.0)})


def test_a_clip_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = SeparationStore(tmp_path)
    store.write(clip())
    back = store.read("list/007")
    assert torch.equal(back.sources, clip().sources), "values beyond full scale included"
    assert (back.layout, back.sample_rate, back.info) == (LAYOUT, 16_000, {"seconds": 1.5, "fit": 2.0})
    assert {file.name for file in (tmp_path / "list/007").iterdir()} == {
        *(f"{name}.wav" for name in source_names(LAYOUT)),
        "separation.json",
    }


def test_the_spread_of_draws_comes_back_too(tmp_path: Path) -> None:
    store, spread = SeparationStore(tmp_path), torch.rand(3, 50)
    assert clip().std is None
    store.write(replace(clip(), std=spread))
    back = store.read("list/007")
    assert back.std is not None
    assert torch.equal(back.std, spread)
    assert torch.equal(back.sources, clip().sources)
    store.write(clip())
    assert store.read("list/007").std is None, "the earlier one's is gone"


def test_an_interrupted_write_leaves_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SeparationStore(tmp_path)
    store.write(clip())
    write = store_module.write_wav

    def full_disk(file: Path, *given: object, **named: object) -> None:
        if file.name == "noise.wav":
            raise OSError("no space left")
        write(file, *given, **named)

    monkeypatch.setattr(store_module, "write_wav", full_disk)
    for key in ("list/007", "list/008"):
        with pytest.raises(OSError, match="no space left"):
            store.write(clip(key, seed=1))
    assert store.clips() == {"list/007"}
    assert torch.equal(store.read("list/007").sources, clip().sources), "the earlier clip is still whole"
    store.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


@pytest.mark.parametrize("key", ["../elsewhere", "/root", "", "a/.hidden"])
def test_keys_stay_in_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match="cannot name a folder"):
        SeparationStore(tmp_path).write(clip(key))
