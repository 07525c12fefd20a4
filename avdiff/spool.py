"""Signals and arrays that go to disk where they are long: recordings of any length in little memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np

from avdiff.files import naming

IN_MEMORY = 1 << 26  # bytes that a spool may have there
ARRAYS_IN_MEMORY = 1 << 28  # bytes of all arrays of a folder together


class Signal(Protocol):
    """(n,) samples, in memory or not: of both a slice is an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


class Spool:
    """(n,) float32 samples that grow at their end; beyond 64 MiB they are in a file without a name, which goes with the spool.

    Args:
        folder: for that file.
        in_memory: bytes until then.
    """

    def __init__(self, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self.folder = folder
        self._length = 0
        self._file = tempfile.SpooledTemporaryFile(in_memory, dir=os.fspath(folder))  # noqa: SIM115

    def append(self, samples: np.ndarray) -> None:
        """Add (n,) samples.

        Raises:
            OSError: they cannot be written.
        """
        with naming(self.folder):
            self._file.seek(0, os.SEEK_END)
            self._file.write(np.ascontiguousarray(samples, np.float32).tobytes())
            self._file.flush()
        self._length += len(samples)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, step = part.indices(self._length)
        if step != 1:
            raise IndexError(f"a part of a spool is read sample by sample, not every {step}th")
        self._file.seek(4 * start)
        return np.frombuffer(self._file.read(4 * max(0, stop - start)), np.float32)

    def close(self) -> None:
        self._file.close()


class Arrays:
    """Makes uint8 arrays, in memory while they are small together, then in files that go with them.

    Args:
        folder: for these files.
        in_memory: bytes until then.
    """

    def __init__(self, folder: Path, in_memory: int = ARRAYS_IN_MEMORY) -> None:
        self.folder = folder
        self.left = in_memory

    def zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of zeros.

        Raises:
            OSError: there is no room for it.
        """
        size = int(np.prod(shape))
        if size <= self.left:
            self.left -= size
            return np.zeros(shape, np.uint8)
        with naming(self.folder), tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a map of a file that has no room ends the process
            return np.memmap(file, np.uint8, "r+", shape=shape)
