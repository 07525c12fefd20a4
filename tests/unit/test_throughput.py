"""How fast a fit goes, by a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import lightning.pytorch as pl
import pytest
import torch

from avdiff.lit import throughput
from avdiff.lit.throughput import Throughput


class Fit:
    """Steps of given lengths, as Lightning tells a callback of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: int = 50) -> None:
        self.now, self.logged = 0.0, {}
        monkeypatch.setattr(throughput.time, "perf_counter", lambda: self.now)
        self.callback = Throughput(steps)
        module = SimpleNamespace(device=torch.device("cpu"), log_dict=self.logged.update)
        self.given = (cast(pl.Trainer, SimpleNamespace(world_size=2)), cast(pl.LightningModule, module))
        self.callback.on_train_start(*self.given)

    def step(self, waits: float, works: float, clips: int = 4) -> None:
        batch: Any = {"audio": torch.zeros(clips, 1)}
        self.now += waits
        self.callback.on_train_batch_start(*self.given, batch, 0)
        self.now += works
        self.callback.on_train_batch_end(*self.given, None, batch, 0)


def test_clips_of_all_processes_and_the_share_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch)
    fit.step(waits=100, works=100)  # the first, which is not like the others
    assert not fit.logged
    fit.step(waits=1, works=3)
    fit.step(waits=3, works=1)
    assert fit.logged == {"speed/clips_per_second": 2 * 8 / 8, "speed/data_wait": 0.5}


def test_validation_and_checkpoints_are_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch)
    fit.step(waits=0, works=1)
    fit.callback.on_validation_start(*fit.given)
    fit.step(waits=50, works=1)
    fit.callback.on_save_checkpoint(*fit.given, {})
    fit.step(waits=50, works=1)
    fit.step(waits=1, works=3)
    assert fit.logged == {"speed/clips_per_second": 2, "speed/data_wait": 0.25}


def test_only_the_last_steps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch, steps=1)
    for waits in (0, 7, 1):
        fit.step(waits=waits, works=1)
    assert fit.logged["speed/data_wait"] == 0.5
