"""Files and folders that are there whole or not at all, and what is wrong with those that cannot be read or written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from avdiff.errors import UserError

if TYPE_CHECKING:
    import numpy as np

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK = FULL | {errno.EROFS, errno.EIO, errno.ESTALE}  # what a file system says of itself, whichever file it was
LIMITS = {errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # what the system says of a process
LOCK = ".avdiff-lock"

LONGEST = 200  # bytes of a name; file systems take 255, and some is added


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` in one step at the end: no other process reads it half written.

    Raises:
        OSError: it could not be written; nothing of it is left, and the error names `file`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with naming(file):
            yield partial
            partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Give an error of the disk the name of the file that is written inside: a write that fails does not know it."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK and error.filename is None:
            raise OSError(error.errno, error.strerror, str(file)) from error
        if error.errno is None and " requested and " in str(error):  # so numpy says that not all was written
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
        raise


def load_cached(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file of a cache, or the one of an `.npy` file as "array"; none where the file is missing or
    damaged, so that they are made anew."""
    import numpy as np

    try:
        kept = np.load(file)
        if isinstance(kept, np.ndarray):
            return {"array": kept}
        with kept:
            return dict(kept)
    except FileNotFoundError:
        return {}
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - damage has many names in numpy and zipfile
        return {}


def disk_fault(error: OSError) -> str | None:
    """What a user is told of an error of the file system, in one sentence; None where it is none, but a fault of the program."""
    if error.errno is None and " requested and " in str(error):  # of numpy, outside `naming`
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if error.errno is None or (error.filename is None and error.errno not in DISK | LIMITS):
        return None
    where = "a file cannot be read or written" if error.filename is None else os.fsdecode(error.filename)
    change = "free some space and run it again" if error.errno in FULL else "give another file or folder"
    return f"{where}: {error.strerror}; {change}"


def read_text(file: Path, expected: str) -> str:
    """A text file that a user gave, without a byte-order mark.

    Args:
        file: that is there.
        expected: what it should be.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text in UTF-8 (byte {error.start}); expected {expected}") from error


def read_json(file: Path, mend: str) -> dict[str, Any]:
    """The mapping in a JSON file that an earlier run wrote.

    Args:
        file: that is there.
        mend: what to do about one that is damaged.

    Raises:
        UserError: it holds no JSON, or no mapping.
    """
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file} is damaged: it holds no JSON ({error}); {mend}") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged: it holds no JSON mapping; {mend}")
    return found


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder, which is there, against other processes that ask for it.

    Raises:
        UserError: another process holds it.
    """
    lock = folder / LOCK
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UserError(
                f"another process is writing to {folder}; wait until it ends, or give another folder"
            ) from None
        except OSError:  # a file system without locks
            break
        if _is(lock, handle):
            break
        os.close(handle)  # its holder removed it just now
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(handle))


def packaged(file: Path) -> Path:
    """A file as it was given; where there is none and it begins with experiments/, that of the installed package.

    README and Makefile name the project's files so, and who installed a wheel has no such folder.
    """
    if file.exists() or file.is_absolute() or file.parts[:1] != ("experiments",) or ".." in file.parts:
        return file
    inside = Path(str(resources.files("experiments")), *file.parts[1:])
    return inside if inside.is_file() else file


def key_parts(key: str) -> tuple[str, ...]:
    """The folders of a clip id such as `speakers2/007`, below whatever folder holds the clips.

    Raises:
        UserError: it would lead out of that folder or into a hidden one, or cannot name a folder at all.
    """
    parts = PurePosixPath(key).parts
    odd = not parts or any(
        part.startswith((".", "/")) or len(part.encode(errors="replace")) > LONGEST for part in parts
    )
    if odd or not key.isprintable():
        raise UserError(f"clip id {key[:200]!r} cannot name a folder; use letters, digits, '-' and '/'")
    return parts


def stamp(file: Path) -> list[int]:
    """Size and time, by which a file is known to be the same; nothing where there is none."""
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []


def yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML file, and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())
