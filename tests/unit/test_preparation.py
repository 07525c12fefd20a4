"""The engine of preparation: what it does with files that fail, with ranks, and when it is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.prepare import Work
from avdiff.prepare import run as run_preparation
from datamodules.packs import MISSING, UNREACHABLE, Clip, Pack, PackWriter, failures
from datamodules.preparation import EMPTY, ENDLESS, ERROR, STOPPED, Item, Maker, Stopwatch, Unusable, own_share, prepare


@dataclass(frozen=True)
class Texts(Maker):
    """A file's text says what happens; else there are as many samples as it has letters, in as many clips as lines."""

    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        text = item.path.read_text()
        with watch("read"):
            if text == "unusable":
                raise Unusable("not wanted", "it says so")
            if text == "user":
                raise UserError("it is damaged")
            if text == "raise":
                raise ZeroDivisionError("0")
            if text == "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            if text == "hang":
                time.sleep(1000)
        lines = text.splitlines()
        named = [item.id] if len(lines) == 1 else [f"{item.id}#{i}" for i in range(len(lines))]
        return [Clip(name, np.full(len(line), 0.5), item.about) for name, line in zip(named, lines, strict=True)]


def items(folder: Path, **texts: str) -> list[Item]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [Item(name, folder / name, {"split": "train"}) for name in texts]


def run(folder: Path, todo: Sequence[Item], rank: int = 0, ranks: int = 1, workers: int = 0, **more: float) -> str:
    writer = PackWriter(folder, rank)
    report = prepare(todo, Texts(), writer, rank=rank, ranks=ranks, workers=workers, **more)
    writer.close()
    assert report.left == 0
    return str(report)


def test_what_fails_is_recorded_and_the_rest_is_prepared_once(tmp_path: Path) -> None:
    todo = items(tmp_path / "in", a="xx", b="unusable", c="user", d="raise", e="xx\nyyy", f="")
    todo.append(Item("g", tmp_path / "in" / "gone"))
    told = run(tmp_path / "out", todo)
    assert "2 of 7 files prepared, 0 were there before" in told
    assert "left out, not wanted: 1" in told
    reasons = {"b": "not wanted", "c": "cannot be read", "d": ERROR, "f": EMPTY, "g": MISSING}
    assert failures(tmp_path / "out") == reasons
    assert "ZeroDivisionError: 0" in (tmp_path / "out" / "failed-0000.jsonl").read_text()
    pack = Pack(tmp_path / "out")
    assert pack.ids.tolist() == ["a", "e#0", "e#1"]
    assert pack.samples.tolist() == [2, 2, 3]
    manifest = (tmp_path / "out" / "manifest-0000.jsonl").read_bytes()
    (tmp_path / "in" / "gone").write_text("zzzz")  # it has been fetched meanwhile
    assert "1 of 7 files prepared, 6 were there before" in run(tmp_path / "out", todo)
    assert (tmp_path / "out" / "manifest-0000.jsonl").read_bytes().startswith(manifest)
    assert Pack(tmp_path / "out").ids.tolist() == ["a", "e#0", "e#1", "g"]


def test_ranks_share_the_work_and_leave_the_same_pack(tmp_path: Path) -> None:
    todo = items(tmp_path / "in", **{f"{i:02d}": "x" * (i + 1) for i in range(11)})
    run(tmp_path / "one", todo)
    for rank in (2, 0, 1):
        run(tmp_path / "three", todo, rank, 3)
        assert len(list((tmp_path / "three").glob(f"manifest-000{rank}.jsonl"))) == 1
    one, three = Pack(tmp_path / "one"), Pack(tmp_path / "three")
    assert one.ids.tolist() == three.ids.tolist()
    for i in range(11):
        assert one.rows[i]["sha256"] == three.rows[i]["sha256"]
        assert np.array_equal(one.audio(i), three.audio(i))
    assert "0 of 11 files prepared, 11 were there before" in run(tmp_path / "three", todo)


def test_a_file_that_kills_or_occupies_its_worker_is_recorded(tmp_path: Path) -> None:
    todo = items(tmp_path / "in", a="x", b="die", c="hang", d="xx")
    told = run(tmp_path / "out", todo, workers=2, patience=4.0)
    assert "2 of 4 files prepared" in told
    assert failures(tmp_path / "out") == {"b": STOPPED, "c": ENDLESS}


def work(folder: Path, todo: Sequence[Item], told: Connection) -> None:
    writer = PackWriter(folder, limit=100)
    prepare(todo, Texts(), writer, workers=0, progress=lambda report: told.send(report.done + report.made))


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    todo = items(tmp_path / "in", **{f"{i:03d}": "x" * 50 for i in range(300)})
    processes, seen = get_context("fork"), 0
    for _ in range(4):
        ours, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=work, args=(tmp_path / "out", todo, theirs))
        process.start()
        theirs.close()
        first = ours.recv()
        assert first in (seen + 1, seen + 2)  # the last one may have been on disk and not told
        for _ in range(20):
            seen = ours.recv()
        process.kill()
        with suppress(EOFError):
            while True:
                seen = ours.recv()
        process.join()
    assert seen < 300
    run(tmp_path / "out", todo)
    pack = Pack(tmp_path / "out")
    assert pack.ids.tolist() == [item.id for item in todo]
    assert sum(file.stat().st_size for file in (tmp_path / "out").glob("*.bin")) == 300 * 100


def test_names_that_are_no_text_are_prepared_too(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    todo = items(tmp_path / "in", **{name: "xx", f"{name}2": "unusable"})
    run(tmp_path / "out", todo)
    assert Pack(tmp_path / "out").ids.tolist() == [name]
    assert failures(tmp_path / "out") == {f"{name}2": "not wanted"}
    assert "0 of 2 files prepared, 2 were there before" in run(tmp_path / "out", todo)


def test_slurm_variables_that_are_no_numbers_are_told() -> None:
    with pytest.raises(UserError, match=r"SLURM_ARRAY_TASK_ID is 'x'"):
        own_share(None, None, {"SLURM_ARRAY_TASK_ID": "x"})


@dataclass(frozen=True)
class Misled(Texts):
    """Its own settings are wrong."""

    def begin(self) -> None:
        raise UserError("there is no model nowhere.task")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_the_settings_is_no_failure_of_the_items(workers: int, tmp_path: Path) -> None:
    todo = items(tmp_path / "in", a="x")
    work = Work(rank=None, ranks=None, workers=workers, first=None, patience=60.0, retry=False)
    with pytest.raises(UserError, match=r"nowhere\.task"):
        run_preparation(todo, Misled(), tmp_path / "out", work, {})
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Unlucky(Maker):
    """The machine fails, not the file."""

    error: type[Exception]

    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        raise self.error("no luck")


@pytest.mark.parametrize("error", [MemoryError, OSError, PermissionError])
def test_what_the_machine_failed_at_is_tried_again(error: type[Exception], tmp_path: Path) -> None:
    todo = items(tmp_path / "in", a="xx")
    writer = PackWriter(tmp_path / "out")
    prepare(todo, Unlucky(error), writer, workers=0)
    writer.close()
    assert failures(tmp_path / "out") == {"a": UNREACHABLE}
    assert "1 of 1 files prepared" in run(tmp_path / "out", todo)


@pytest.mark.parametrize(
    ("odd", "option"),
    [
        ({"workers": -1}, "--workers"),
        ({"first": 0}, "--first"),
        ({"first": -3}, "--first"),
        ({"ranks": 0, "rank": 0}, "--ranks"),
        ({"patience": 0.0}, "--patience"),
        ({"patience": float("nan")}, "--patience"),
    ],
)
def test_work_that_makes_no_sense_is_refused(odd: dict[str, float], option: str) -> None:
    plain = {"rank": None, "ranks": None, "workers": None, "first": None, "patience": 60.0, "retry": False}
    with pytest.raises(UserError, match=option):
        Work(**{**plain, **odd})  # type: ignore[arg-type]


def test_patience_may_be_without_end(tmp_path: Path) -> None:
    run(tmp_path / "out", items(tmp_path / "in", a="x"), workers=1, patience=float("inf"))
    assert Pack(tmp_path / "out").ids.tolist() == ["a"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # a batch script without srun is one process
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "9"}, (4, 9)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "4",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "6",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "3",
            },
            (7, 12),
        ),
    ],
)
def test_slurm_says_whose_share_it_is(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert own_share(None, None, environment) == expected
    assert own_share(1, 2, environment) == (1, 2)


def test_a_rank_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="--rank and --ranks go together"):
        own_share(1, None, {})
    with pytest.raises(UserError, match="give --rank from 0 to 1"):
        own_share(2, 2, {})


def test_a_stage_inside_another_is_counted_once() -> None:
    watch = Stopwatch()

    def busy(seconds: float) -> None:
        start = time.process_time()
        while time.process_time() < start + seconds:
            pass

    start = time.process_time()
    with watch("outer"):
        busy(0.02)
        for _ in watch.stages("inner", iter((busy(0.0), busy(0.0)))):
            with watch("inmost"):
                busy(0.03)
    total = time.process_time() - start
    assert sum(watch.seconds.values()) == pytest.approx(total, abs=0.005)
    assert watch.seconds["inmost"] == pytest.approx(0.06, abs=0.01)
    assert watch.seconds["outer"] == pytest.approx(0.02, abs=0.01)
