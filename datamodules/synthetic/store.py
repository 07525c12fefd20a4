"""Arrays on disk that grow: `.npy` files to which clips are appended, readable and memory-mappable at any time.

The header, of fixed length, is rewritten after the data that it speaks of. So a killed run leaves whole clips, a later
run goes on from them, and whoever has the file mapped keeps reading the clips that it saw.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_HEADER = 128  # bytes; numpy asks for a multiple of 64


class GrowingArray:
    """An (N, *shape) array in a `.npy` file, N growing.

    Args:
        file: created when missing.
        shape: of one row.
        dtype: of the values.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.file, self.shape, self.dtype = file, shape, np.dtype(dtype)
        self._row = int(np.prod(shape)) * self.dtype.itemsize
        if not file.exists():
            file.write_bytes(self._header(0))

    def __len__(self) -> int:
        return int(np.load(self.file, mmap_mode="r").shape[0])

    def append(self, rows: np.ndarray) -> None:
        """Write rows (M, *shape) after the last, then count them."""
        if rows.shape[1:] != self.shape or rows.dtype != self.dtype:
            raise ValueError(
                f"{self.file.name} takes rows {self.shape} {self.dtype}; got {rows.shape[1:]} {rows.dtype}"
            )
        count = len(self)
        with self.file.open("r+b") as out:
            out.seek(_HEADER + count * self._row)
            out.write(np.ascontiguousarray(rows).tobytes())
            out.flush()
            os.fsync(out.fileno())
        self.resize(count + len(rows))

    def resize(self, count: int) -> None:
        """Count only the first so many rows, which must be there."""
        with self.file.open("r+b") as out:
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
