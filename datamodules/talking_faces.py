"""Any folder of videos in which people talk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from datamodules.packed import PackedTalkers
from datamodules.packs import splits_of
from datamodules.preparation import Item

ENOUGH = 10  # speakers from which whole ones are held out


def items(folder: Path, files: Sequence[Path], val: float, pack: Path | None = None) -> list[Item]:
    """What is to be prepared, sorted by id, which is the path below the folder.

    A video's speaker is the folder that it is in, below the one given; a video that lies in that itself is a speaker of its
    own. With ten speakers or more whole speakers are held out for validation, with fewer files.

    Args:
        folder: that holds them.
        files: the videos.
        val: share that is held out, at least one of two or more.
        pack: that they go to: speakers (or files) of which it has clips keep their split, should there be more now.

    Raises:
        UserError: the pack has a speaker in two splits: there were fewer than ten when it was begun.
    """
    names = {file.relative_to(folder).as_posix(): file for file in files}
    speakers = {name: name.split("/")[0] if "/" in name else Path(name).stem for name in names}
    by_speaker = len(set(speakers.values())) >= ENOUGH
    unit = speakers if by_speaker else {name: name for name in names}
    units = sorted(set(unit.values()), key=lambda name: hashlib.sha256(name.encode()).digest())
    known = splits_of(pack, "speaker" if by_speaker else "source") if pack else {}
    held = {name for name in units if known.get(name) == "val"}
    wanted = max(1, round(val * len(units))) if val > 0 and len(units) > 1 else 0
    held |= set([name for name in units if name not in known][: max(0, wanted - len(held))])
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
