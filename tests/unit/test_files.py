"""Files that are written whole or not at all, and what is told of a disk that refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.files import disk_fault, read_json, whole

FULL_DEVICE = Path("/dev/full")  # every write to it finds the disk full


def test_a_write_that_fails_leaves_the_earlier_file_and_names_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("earlier")

    def write() -> None:
        with whole(file) as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as failed:
        write()
    assert failed.value.filename == str(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "earlier"


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("rows", [10, 100_000])
def test_an_array_that_does_not_fit_is_a_full_disk(rows: int, tmp_path: Path) -> None:
    def write() -> None:
        with whole(tmp_path / "a.npy") as partial:
            partial.symlink_to(FULL_DEVICE)
            with partial.open("wb") as out:
                np.save(out, np.zeros(rows))

    with pytest.raises(OSError, match="No space") as failed:
        write()
    assert failed.value.errno == errno.ENOSPC
    assert failed.value.filename == str(tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y.wav"), "x/y.wav: No space left on device; free"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system; give another"),
        (OSError(errno.EACCES, "Permission denied", b"x"), "x: Permission denied; give another"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "x: File name too long; give another"),
    ],
)
def test_an_error_of_the_file_system_is_one_sentence(error: OSError, told: str) -> None:
    assert told in (disk_fault(error) or "")


@pytest.mark.parametrize("error", [OSError("odd"), BrokenPipeError(errno.EPIPE, "Broken pipe")])
def test_other_errors_stay_errors(error: OSError) -> None:
    assert disk_fault(error) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00"])
def test_damaged_json_is_told_with_its_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json is damaged.*; copy it anew"):
        read_json(tmp_path / "a.json", "copy it anew")
