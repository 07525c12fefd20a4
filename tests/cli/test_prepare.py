"""Preparation as users run it: killed in its middle with its workers at work, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from avdiff.video.decode import VideoFrames
from datamodules.packs import Pack, failures
from tests.media import write_media

ROOT = Path(__file__).parents[2]


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.slow
def test_a_killed_preparation_goes_on_where_it_was(real_data: Path, tmp_path: Path) -> None:
    """Eight videos of a real talker, a second each, and two that are damaged; killed by the signal that nobody hears."""
    folder = tmp_path / "videos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    clips = sorted((real_data / "grid" / "s1").glob("*.mp4"))[:8]
    for clip in clips:
        pictures = list(islice(VideoFrames(clip), 27))
        write_media(folder / f"{clip.stem}.mkv", frames=pictures, audio=rng.normal(0, 0.1, (1, 27 * 640)))
    for number in range(2):
        (folder / f"damaged{number}.mkv").write_bytes(rng.bytes(1000))

    command = [
        sys.executable,
        "-m",
        "avdiff.cli",
        "prepare",
        "faces",
        str(folder),
        str(tmp_path / "killed"),
        "--workers",
        "2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    manifest = tmp_path / "killed" / "manifest-0000.jsonl"
    while lines(manifest) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = manifest.read_bytes()
    assert before.count(b"\n") < len(clips)
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    assert manifest.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    pack = Pack(tmp_path / "killed")
    assert pack.ids.tolist() == [f"{clip.stem}.mkv#000" for clip in clips]
    assert failures(pack.folder) == dict.fromkeys(("damaged0.mkv", "damaged1.mkv"), "cannot be read")
    for index in range(len(pack)):
        assert pack.mouth(index).std() > 10
    covered = sum(size for row in pack.rows for _, _, size in row["at"].values())
    assert covered == sum(file.stat().st_size for file in pack.folder.glob("*.bin"))
