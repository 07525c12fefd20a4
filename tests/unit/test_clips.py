"""Folders of clean clips."""

from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from datamodules.clips import ClipFolder


def test_clips_at_the_start_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", np.repeat(np.arange(5, dtype=np.int16)[:, None], 1280, 1))
    folder = ClipFolder(tmp_path, 0.08, random=False, clips=4, video=False, skip=2)
    assert [round(float(folder[i]["audio"][0] * 32768)) for i in range(len(folder))] == [2, 3]
    with pytest.raises(UserError, match="lower skip"):
        ClipFolder(tmp_path, 0.08, random=False, clips=4, video=False, skip=4)
