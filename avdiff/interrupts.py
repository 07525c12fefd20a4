"""Ctrl-C, at any time: exit code 130 and one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 128 + signal.SIGINT
STOPPED = "avdiff: stopped"


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End the process without a word but one, whatever it is at. Files are there whole or not at all, so that none is lost."""
    show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar may have hidden it
    os.write(2, show_cursor + f"{STOPPED}\n".encode())
    os._exit(CODE)


def interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt, which an import may swallow: while something is imported the process is ended at once instead.

    Raises:
        KeyboardInterrupt: nothing is imported.
    """
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith("<frozen importlib"):
            end_at_once(number, frame)
        inner = inner.f_back
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C is `interrupt`, unless it is ignored or handled already."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def by_hand(end: SystemExit) -> bool:
    """Whether a process ends because of Ctrl-C, which Lightning turns into an exit of its own."""
    return end.code == CODE or isinstance(end.__context__, KeyboardInterrupt)
