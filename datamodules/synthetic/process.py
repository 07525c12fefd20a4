"""A module that runs as a process of its own and answers requests.

Unlike `multiprocessing`, it shares nothing with the caller: no fork of its threads, and no second import of its main script.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO


class Process:
    """`python -m module`, which calls `serve`: `process(request)` is its answer. Safe to call from several threads.

    Args:
        module: dotted name.
    """

    def __init__(self, module: str) -> None:
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._lock = threading.Lock()
        self._module = module
        self.close = weakref.finalize(self, _close, self._process)

    def __call__(self, request: Any) -> Any:
        """Ask.

        Raises:
            RuntimeError: the process ended; its own error is on stderr.
        """
        with self._lock:
            try:
                pickle.dump(request, self._process.stdin)  # type: ignore[arg-type]
                self._process.stdin.flush()  # type: ignore[union-attr]
                return pickle.load(self._process.stdout)  # type: ignore[arg-type]
            except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
                raise RuntimeError(f"the process {self._module} ended before it answered") from error

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer gets a RuntimeError."""
        self._process.kill()


def _close(process: subprocess.Popen[bytes]) -> None:
    with suppress(BrokenPipeError):  # it was killed before it read all that was asked
        process.stdin.close()  # type: ignore[union-attr]
    process.stdout.close()  # type: ignore[union-attr]
    process.wait()


def serve(respond: Callable[[Any, BinaryIO], None]) -> None:
    """Answer until nobody asks any more.

    Args:
        respond: writes the pickled answer to a request into an unbuffered file.
    """
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)  # should a library print, it must not print into the answers
        while True:
            try:
                request = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            respond(request, answers)


def answer(value: Any, file: BinaryIO) -> None:
    """Write an answer whole: an unbuffered file may take only part of it at once."""
    data = memoryview(pickle.dumps(value, protocol=5))
    while data:
        data = data[file.write(data) :]
