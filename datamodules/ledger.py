"""Files that only grow: lines that say what there is, and the data that they speak of.

    <name>-0000.jsonl                 one line an entry, JSON
    <stream>-0000-000.bin, -001.bin   data, cut into files of a few gigabytes

0000 is the rank of the process that writes; every rank has files of its own, so none waits for another. Data are handed
to the system before the line that speaks of them. Whoever is killed leaves at most data that no line covers, or half a
line: the next writer cuts both off. A machine that loses its power may also leave lines whose data were not on disk yet:
these are cut off too.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from avdiff.errors import UserError
from avdiff.files import naming

LIMIT = 4 << 30  # bytes from which a data file is followed by the next

Line = dict[str, Any]
Entry = tuple[Mapping[str, Any], Mapping[str, bytes]]  # what is said of it; stream -> data


def data_file(folder: Path, stream: str, rank: int, shard: int) -> Path:
    """Where data are."""
    return folder / f"{stream}-{rank:04d}-{shard:03d}.bin"


def lines(folder: Path, name: str) -> Iterator[tuple[Path, int, Line]]:
    """Every whole entry of every rank: its file, the byte at which its line starts, and the line.

    An entry of several lines (see `Ledger.append`) of which the last is missing is left out.

    Raises:
        UserError: a line is damaged.
    """
    for file in sorted(folder.glob(f"{name}-*.jsonl")):
        for start, _, line in _whole(file):
            yield file, start, line


def _whole(file: Path) -> Iterator[tuple[int, int, Line]]:
    """(first byte, last byte + 1, line) of every line that is part of a whole entry."""
    waiting: list[tuple[int, int, Line]] = []
    start = 0
    with file.open("rb") as handle:
        for number, text in enumerate(handle, 1):
            if not text.endswith(b"\n"):
                return
            line = _parsed(file, number, text)
            waiting.append((start, start + len(text), line))
            start += len(text)
            if not line.get("follow"):
                yield from waiting
                waiting = []


def _parsed(file: Path, number: int, text: bytes) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("id"), str):
        raise UserError(
            f"line {number} of {file} is damaged; copy it anew, or delete that line and prepare again, which adds what is missing"
        )
    return line


class Ledger:
    """The writer of one rank.

    Args:
        folder: created when missing.
        name: of the lines' file.
        streams: kinds of data that entries may have.
        rank: of this process; two writers of one rank are refused.
        limit: bytes of a data file from which the next is begun.

    Raises:
        UserError: another process writes as this rank, or a line is damaged.
    """

    def __init__(self, folder: Path, name: str, streams: Sequence[str] = (), rank: int = 0, limit: int = LIMIT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rank, self.limit = folder, rank, limit
        file = folder / f"{name}-{rank:04d}.jsonl"
        self._lines = file.open("ab")
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lines.close()
            raise UserError(
                f"{file} is being written by another process; wait for it, or give every process a --rank of its own"
            ) from error
        self._ends = dict.fromkeys(streams, (0, 0))  # shard, bytes
        whole, ends = 0, dict(self._ends)
        for _, end, line in _whole(file):
            at = {stream: (shard, offset + size) for stream, (shard, offset, size) in line.get("at", {}).items()}
            if not all(self._there(stream, *place) for stream, place in at.items()):
                break
            ends |= at
            if not line.get("follow"):
                whole, self._ends = end, dict(ends)
        self._lines.truncate(whole)
        self._data = {stream: self._at_end(stream) for stream in streams}

    def _there(self, stream: str, shard: int, end: int) -> bool:
        file = data_file(self.folder, stream, self.rank, shard)
        return file.exists() and file.stat().st_size >= end

    def _at_end(self, stream: str) -> BinaryIO:
        """The data file to go on with, without what no line covers."""
        shard, end = self._ends[stream]
        later = shard + 1
        while (left := data_file(self.folder, stream, self.rank, later)).exists():
            left.unlink()
            later += 1
        out = data_file(self.folder, stream, self.rank, shard).open("ab")
        out.truncate(end)
        return out

    def append(self, entries: Sequence[Entry]) -> None:
        """Write what belongs together: after a kill all of it is there, or nothing.

        A line gets `at`, stream -> [shard, first byte, bytes], and `follow`, how many lines of the same come after it,
        where that is not none.
        """
        text = b""
        for left, (line, data) in zip(reversed(range(len(entries))), entries, strict=True):
            at = {stream: self._write(stream, part) for stream, part in data.items()}
            told = {**line, **({"at": at} if at else {}), **({"follow": left} if left else {})}
            text += (
                json.dumps(told, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
            )  # names of files may be no UTF-8
        for stream in {stream for _, data in entries for stream in data}:
            with self._named(stream):
                self._data[stream].flush()
        with naming(Path(self._lines.name)):
            self._lines.write(text)
            self._lines.flush()

    def _named(self, stream: str) -> AbstractContextManager[None]:
        return naming(Path(self._data[stream].name))

    def _write(self, stream: str, data: bytes) -> tuple[int, int, int]:
        shard, end = self._ends[stream]
        if end and end + len(data) > self.limit:
            self._data[stream].close()
            shard, end = shard + 1, 0
            self._ends[stream] = (shard, end)
            self._data[stream] = self._at_end(stream)
        with self._named(stream):
            self._data[stream].write(data)
        self._ends[stream] = (shard, end + len(data))
        return shard, end, len(data)

    def close(self) -> None:
        """Let another process write as this rank."""
        for file in (*self._data.values(), self._lines):
            file.close()
