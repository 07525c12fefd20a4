"""TAU Urban Acoustic Scenes 2020 Mobile, development set: the noise of the DCASE 2020 challenge, task 1A.

    TAU-urban-acoustic-scenes-2020-mobile-development/
        audio/<scene>-<city>-<location>-<segment>-<device>.wav     10 s, 44.1 kHz, 24 bits
        evaluation_setup/fold1_train.csv                           tab-separated: filename, scene_label
        evaluation_setup/fold1_evaluate.csv                        the same; fold1_test.csv has no labels

The labelled evaluation list of fold 1 is the test split. Some locations of the training list are the validation split.
Releases differ by a few files: what the lists name and the disk lacks is counted, nothing more.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avdiff.errors import UserError
from avdiff.files import read_text
from datamodules.packed import PackedClips
from datamodules.packs import Clip
from datamodules.preparation import Item, Stopwatch, Unusable
from datamodules.shuffle import shuffled
from datamodules.sounds import WholeSounds

NAME = "TAU-urban-acoustic-scenes-2020-mobile-development"
LISTS = {"train": "fold1_train.csv", "test": "fold1_evaluate.csv"}
VAL_SHARE = 0.05  # of each scene's training clips, rounded up to whole locations


def dcase_folder(root: Path) -> Path:
    """The folder that holds audio/ and evaluation_setup/; `root` may be it or the folder above.

    Raises:
        UserError: it is not there.
    """
    for folder in (root, root / NAME):
        if all((folder / "evaluation_setup" / name).is_file() for name in LISTS.values()):
            return folder
    raise UserError(
        f"{root} is not {NAME}: it lacks evaluation_setup/{LISTS['train']} or evaluation_setup/{LISTS['test']}; give the "
        "folder with audio/ and evaluation_setup/"
    )


def read_list(file: Path) -> list[tuple[str, str]]:
    """File name and scene of every row of a list, with either line ending.

    Raises:
        UserError: the list has no such columns.
    """
    rows = csv.DictReader(read_text(file, "a list of DCASE 2020").splitlines(), delimiter="\t")
    if not {"filename", "scene_label"} <= set(rows.fieldnames or ()):
        raise UserError(
            f"{file} has the columns {', '.join(rows.fieldnames or ()) or '(none)'}; expected filename and "
            "scene_label, separated by tabs"
        )
    return [(row["filename"], row["scene_label"]) for row in rows if row["filename"]]


def dcase_items(root: Path) -> list[Item]:
    """Every clip of the two lists, once, sorted by name.

    Raises:
        UserError: the folder or its lists are not as published.
    """
    folder = dcase_folder(root)
    found: dict[str, tuple[Path, str, str]] = {}
    for split in ("test", "train"):  # what both name is for the test
        for filename, scene in read_list(folder / "evaluation_setup" / LISTS[split]):
            path = folder / filename
            found.setdefault(path.stem, (path, split, scene))
    val = _validation([(name, scene) for name, (_, split, scene) in found.items() if split == "train"])
    return [
        Item(name, path, {"split": "val" if name in val else split, "scene": scene, **(parts(name) or {})})
        for name, (path, split, scene) in sorted(found.items())
    ]


def parts(name: str) -> dict[str, str] | None:
    """City, location, segment and device of a clip by its name without the suffix; None where it has not five parts."""
    values = name.split("-")
    if len(values) != 5 or not all(values):
        return None
    return dict(zip(("city", "location", "segment", "device"), values[1:], strict=True))


def _validation(clips: Sequence[tuple[str, str]]) -> set[str]:
    """Names of the training clips, of (name, scene), that are for validation: whole locations of every scene.

    A scene's last location is never taken.
    """
    places: dict[str, dict[str, list[str]]] = {}
    for name, scene in clips:
        if known := parts(name):
            places.setdefault(scene, {}).setdefault(f"{known['city']}-{known['location']}", []).append(name)
    chosen: set[str] = set()
    for scene, of in places.items():
        wanted, got = VAL_SHARE * sum(map(len, of.values())), 0
        for place in shuffled(of, "dcase", scene)[:-1]:
            if got >= wanted:
                break
            chosen |= set(of[place])
            got += len(of[place])
    return chosen


@dataclass(frozen=True)
class SceneSounds(WholeSounds):
    """One clip a file whose name tells what it is."""

    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        if parts(item.id) is None:
            raise Unusable("odd name", f"{item.path.name} is not <scene>-<city>-<location>-<segment>-<device>.wav")
        return super().make(item, watch)


class DCASE(PackedClips):
    """Acoustic scenes as noise. See `datamodules.packed.PackedClips` for the arguments."""

    dataset, video = "dcase", False
