"""A process that makes clips for `preparation`: asked with (maker, item, codec), it answers what became of the
item; asked with (maker,), that it has started and knows the maker."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any, BinaryIO

import torch

from avdiff.extras import MissingExtra, lazy
from datamodules.preparation import attempt
from datamodules.synthetic.process import answer, serve

cv2 = lazy("cv2")


def _respond(request: Any, file: BinaryIO) -> None:
    if len(request) > 1:
        answer(attempt(*request), file)
    else:
        request[0].begin()
        answer(None, file)


if __name__ == "__main__":
    with suppress(MissingExtra):  # sound needs none of it
        cv2.setNumThreads(1)  # the processes share the cores
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is told, and ends this process
    with suppress(BrokenPipeError):  # nobody waits for the answer any more
        serve(_respond)
