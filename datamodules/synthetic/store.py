"""Arrays on disk that grow: `.npy` files to which clips are appended, readable and memory-mappable at any time.

The header, of fixed length, is rewritten after the data that it speaks of. So a killed run leaves whole clips, a later
run goes on from them, and whoever has the file mapped keeps reading the clips that it saw.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from avdiff.files import naming, whole

_HEADER = 128  # bytes; numpy asks for a multiple of 64


class GrowingArray:
    """An (N, *shape) array in a `.npy` file, N growing.

    Args:
        file: created when it is first written to. One that is damaged has no rows: a full disk may leave it empty.
        shape: of one row.
        dtype: of the values.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.file, self.shape, self.dtype = file, shape, np.dtype(dtype)
        self._row = int(np.prod(shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        """Rows that are counted and there."""
        return self._counted() or 0

    def _counted(self) -> int | None:
        """Rows that are counted and there; None of a file that is missing or does not begin as ours do."""
        if not self.file.is_file():
            return None
        with self.file.open("rb") as rows:
            header = rows.read(_HEADER)
        found = re.search(rb"'shape': \((\d+),", header)
        if found is None or header != self._header(int(found[1])):
            return None
        return min(int(found[1]), (self.file.stat().st_size - _HEADER) // self._row)

    def append(self, rows: np.ndarray) -> None:
        """Write rows (M, *shape) after the last, then count them."""
        if rows.shape[1:] != self.shape or rows.dtype != self.dtype:
            raise ValueError(
                f"{self.file.name} takes rows {self.shape} {self.dtype}; got {rows.shape[1:]} {rows.dtype}"
            )
        count = len(self)
        self.resize(count)
        with naming(self.file), self.file.open("r+b") as out:
            out.seek(_HEADER + count * self._row)
            out.write(np.ascontiguousarray(rows).tobytes())
            out.flush()
            os.fsync(out.fileno())
        self.resize(count + len(rows))

    def resize(self, count: int) -> None:
        """Count only the first so many rows, which must be there."""
        if self._counted() is None:
            with whole(self.file) as partial:
                partial.write_bytes(self._header(0))
        with naming(self.file), self.file.open("r+b") as out:
            out.write(self._header(count))

    def _header(self, count: int) -> bytes:
        text = repr({"descr": self.dtype.str, "fortran_order": False, "shape": (count, *self.shape)})
        return b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + f"{text:<{_HEADER - 11}}\n".encode()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
