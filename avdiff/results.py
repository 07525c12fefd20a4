"""A folder of results that a run replaces as a whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from avdiff.errors import UserError
from avdiff.files import only_one

PARTIAL = ".avdiff-partial-"  # folder of a run that goes on, or was killed
WHOLE = ".avdiff-whole"  # of one that ended well and was killed while its files were put in place
GONE = ".gone"  # in it: which files of the run before it has none for


@dataclass(frozen=True)
class Place:
    """Where a run writes.

    Attributes:
        folder: that its files will be in.
        new: folder for these files until then.
        work: folder for what is of use only while the run goes on.
    """

    folder: Path
    new: Path
    work: Path


@contextmanager
def results_folder(
    folder: Path, record: str, listed: Callable[[Path], list[str]], inputs: Collection[Path] = ()
) -> Iterator[Place]:
    """A folder, made where missing, for one run at a time.

    What the run writes into `new` takes the place of what an earlier run left when the block ends, and the record comes last.
    After an error or a stop, earlier results are as they were. Of a killed run, hidden folders are left, which the next removes;
    where the run had ended, the next puts its files in place first.

    Args:
        record: name of the file that lists what a run wrote.
        listed: path of such a file -> the names of the files that it lists, none where it is no such file.
        inputs: files that are read, which stay.

    Raises:
        UserError: the folder cannot be made, or another run holds it.
    """
    made = [part for part in (folder, *folder.absolute().parents) if not os.path.lexists(part)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove(made)
        raise UserError(f"{folder} cannot be made a folder ({error.strerror}); give another --output.") from error
    scratch = folder / PARTIAL
    try:
        with only_one(folder):
            _put_in_place(folder, record)
            for left in folder.glob(f"{PARTIAL}*"):
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
            scratch = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
            place = Place(folder, scratch / "new", scratch / "work")
            try:
                place.new.mkdir()
                place.work.mkdir()
                yield place
                read = {file.resolve() for file in inputs}
                written = {file.name for file in place.new.iterdir()}
                gone = [name for name in listed(folder / record) if name not in written]
                gone = [name for name in gone if (folder / name).resolve() not in read]
                (place.new / GONE).write_text(json.dumps(gone), encoding="utf-8")
                place.new.rename(folder / WHOLE)
                _put_in_place(folder, record)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        _remove(made)
        if error.errno is None or error.filename is None:
            raise
        raise OSError(
            error.errno, os.strerror(error.errno), str(_final(Path(os.fsdecode(error.filename)), folder))
        ) from error
    except BaseException:
        _remove(made)
        raise


def _remove(made: list[Path]) -> None:
    """Folders that were made for a run that failed, where nothing is in them."""
    for part in made:
        with suppress(OSError):
            part.rmdir()


def _final(path: Path, folder: Path) -> Path:
    """Where a file would have been in the end: the user knows nothing of hidden folders."""
    with suppress(ValueError):
        parts = path.relative_to(folder).parts
        if parts and parts[0].startswith(".avdiff-"):
            return folder.joinpath(*parts[2:]) if parts[1:2] == ("new",) else folder
    return path


def _put_in_place(folder: Path, record: str) -> None:
    """Move the files of a run that ended well to where they belong, in place of those of the run before."""
    whole = folder / WHOLE
    if whole.is_symlink() or not whole.is_dir():
        return
    with suppress(FileNotFoundError):
        for name in json.loads((whole / GONE).read_text(encoding="utf-8")):
            (folder / name).unlink(missing_ok=True)
        (whole / GONE).unlink()
    for file in sorted(whole.iterdir(), key=lambda file: file.name == record):
        file.replace(folder / file.name)
    whole.rmdir()
