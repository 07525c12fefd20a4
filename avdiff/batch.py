"""Many recordings, separated one after the other: none that was done before again, and the rest goes on where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avdiff.errors import UserError
from avdiff.recording import SeparationReport, default_folder, earlier_files, made_by

Separate = Callable[[Path, Path], SeparationReport]  # a recording, into a folder
Tell = Callable[[BaseException], str | None]  # what a user can change about an error; None for a fault of the program


@dataclass(frozen=True)
class Outcome:
    """What became of one recording.

    Attributes:
        recording: the file.
        folder: of its voices; None where there is none.
        report: of its separation; None where it failed, or was separated before.
        reason: why it failed, in a sentence; None where it did not.
    """

    recording: Path
    folder: Path | None
    report: SeparationReport | None = None
    reason: str | None = None


def recordings_of(given: Sequence[Path], suffixes: Iterable[str]) -> list[Path]:
    """The recordings that were named: files as they are, and of a folder the videos in it, by name. None twice.

    Args:
        given: files and folders.
        suffixes: of the names of videos, in small letters.

    Raises:
        UserError: a folder holds no video.
    """
    known, found = set(suffixes), dict[Path, Path]()
    for path in given:
        videos = [path]
        if path.is_dir():
            videos = sorted(file for file in path.iterdir() if file.suffix.lower() in known and file.is_file())
            if not videos:
                raise UserError(f"{path} is a folder without a video; give one that holds videos, or a file.")
        for video in videos:
            found.setdefault(video.resolve(), video)
    return list(found.values())


def separate_each(
    recordings: Sequence[Path],
    separate: Separate,
    parent: Path,
    made: Callable[[Path], Mapping[str, object]],
    tell: Tell,
) -> Iterator[Outcome]:
    """Separate recordings, each into a folder NAME_separated of its own, and say of each what became of it.

    One that the same settings were used for, and whose files are all there, is left as it is.

    Args:
        separate: writes one recording's voices into a folder, and `made` into its record.
        parent: of the folders.
        made: the settings that a recording is separated with, and what the file is known by.
        tell: of errors.
    """
    for recording in recordings:
        folder = default_folder(recording, parent)
        if made_by(folder) == dict(made(recording)) and all(
            (folder / name).is_file() for name in earlier_files(folder)
        ):
            yield Outcome(recording, folder)
            continue
        try:
            yield Outcome(recording, folder, separate(recording, folder))
        except Exception as error:  # noqa: BLE001 - a fault of the program with one recording is none with the next
            reason = tell(error) or f"the program failed ({type(error).__name__}: {error}); please report it"
            yield Outcome(recording, None, reason=reason)
