"""Checkpoints that outlive faults, run nothing and are never of weights that are not finite."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from avdiff.errors import UserError
from avdiff.lit.checkpoints import WholeCheckpoints


def checkpoint(step: int, value: float = 0.0, **parts: Any) -> dict[str, Any]:
    weights = {"weight": torch.full((2, 2), value)}
    about = {"pytorch-lightning_version": "2.6.0", "global_step": step, "epoch": 0, "callbacks": {}}
    return {**about, "state_dict": weights, "optimizer_states": []} | parts


def step_of(file: Path) -> int:
    return torch.load(file, weights_only=True)["global_step"]


def full(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The disk is full the next so many times that something is synchronised with it."""
    left, sync = [times], os.fsync

    def no_room(handle: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", no_room)


def test_the_one_before_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "run/last.ckpt"
    for step in (1, 2, 3):
        WholeCheckpoints().save_checkpoint(checkpoint(step), file)
    assert step_of(file) == 3
    assert step_of(tmp_path / "run/last.ckpt.previous") == 2
    assert len(list(file.parent.iterdir())) == 2
    WholeCheckpoints().remove_checkpoint(file)
    assert not list(file.parent.iterdir())


def test_a_full_disk_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(checkpoint(1), file)
    full(monkeypatch, 1)
    with pytest.raises(UserError, match=r"last\.ckpt of step 2 .*no space.*as it was before"):
        WholeCheckpoints().save_checkpoint(checkpoint(2), file)
    assert step_of(file) == 1
    assert list(tmp_path.iterdir()) == [file]


def test_where_there_is_no_room_for_two_the_older_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "last.ckpt"
    for step in (1, 2):
        WholeCheckpoints().save_checkpoint(checkpoint(step), file)
    full(monkeypatch, 1)
    WholeCheckpoints().save_checkpoint(checkpoint(3), file)
    assert step_of(file) == 3


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt.4711.tmp").touch()
    WholeCheckpoints().save_checkpoint(checkpoint(1), tmp_path / "last.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


NAN = {"weight": torch.tensor([1.0, torch.nan])}


@pytest.mark.parametrize(
    ("odd", "called"),
    [
        ({"state_dict": NAN}, "the weights"),
        ({"state_dict": NAN, "current_model_state": {}}, "the averaged weights"),
        ({"current_model_state": NAN}, "the weights"),
        ({"optimizer_states": [{"state": {0: {"exp_avg_sq": torch.tensor(torch.inf)}}}]}, "optimizer's state"),
    ],
)
def test_values_that_are_not_finite_are_neither_written_nor_read(odd: dict, called: str, tmp_path: Path) -> None:
    file, odd_one = tmp_path / "last.ckpt", tmp_path / "odd.ckpt"
    WholeCheckpoints().save_checkpoint(checkpoint(1), file)
    with pytest.raises(UserError, match=f"step 2 .*{called}"):
        WholeCheckpoints().save_checkpoint(checkpoint(2, **odd), file)
    assert step_of(file) == 1
    torch.save(checkpoint(2, **odd), odd_one)
    with pytest.raises(UserError, match=f"odd.ckpt .*{called}"):
        WholeCheckpoints().load_checkpoint(odd_one)


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.file),)


def _bytes(value: object) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        os.urandom(5000),
        _bytes(checkpoint(1))[:-100],
        _bytes(checkpoint(1))[:40],
        _bytes([1, 2]),
        _bytes({"weight": torch.zeros(2)}),
        _bytes({"state_dict": {}}),
        _bytes({"state_dict": 3, "global_step": 1}),
    ],
)
def test_what_is_no_checkpoint_is_told_by_its_name(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt"):
        WholeCheckpoints().load_checkpoint(file)


@pytest.mark.parametrize(
    "place", ["nowhere.ckpt", ".", "file://nowhere.ckpt", "http://127.0.0.1:9/x.ckpt", "odd://x.ckpt"]
)
def test_a_place_without_one_is_told(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="checkpoint"):
        WholeCheckpoints().load_checkpoint(place)


@pytest.mark.parametrize("asked", [None, False, True])
def test_nothing_in_a_checkpoint_is_run(asked: bool | None, tmp_path: Path) -> None:
    file, made = tmp_path / "last.ckpt", tmp_path / "made"
    torch.save(checkpoint(1, callbacks={"evil": Evil(made)}), file)
    for place in (file, f"file://{file}"):
        with pytest.raises(UserError, match="could run code"):
            WholeCheckpoints().load_checkpoint(place, weights_only=asked)
    assert not made.exists()


def test_a_damaged_one_is_told_with_the_one_before_it(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    for step in (1, 2):
        WholeCheckpoints().save_checkpoint(checkpoint(step), file)
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"--ckpt_path \S*last\.ckpt\.previous"):
        WholeCheckpoints().load_checkpoint(file)
    assert WholeCheckpoints().load_checkpoint(f"{file}.previous")["global_step"] == 1
