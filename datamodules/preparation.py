"""From files to a pack: restartable, on all cores of a machine, on as many machines as there are.

The files ("items") are shared out by rank; every rank has its own files in the pack, and on each worker processes make clips
while one process writes them. An item that gives no clip is recorded with its reason, whatever it did: raise, kill its worker
or never end. Running the same command again does what is left.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import av

from avdiff.errors import UserError
from avdiff.types import SAMPLE_RATE
from datamodules.codecs import MouthCodec
from datamodules.ledger import Entry
from datamodules.packs import MISSING, UNREACHABLE, Clip, PackWriter, encoded
from datamodules.synthetic.process import Process

EMPTY = "empty file"
STOPPED = "stopped its worker process"
ENDLESS = "took too long"
ERROR = "unforeseen error"


@dataclass(frozen=True)
class Item:
    """A file that clips are made from.

    Attributes:
        id: unlike any other, the same in every run.
        path: of the file.
        about: what is known of it before it is read; goes into the manifest.
    """

    id: str
    path: Path
    about: Mapping[str, Any] = field(default_factory=dict)


class Unusable(Exception):
    """An item gives no clip.

    Args:
        reason: a few words, the same for all that failed alike.
        detail: a sentence.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Stopwatch:
    """Processor seconds of every stage of the work; what is done for a stage inside another counts for the inner one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def _charge(self) -> None:
        now = time.process_time()
        if self._running:
            stage = self._running[-1]
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what is done inside for a stage."""
        self._charge()
        self._running.append(stage)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def stages(self, stage: str, values: Iterator[Any]) -> Iterator[Any]:
        """Count what an iterator does for a stage, and not what is done with its values."""
        while True:
            with self(stage):
                try:
                    value = next(values)
                except StopIteration:
                    return
            yield value


class Maker(ABC):
    """Makes clips of an item, in a process of its own. It is sent there pickled."""

    def begin(self) -> None:  # noqa: B027 - most need nothing
        """Load what every item needs, so that what is wrong with it is told once and held against none of them.

        Raises:
            UserError: the maker's own settings are wrong: no item can be made.
        """

    @abstractmethod
    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        """The clips.

        Args:
            item: of which the file is there and not empty.
            watch: told of the stages.

        Raises:
            Unusable: it gives none.
            UserError: the same, found out where reasons are not known: the file cannot be read.
        """


@dataclass(frozen=True)
class Answer:
    """What became of an item.

    Attributes:
        entries: clips as they are stored.
        reason, detail: why there are none.
        seconds: processor seconds of each stage.
    """

    entries: Sequence[Entry] = ()
    reason: str = ""
    detail: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)


def attempt(maker: Maker, item: Item, codec: MouthCodec) -> Answer:
    """What becomes of an item; raises nothing."""
    watch, entries, reason, detail = Stopwatch(), [], "", ""
    try:
        if not item.path.is_file():
            raise Unusable(MISSING, f"there is no file {item.path}")
        if not item.path.stat().st_size:
            raise Unusable(EMPTY, f"{item.path} has no bytes")
        item.path.open("rb").close()
        clips = maker.make(item, watch)
        with watch("encode"):
            entries = [encoded(clip, codec) for clip in clips]
    except Unusable as error:
        reason, detail = error.reason, error.detail
    except UserError as error:
        reason, detail = "cannot be read", str(error)
    except (OSError, MemoryError) as error:  # of the machine, not of the file: the next run may have more luck
        broken = isinstance(error, av.FFmpegError)
        reason, detail = (ERROR if broken else UNREACHABLE), f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a file does to a decoder, the others go on
        reason, detail = ERROR, f"{type(error).__name__}: {error}"
    return Answer(entries, reason, detail, watch.seconds)


@dataclass
class Report:
    """What a run did.

    Attributes:
        rank, ranks: its share of the items.
        items: of its share.
        done: of them, before it began.
        made: of them, those that gave clips.
        failed: reason -> items.
        audio: seconds of the clips made.
        seconds: processor seconds of each stage.
        elapsed: seconds on the clock.
    """

    rank: int
    ranks: int
    items: int
    done: int = 0
    made: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    audio: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def left(self) -> int:
        """Items not yet looked at."""
        return self.items - self.done - self.made - self.failed.total()

    def __str__(self) -> str:
        of = f", rank {self.rank} of {self.ranks}" if self.ranks > 1 else ""
        text = [f"{self.made} of {self.items} files prepared, {self.done} were there before{of}"]
        text += [f"left out, {reason}: {count}" for reason, count in sorted(self.failed.items())]
        if self.made:
            text.append(self.speed())
        return "\n".join(text)

    def speed(self) -> str:
        """Seconds of clips a second of a core: of the whole, and of each stage alone."""
        total = max(1e-9, sum(self.seconds.values()))
        stages = ", ".join(f"{stage} {self.audio / max(1e-9, s):.1f}" for stage, s in self.seconds.items())
        return (
            f"{self.audio / 3600:.2f} h of clips in {self.elapsed:.0f} s; seconds of clips a second a core: "
            f"{self.audio / total:.2f} ({stages}); {1000 * total / max(1e-9, self.audio):.0f} core hours for 1,000 h"
        )


def own_share(rank: int | None, ranks: int | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """This process's rank and the number of ranks: as given, else as SLURM says (a job array, srun, or both), else 0 of 1.

    Raises:
        UserError: one was given without the other, or they do not fit.
    """
    if (rank is None) != (ranks is None):
        raise UserError("--rank and --ranks go together: --rank 0 --ranks 4 is the first of four")
    if rank is None or ranks is None:

        def number(name: str, default: int) -> int:
            text = environment.get(f"SLURM_{name}", str(default))
            if not text.isdecimal():
                raise UserError(
                    f"the variable SLURM_{name} is {text!r}, not a number; unset it, or give --rank and --ranks"
                )
            return int(text)

        first, last = (number(f"ARRAY_TASK_{edge}", 0) for edge in ("MIN", "MAX"))
        step = max(1, number("ARRAY_TASK_STEP", 1))
        job, jobs = (number("ARRAY_TASK_ID", 0) - first) // step, (last - first) // step + 1
        # Set by srun alone: a batch script that runs without it is one process, whatever was asked for.
        tasks = number("STEP_NUM_TASKS", 1)
        task = number("PROCID", 0) if tasks > 1 else 0
        rank, ranks = job * tasks + task, jobs * tasks
    if ranks < 1:
        raise UserError(f"--ranks is {ranks}; give at least 1")
    if not 0 <= rank < ranks:
        raise UserError(f"rank {rank} of {ranks} was asked for; give --rank from 0 to {ranks - 1}")
    return rank, ranks


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(
    items: Sequence[Item],
    maker: Maker,
    writer: PackWriter,
    *,
    rank: int = 0,
    ranks: int = 1,
    workers: int | None = None,
    patience: float = 3600.0,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Make the clips of this rank's items that are not there yet.

    Args:
        items: all of the data set, in an order that is the same in every run.
        maker: of clips.
        writer: of this rank.
        rank, ranks: this process takes items rank, rank + ranks, ...
        workers: processes; None for one a core, 0 for none but this.
        patience: seconds that an item may take.
        progress: told after every item.

    Raises:
        UserError: the maker cannot begin; no item is looked at.
    """
    if (workers is not None and workers < 0) or not patience > 0:
        raise ValueError(
            f"{workers} workers and {patience} s of patience were asked for; expected 0 or more, and more than 0"
        )
    maker.begin()
    own = items[rank::ranks]
    done = writer.done
    todo = [item for item in own if item.id not in done]
    report = Report(rank, ranks, len(own), len(own) - len(todo))
    start = time.perf_counter()
    for item, answer in _answers(todo, maker, writer.codec, cores() if workers is None else workers, patience):
        watch = Stopwatch()
        with watch("write"):
            if answer.entries:
                writer.write(answer.entries, item.id)
            else:
                writer.fail(item.id, answer.reason or "gave no clip", answer.detail)
        if answer.entries:
            report.made += 1
            report.audio += sum(line["samples"] for line, _ in answer.entries) / SAMPLE_RATE
            for stage, seconds in (*answer.seconds.items(), *watch.seconds.items()):
                report.seconds[stage] = report.seconds.get(stage, 0.0) + seconds
        else:
            report.failed[answer.reason or "gave no clip"] += 1
        report.elapsed = time.perf_counter() - start
        if progress is not None:
            progress(report)
    return report


def _answers(
    items: Sequence[Item], maker: Maker, codec: MouthCodec, workers: int, patience: float
) -> Iterator[tuple[Item, Answer]]:
    if not workers:
        for item in items:
            yield item, attempt(maker, item, codec)
        return
    todo, lock = iter(items), threading.Lock()
    answers: Queue[tuple[Item, Answer] | BaseException | None] = Queue(2 * workers)  # clips wait in memory
    count = min(workers, len(items))
    living: dict[int, _Worker] = {}
    ended = threading.Event()

    def ask(number: int) -> None:
        try:
            living[number] = _Worker(patience)
            while not ended.is_set():
                with lock:
                    item = next(todo, None)
                if item is None:
                    break
                answers.put((item, living[number](maker, item, codec)))
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            answers.put(error)
        answers.put(None)

    for number in range(count):
        threading.Thread(target=ask, args=(number,), daemon=True).start()
    try:
        while count:
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                count -= 1
            else:
                yield answer
    finally:
        ended.set()
        for worker in list(living.values()):
            worker.stop()


class _Worker:
    """A process that makes clips; one that dies is replaced."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._stopped = False
        self._process: Process | None = None

    def __call__(self, maker: Maker, item: Item, codec: MouthCodec) -> Answer:
        if self._process is None:
            self._process = Process("datamodules.preparation_worker")
            self._process((maker,))  # it starts, and loads what makes clips, which is not the file's time
        late = threading.Event()

        def give_up(process: Process) -> None:
            late.set()
            process.kill()

        timer = threading.Timer(min(self.patience, threading.TIMEOUT_MAX), give_up, (self._process,))
        timer.daemon = True
        timer.start()
        try:
            return self._process((maker, item, codec))
        except RuntimeError:
            self._process.close()
            self._process = None
            if late.is_set():
                return Answer(reason=ENDLESS, detail=f"{item.path} took more than {self.patience:.0f} s")
            if self._stopped:
                raise
            return Answer(reason=STOPPED, detail=f"{item.path} ended the process that read it")
        finally:
            timer.cancel()

    def stop(self) -> None:
        """End the process, if there is one."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
