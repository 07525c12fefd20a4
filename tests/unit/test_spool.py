"""Signals and arrays that go to disk where they are long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avdiff.spool import Arrays, Spool


@pytest.mark.parametrize("in_memory", [1 << 20, 64])
def test_any_part_of_a_spool_is_what_was_put_there(in_memory: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=1_000).astype(np.float32)
    spool = Spool(tmp_path, in_memory)
    for start in range(0, 1_000, 300):
        spool.append(x[start : start + 300])
        assert np.array_equal(spool[10:20], x[10:20])
    assert len(spool) == 1_000
    for part in (slice(0, 1_000), slice(995, 2_000), slice(500, 500), slice(-7, None), slice(900, 100)):
        assert np.array_equal(spool[part], x[part])
    with pytest.raises(IndexError, match="every 2th"):
        spool[::2]


def test_arrays_beyond_the_memory_are_in_files_and_alike(tmp_path: Path) -> None:
    arrays = Arrays(tmp_path, 1_000)
    small, large = arrays.zeros((10, 96)), arrays.zeros((20, 96))
    assert not isinstance(small, np.memmap)
    assert isinstance(large, np.memmap)
    for array in (small, large):
        assert not array.any()
        array[3] = 7
        assert array.sum() == 7 * 96
    assert not list(tmp_path.iterdir())
