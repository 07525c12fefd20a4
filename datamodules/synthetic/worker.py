"""A process that makes clips for `corpus`: asked with (maker, index), it answers maker(index)."""

from __future__ import annotations

from typing import Any, BinaryIO

from avdiff.extras import lazy
from datamodules.synthetic.process import answer, serve

cv2 = lazy("cv2")


def _respond(request: Any, file: BinaryIO) -> None:
    make, index = request
    answer(make(index), file)


if __name__ == "__main__":
    cv2.setNumThreads(1)  # the processes share the cores
    serve(_respond)
