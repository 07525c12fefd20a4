"""What every trainer of the command line has: whole checkpoints, a stop where the loss is no number, and sentences for faults."""

from __future__ import annotations

import math
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from avdiff.errors import UserError
from avdiff.interrupts import end_at_once
from avdiff.lit.checkpoints import WholeCheckpoints, instead_of

_SKIPPED = 32  # losses in a row: halved so often, every scale that a loss is given at first is far below one
_PATIENCE = 20.0  # seconds that Lightning has to end after Ctrl-C


class StopAtNaN(pl.Callback):
    """Ends a fit whose loss is no finite number, before its gradients reach the weights: no checkpoint is written any more.

    In half precision with a loss scale, which leaves such steps out and tries smaller scales, only so many in a row end it.
    """

    def __init__(self) -> None:
        self._in_a_row = 0  # steps whose loss was not finite

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        # all processes end, although the loss of one alone is odd: the others would wait for its gradients
        odd = not bool(torch.isfinite(loss).all())
        if not trainer.strategy.reduce_boolean_decision(odd, all=False):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if scaled and self._in_a_row < _SKIPPED:
            return
        value = f"{float(loss.detach().mean()):g}" if odd else "not finite in another process"
        raise UserError(
            f"the loss of step {trainer.global_step + 1} is {value}: {self._cause(trainer, pl_module)}; {_left(trainer)}"
        )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch = None

    def _cause(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        if isinstance(self._batch, Mapping):
            for name, value in self._batch.items():
                if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                    return (
                        f"the training data hold values that are not finite ({name}), so mend or leave out these clips"
                    )
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        rate = f" ({max(rates):g} at this step)" if rates else ""
        return (
            f"most likely the learning rate is too high{rate}, so take a lower one (--model.init_args.learning_rate) or a longer "
            "warm-up; if not, a precision that is too low for the network (--trainer.precision 32-true)"
        )


class StoppedByHand(pl.Callback):
    """After Ctrl-C another one ends the process at once, and so does a while without an end: Lightning ignores it otherwise."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, KeyboardInterrupt):
            return
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, end_at_once)
        self._timer = threading.Timer(_PATIENCE, end_at_once, (signal.SIGINT, None))
        self._timer.daemon = True
        self._timer.start()

    def done(self) -> None:
        """The process goes on: nothing is left to end."""
        if self._timer is not None:
            self._timer.cancel()


def guarded(settings: Mapping[str, Any], stopped: StoppedByHand) -> dict[str, Any]:
    """Settings of a trainer with the plugin and the callbacks that every one has. A CheckpointIO that is given stays."""
    plugins, callbacks = _listed(settings.get("plugins")), _listed(settings.get("callbacks"))
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    return {**settings, "plugins": plugins, "callbacks": [*callbacks, StopAtNaN(), stopped]}


def not_numbers(of: Any, name: str = "") -> list[tuple[str, float]]:
    """Names and values of all numbers of a configuration that are not finite."""
    if isinstance(of, float):
        return [] if math.isfinite(of) else [(name, of)]
    inner = of.items() if isinstance(of, Mapping) else enumerate(of) if isinstance(of, (list, tuple)) else ()
    return [odd for key, value in inner for odd in not_numbers(value, f"{name}.{key}" if name else str(key))]


def something_to_validate(trainer: pl.Trainer, checkpoint: object) -> None:
    """Refuse to validate weights that nothing was learned by, where the last ones were asked for.

    Raises:
        UserError: there is no last checkpoint.
    """
    if checkpoint == "last" and not last_checkpoints(trainer):
        folders = {
            str(keeper.dirpath) for keeper in trainer.checkpoint_callbacks if isinstance(keeper, ModelCheckpoint)
        }
        where = f" in {min(folders)}" if folders - {"None"} else ""
        raise UserError(
            f"there is no last checkpoint{where}; give one (--ckpt_path FILE), or null for what the model begins with, such "
            "as those of --model.init_args.initial"
        )


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def last_checkpoints(trainer: pl.Trainer) -> list[Path]:
    """The files `last.ckpt` of a trainer that are there."""
    files: list[Path] = []
    for keeper in trainer.checkpoint_callbacks:
        if isinstance(keeper, ModelCheckpoint) and keeper.dirpath:
            files += sorted(Path(str(keeper.dirpath)).glob(f"{keeper.CHECKPOINT_NAME_LAST}*{keeper.FILE_EXTENSION}"))
    return list(dict.fromkeys(files))


def _left(trainer: pl.Trainer) -> str:
    """Where a fit that was ended can go on from, as a clause."""
    if found := last_checkpoints(trainer):
        return f"the training was stopped and {found[0]} is as it was, which the same command goes on from"
    return "the training was stopped and no checkpoint had been written"


def sentence(error: BaseException) -> str | None:
    """What a user can change about an error under Lightning; None for the program's own faults."""
    if isinstance(error, UserError):
        return _of_loader(str(error))
    if isinstance(error, (OSError, KeyboardInterrupt, SystemExit)):
        return None
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return "there is not enough memory; take a smaller --data.batch_size or shorter --data.seconds, or a smaller network"
    if re.match(r"DataLoader worker \(pid.*\) (exited unexpectedly|is killed)", text):
        return (
            "a process that loads the data was killed, most likely because there was no memory left; take fewer --data.workers "
            "(0 for none), or a smaller --data.batch_size"
        )
    if isinstance(error, MisconfigurationException):
        return text
    if type(error).__name__ == "PathError":  # jsonargparse's, of the configuration that it leaves beside the results
        return f"{text}; give another file or folder"
    frames = list(_frames(error.__traceback__))
    read = [frame.f_locals["self"] for frame in frames if _module(frame) == "jsonargparse._paths"]
    if isinstance(error, UnicodeDecodeError) and read:
        return f"{read[-1]} is no text in UTF-8 (byte {error.start}); give a YAML file"
    for frame in frames:
        if _module(frame).endswith(".checkpoint_connector") and frame.f_code.co_name.startswith("restore"):
            checkpoint = str(frame.f_locals["self"].trainer.ckpt_path)
            return f"the checkpoint {checkpoint} does not fit this training: {_misfit(error, text)}; {instead_of(checkpoint)}"
    refused = isinstance(error, (ValueError, TypeError, ArithmeticError)) and frames
    if refused and _module(frames[-1]).startswith(("lightning.", "torch.utils.data.")):
        return f"the settings of the trainer or of the data were refused: {text}"
    return None


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    """Every frame that an error passed, the outermost first."""
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _of_loader(text: str) -> str:
    """A user's mistake without the account of the loader's process in which it was found."""
    return text.rpartition("UserError: ")[2].strip() if text.startswith("Caught UserError in ") else text


def _misfit(error: BaseException, text: str) -> str:
    """The first difference that torch tells of a network's weights, or what else there is to say."""
    found = re.search(
        r"size mismatch for (\S+): (copying .*? the shape in current model is torch\.Size\([^)]*\))", text
    )
    if found:
        return f"another network's weights ({found[1]}: {found[2]})"
    found = re.search(r'(Missing|Unexpected) key\(s\) in state_dict: "([^"]+)"', text)
    if found:
        return f"another network's weights ({'it lacks' if found[1] == 'Missing' else 'it also has'} {found[2]})"
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    return text if len(text) <= 300 else f"{text[:300]} ..."
