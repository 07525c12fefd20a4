"""Any folder of videos in which people talk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from datamodules.packed import PackedTalkers
from datamodules.preparation import Item

ENOUGH = 10  # speakers from which whole ones are held out


def items(folder: Path, files: Sequence[Path], val: float) -> list[Item]:
    """What is to be prepared, sorted by id, which is the path below the folder.

    A video's speaker is the folder that it is in, below the one given; a video that lies in that itself is a speaker of its
    own. With ten speakers or more whole speakers are held out for validation, with fewer files.

    Args:
        folder: that holds them.
        files: the videos.
        val: share that is held out, at least one of two or more.
    """
    names = {file.relative_to(folder).as_posix(): file for file in files}
    speakers = {name: name.split("/")[0] if "/" in name else Path(name).stem for name in names}
    by_speaker = len(set(speakers.values())) >= ENOUGH
    unit = speakers if by_speaker else {name: name for name in names}
    units = sorted(set(unit.values()), key=lambda name: hashlib.sha256(name.encode()).digest())
    held = set(units[: max(1, round(val * len(units)))]) if val > 0 and len(units) > 1 else set()
    return [
        Item(
            name,
            names[name],
            {
                "speaker": speakers[name],
                "gender": "",
                "split": "val" if unit[name] in held else "train",
                "source": name,
            },
        )
        for name in sorted(names)
    ]


class TalkingFaces(PackedTalkers):
    """What `avdiff prepare faces` made. See `datamodules.packed.PackedTalkers` for the arguments."""

    dataset = "faces"
