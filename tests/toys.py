"""Separators for tests of what is done with estimates."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import Separator
from avdiff.types import ClipInfo, Observation, Separation


class Shares(Separator):
    """Shares of the mixture and a little noise; every clip that is separated leaves a line in a file.

    Args:
        noise: level of the sampling noise.
        log: the file; None for no log.
        kill_after: clips in the log after which the process kills itself; 0 for never.
        ask: it asks itself to stop (SIGTERM) instead.
        broken: fail instead.
        give_up: a clip that it gives up.
    """

    visual_input = "none"

    def __init__(
        self,
        noise: float = 0.0,
        log: Path | None = None,
        kill_after: int = 0,
        ask: bool = False,
        broken: bool = False,
        give_up: str = "",
    ) -> None:
        super().__init__()
        self.give_up = give_up
        self.noise, self.log, self.kill_after, self.broken = noise, log, kill_after, broken
        self.signal = signal.SIGTERM if ask else signal.SIGKILL

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        if self.broken:
            raise RuntimeError("this method is broken\nand says so in two lines")
        if self.log is not None:
            with self.log.open("a") as file:
                file.writelines(f"{key} {rng.seed}\n" for key in observation.key)
            if self.kill_after and len(self.log.read_text().splitlines()) == self.kill_after:
                os.kill(os.getpid(), self.signal)
        count = len(observation.layout)
        sources = observation.mixture[:, None].repeat(1, count, 1) / count
        sources = sources + self.noise * rng.normal(tuple(sources.shape), 0, like=sources)
        clips = tuple(ClipInfo(failure="it is too hard" if key == self.give_up else None) for key in observation.key)
        return Separation(observation.key, observation.layout, sources, {"evaluations": 2, "seconds": 0.5}, clips)
