"""VoxCeleb2 (Chung et al., arXiv 1806.05622) in its published layout, and its English part.

ROOT/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4       speaker, YouTube id, clip
ROOT/test/mp4/id00017/...                        118 speakers, none of whom is in dev
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avdiff.errors import UserError
from avdiff.files import read_text
from datamodules.packed import PackedTalkers
from datamodules.preparation import Item

LIST_HELP = (
    "the ids of the English clips, one a line (dev/mp4/id05668/XWKC1JUM_ow/00053), plain or gzip: "
    "avhubert/preparation/data/vox-en.id.gz of the repository facebookresearch/av_hubert, under Meta's licence there, "
    "so that it is yours to fetch"
)
CLIP = re.compile(r"(dev|test)/mp4/(id\d+)/([^/]+)/([^/]+)")


@dataclass(frozen=True)
class Splits:
    """Who is held out: as many clips of each speaker as can be. Speakers of one split are in no other; what is left of theirs
    is not used.

    SSNAPS does not say how its 2,000 test clips were chosen.

    Args:
        test: clips of the speakers of VoxCeleb2's own test part.
        val: clips of speakers of the dev part,
        speakers: who are so many.
        seed: of the choice, which depends on the list alone and not on what is on disk.
    """

    test: int = 2000
    val: int = 300
    speakers: int = 30
    seed: int = 0

    def of(self, ids: Iterable[str]) -> dict[str, str]:
        """Id -> "train", "val" or "test"; ids that are not used are missing.

        Args:
            ids: of the whole list.

        Raises:
            UserError: nothing would be left to train on.
        """
        ordered = sorted(set(ids), key=self._draw)
        test = _evenly([name for name in ordered if name.startswith("test/")])[: self.test]
        dev = [name for name in ordered if name.startswith("dev/")]
        people = sorted({speaker(name) for name in dev}, key=self._draw)
        if len(people) <= self.speakers:
            raise UserError(
                f"{self.speakers} of the {len(people)} speakers of dev are to be held out for validation, which leaves none "
                "to train on; give a smaller --val-speakers"
            )
        held = set(people[: self.speakers])
        val = _evenly([name for name in dev if speaker(name) in held])[: self.val]
        train = [name for name in dev if speaker(name) not in held]
        return dict.fromkeys(train, "train") | dict.fromkeys(val, "val") | dict.fromkeys(test, "test")

    def _draw(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.seed}:{name}".encode()).digest()


def speaker(name: str) -> str:
    """Of a clip's id."""
    return name.split("/")[2]


def _evenly(names: Sequence[str]) -> list[str]:
    """The first of every speaker, then the second of every speaker, ..."""
    turn, turns = Counter[str](), {}
    for name in names:
        turn[speaker(name)] += 1
        turns[name] = turn[speaker(name)]
    return sorted(names, key=turns.__getitem__)


def read_list(file: Path) -> list[str]:
    """Ids of a list, plain or gzip, without repetitions, sorted.

    Raises:
        UserError: no such file, or a line that is no id.
    """
    if not file.is_file():
        raise UserError(f"there is no list {file}; give {LIST_HELP}")
    data = file.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{file} is a damaged gzip file ({error}); fetch it again") from error
    names = set()
    for number, text in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        name = text.strip().removesuffix(".mp4")
        if name and not CLIP.fullmatch(name):
            raise UserError(
                f"line {number} of {file} is {name!r}; expected an id such as dev/mp4/id05668/XWKC1JUM_ow/00053"
            )
        if name:
            names.add(name)
    if not names:
        raise UserError(f"{file} holds no id; give {LIST_HELP}")
    return sorted(names)


def all_clips(root: Path) -> list[str]:
    """Ids of every video below a root: for when there is no list."""
    found = (path.relative_to(root).as_posix().removesuffix(".mp4") for path in root.glob("*/mp4/*/*/*.mp4"))
    return sorted(name for name in found if CLIP.fullmatch(name))


def read_genders(file: Path) -> dict[str, str]:
    """Speaker -> "m" or "f", from vox2_meta.csv, whose columns are parted by commas or tabs and padded with blanks.

    Raises:
        UserError: no such file, or not such a table.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}; give VoxCeleb2's vox2_meta.csv or leave --genders out")
    text = read_text(file, "VoxCeleb2's vox2_meta.csv")
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ",")
    ]
    head = [cell.lower() for cell in rows[0]] if rows else []
    if "gender" not in head:
        raise UserError(f"the first line of {file} names no column Gender; expected VoxCeleb2's vox2_meta.csv")
    column = head.index("gender")
    return {row[0]: row[column].lower()[:1] for row in rows[1:] if len(row) > column}


def items(root: Path, names: Sequence[str], splits: Splits, genders: Mapping[str, str]) -> list[Item]:
    """What is to be prepared, sorted by id. Files are not looked for.

    Raises:
        UserError: the root is not laid out as published.
    """
    if not any((root / part / "mp4").is_dir() for part in ("dev", "test")):
        raise UserError(
            f"{root} holds neither dev/mp4 nor test/mp4; give the folder that holds VoxCeleb2 as it is published: "
            "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4"
        )
    chosen = splits.of(names)
    return [
        Item(
            name,
            root / f"{name}.mp4",
            {
                "speaker": speaker(name),
                "gender": genders.get(speaker(name), ""),
                "split": split,
                "source": name.split("/")[3],
            },
        )
        for name, split in sorted(chosen.items())
    ]


class VoxCeleb2(PackedTalkers):
    """What `avdiff prepare voxceleb2` made. See `datamodules.packed.PackedTalkers` for the arguments."""

    dataset = "voxceleb2"
