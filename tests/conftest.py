"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from avdiff.allowed import allow

torch.set_num_threads(1)
# A shell's background jobs are started with Ctrl-C ignored, those of nohup with the end of the terminal, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
allow(["tests"])  # whose classes configs of tests name


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; tests that ask for it skip where there is none."""
    folder = os.environ.get("AVDIFF_REAL_DATA")
    if not folder:
        pytest.skip("real recordings are not at hand: set AVDIFF_REAL_DATA to their folder")
    return Path(folder)
