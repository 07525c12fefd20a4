"""The noise of the DNS challenges, from their published layouts, split by source recording.

    <root>/datasets/noise/*.wav                        DNS 1 and 3 (Interspeech 2020, 2021): 16 kHz
    <root>/datasets_fullband/noise_fullband/*.wav      DNS 4 and 5 (ICASSP 2022, 2023): 48 kHz

Clips of AudioSet are named by their YouTube id, which may begin with "-", those of Freesound
<label>_Freesound_validated_<id>_<n>: several clips may come from one recording.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from avdiff.errors import UserError
from datamodules.packed import PackedClips
from datamodules.packs import splits_of
from datamodules.preparation import Item
from datamodules.shuffle import shuffled
from datamodules.sounds import is_pointer

FOLDERS = ("datasets/noise", "datasets_fullband/noise_fullband", "noise", "noise_fullband")
SPLIT = {"test": 900, "val": 100, "train": 64_000}  # clips, SSNAPS; the smallest quotas that must be met come first

_FREESOUND = re.compile(r"(?P<label>.+)_Freesound_validated_(?P<id>\d+)_\d+")
_YOUTUBE = re.compile(r"(?P<id>[\w-]{11})(?:[^A-Za-z0-9].*)?", re.ASCII)


def origin(name: str) -> tuple[str, str]:
    """Source recording and label ("" where it has none) of a clip by its name without the suffix.

    A name of neither form is a recording of its own.
    """
    if freesound := _FREESOUND.fullmatch(name):
        return f"freesound/{freesound['id']}", freesound["label"]
    if youtube := _YOUTUBE.fullmatch(name):
        return f"youtube/{youtube['id']}", ""
    return name, ""


def noise_folder(root: Path) -> Path:
    """Where the WAVs of a DNS tree are; `root` may be the tree or the folder itself.

    Raises:
        UserError: there are none, or those of two layouts, which overlap.
    """
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder; give the folder of the DNS challenge, with {FOLDERS[0]} or {FOLDERS[1]}"
        )
    found = [folder for folder in (root, *(root / name for name in FOLDERS)) if any(folder.glob("*.wav"))]
    if not found:
        raise UserError(
            f"{root} holds no DNS noise; it was looked for as {root / FOLDERS[0]}/*.wav (16 kHz) and as "
            f"{root / FOLDERS[1]}/*.wav (48 kHz)"
        )
    if len(found) > 1:
        raise UserError(
            f"{root} holds noise as {found[0]} and as {found[1]}, which share recordings; give the one that is wanted"
        )
    return found[0]


def quotas(clips: int, wanted: Mapping[str, int] = SPLIT) -> dict[str, int]:
    """Clips of each split: as wanted where there are enough, in those proportions otherwise."""
    total = sum(wanted.values())
    if clips >= total:
        return dict(wanted)
    small = {split: max(1, round(clips * count / total)) for split, count in wanted.items() if split != "train"}
    return {**small, "train": max(0, clips - sum(small.values()))}


def split_by_source(
    sources: Mapping[str, str], wanted: Mapping[str, int] = SPLIT, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which split each clip is of; no source recording is in two.

    Recordings come in a fixed shuffled order and fill the test, the validation and the training split one after the
    other. One that does not fit into what is left of a split goes to the next. What is left over at the end is in none.

    Args:
        sources: clip id -> source recording.
        wanted: clips of each split.
        known: source recording -> the split that clips of it are of already, where it stays.
    """
    clips: dict[str, list[str]] = {}
    for clip, source in sorted(sources.items()):
        clips.setdefault(source, []).append(clip)
    left, splits = quotas(len(sources), wanted), {}
    for source in shuffled(clips, "dns"):
        count = len(clips[source])
        fitting = (split for split, room in left.items() if count <= room)
        if split := (known or {}).get(source) or next(fitting, None):
            splits.update(dict.fromkeys(clips[source], split))
            left[split] = left.get(split, 0) - count
    return splits


def dns_items(root: Path, pack: Path | None = None) -> tuple[list[Item], int]:
    """The clips of a DNS tree that belong to a split, sorted by name, and how many belong to none.

    Args:
        root: of the tree.
        pack: that they go to: recordings of which it has clips keep their split, should the tree have grown.

    Raises:
        UserError: there are none, git-LFS has not fetched any, or the pack has a recording in two splits.
    """
    folder = noise_folder(root)
    files = {file.stem: file for file in sorted(folder.glob("*.wav"))}
    _check_fetched(folder, list(files.values()))
    origins = {name: origin(name) for name in files}
    known = splits_of(pack, "source") if pack else None
    splits = split_by_source({name: source for name, (source, _) in origins.items()}, known=known)
    items = [
        Item(name, file, {"split": splits[name], "source": source, **({"label": label} if label else {})})
        for name, file in files.items()
        if name in splits
        for source, label in [origins[name]]
    ]
    return items, len(files) - len(items)


def _check_fetched(folder: Path, files: Sequence[Path]) -> None:
    if all(is_pointer(file) for file in files[:50]):
        raise UserError(
            f"{folder} holds git-LFS pointers instead of sound; fetch the files with git lfs pull in that repository"
        )


class DNS(PackedClips):
    """Noise of the DNS challenges. See `datamodules.packed.PackedClips` for the arguments."""

    dataset, video = "dns", False
