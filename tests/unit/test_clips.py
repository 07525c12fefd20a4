"""Folders of clean clips."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avdiff.errors import UserError
from datamodules.clips import ClipFolder, WithVoice


def test_clips_at_the_start_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", np.repeat(np.arange(5, dtype=np.int16)[:, None], 1280, 1))
    folder = ClipFolder(tmp_path, 0.08, random=False, clips=4, video=False, skip=2)
    assert [round(float(folder[i]["audio"][0] * 32768)) for i in range(len(folder))] == [2, 3]
    with pytest.raises(UserError, match="lower skip"):
        ClipFolder(tmp_path, 0.08, random=False, clips=4, video=False, skip=4)


def test_a_voice_rides_along_with_a_clip(tmp_path: Path) -> None:
    for name, values in (("noise", range(6)), ("speech", range(100, 104))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "audio.npy", np.stack([np.full(1280, value, np.int16) for value in values]))
    noise, speech = (ClipFolder(tmp_path / name, 0.08, random=False, video=False) for name in ("noise", "speech"))
    told = WithVoice(noise, speech, random=False)
    assert len(told) == 6
    assert [round(float(told[i]["voice"][0]) * 32768) for i in range(6)] == [100, 101, 102, 103, 100, 101]
    torch.manual_seed(0)
    drawn = {round(float(WithVoice(noise, speech, random=True)[2]["voice"][0]) * 32768) for _ in range(60)}
    assert drawn == {100, 101, 102, 103}
    assert round(float(told[2]["audio"][0]) * 32768) == 2
