"""Checkpoints of a fit: whole on disk or not at all, read without running what is in them, never of weights gone NaN."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from glob import escape
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import fsspec  # type: ignore[import-untyped]
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from avdiff.errors import UserError
from avdiff.files import FULL

PREVIOUS = ".previous"  # no suffix of Lightning's: `ckpt_path: last` does not take such a file for the last
PARTIAL = ".tmp"
#: whose values are weights, or what the next weights are made from
_PARTS = {
    "state_dict": "the weights",
    "current_model_state": "the weights",
    "optimizer_states": "the optimizer's state",
}


class WholeCheckpoints(TorchCheckpointIO):
    """Reads and writes every checkpoint of the command line.

    A checkpoint is written to a file beside it, which takes its name in one step once the disk has it: a process that is killed,
    or a full disk, leaves the one before. That is kept too, as `NAME.ckpt.previous`, where there is room: what a training
    that went wrong can go back to. Weights that are not finite are refused, averaged ones and the optimizer's state included, so
    that they replace no others.

    Nothing in a checkpoint is executed, wherever it is: only tensors and plain values are read.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            UserError: it holds values that are not finite, or cannot be written. What was there before is as it was.
        """
        if (odd := not_finite(checkpoint)) is not None:
            raise UserError(
                f"step {checkpoint.get('global_step')} was not saved: {odd}, and a fit cannot go on from these; {kept(path)}. "
                "The learning rate may be too high (--model.init_args.learning_rate), or the precision too low for the network "
                "(--trainer.precision 32-true)"
            )
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        written = BytesIO()
        torch.save(checkpoint, written)
        file = Path(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(file, written)
            except OSError as error:
                if error.errno not in FULL or not _previous(file).exists():
                    raise
                _previous(file).unlink()  # nobody's only one
                _write(file, written)
        except OSError as error:
            reason = "there is no space left" if error.errno in FULL else error.strerror or str(error)
            raise UserError(
                f"{file} of step {checkpoint.get('global_step')} cannot be written: {reason}; {kept(file)}. Make room, or give a "
                "folder elsewhere as the dirpath of the ModelCheckpoint, and start the same command again"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of a fit, from a file or an address.

        Args:
            path: of it.
            map_location: of torch.load.
            weights_only: True whatever is given.

        Raises:
            UserError: there is none, it is damaged, no checkpoint of Lightning, holds other than tensors and plain values, or
                values that are not finite.
        """
        instead = instead_of(path)
        try:
            with fsspec.open(str(path), "rb") as file:
                checkpoint = torch.load(BytesIO(file.read()), map_location=map_location, weights_only=True)
        except FileNotFoundError as error:
            raise UserError(
                f"there is no checkpoint at {path}; give the path of one that avdiff fit wrote (--ckpt_path), or null for none"
            ) from error
        except UnpicklingError as error:
            raise UserError(
                f"the checkpoint {path} is damaged, or holds other than tensors and plain values, which are not read as they "
                f"could run code; {instead}"
            ) from error
        except (RuntimeError, ValueError, EOFError, LookupError, BadZipFile, AttributeError, TypeError) as error:
            raise UserError(f"the checkpoint {path} is damaged, or no checkpoint at all; {instead}") from error
        except OSError as error:
            raise UserError(
                f"the checkpoint {path} cannot be read: {error.strerror or error or type(error).__name__}; {instead}"
            ) from error
        except Exception as error:  # of whatever brings files from elsewhere
            if "://" not in str(path):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the checkpoint {path} cannot be fetched: {reason}; {instead}") from error
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
            raise UserError(f"{path} is no checkpoint of a training: it has no state_dict; {instead}")
        if missing := {"pytorch-lightning_version", "global_step", "epoch"} - checkpoint.keys():
            raise UserError(f"{path} is no checkpoint of a training by Lightning: it has no {min(missing)}; {instead}")
        if (odd := not_finite(checkpoint)) is not None:
            raise UserError(f"the checkpoint {path} is of no use: {odd}; {instead}")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and the one before of its name."""
        super().remove_checkpoint(path)
        with suppress(OSError):
            _previous(Path(path)).unlink()


def not_finite(checkpoint: Mapping[str, Any]) -> str | None:
    """What of a checkpoint is not finite, as a clause: the weights of the fit, averaged ones, or the optimizer's state."""
    for part, called in _PARTS.items():
        if part == "state_dict" and "current_model_state" in checkpoint:
            called = "the averaged weights"
        tensors = list(_tensors(checkpoint.get(part), ""))
        if odd := [name for name, tensor in tensors if not bool(torch.isfinite(tensor).all())]:
            return f"{called} are not finite ({len(odd)} of {len(tensors)} tensors, such as {odd[0]})"
    return None


def kept(path: str | Path) -> str:
    """What there is to go on from instead of a checkpoint that cannot be written, as a clause."""
    return f"{path} is as it was before" if Path(path).exists() else "there is none of before"


def instead_of(path: str | Path) -> str:
    """What to do where a checkpoint is of no use, as a clause."""
    if "://" not in str(path) and _previous(Path(path)).is_file():
        return f"go on from the one before it (--ckpt_path {_previous(Path(path))}), or begin anew (--ckpt_path null)"
    return "give another one (--ckpt_path), or begin anew (--ckpt_path null)"


def _tensors(of: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors of real or complex numbers anywhere below, with their names."""
    if isinstance(of, Tensor):
        if of.is_floating_point() or of.is_complex():
            yield name.lstrip("."), of
    elif isinstance(of, Mapping):
        for key, value in of.items():
            yield from _tensors(value, f"{name}.{key}")
    elif isinstance(of, (list, tuple)):
        for place, value in enumerate(of):
            yield from _tensors(value, f"{name}.{place}")


def _previous(file: Path) -> Path:
    file = file.resolve()
    return file.with_name(file.name + PREVIOUS)


def _write(file: Path, written: BytesIO) -> None:
    """Put bytes in the place of a file in one step, once the disk has them."""
    file = file.resolve()  # a link stays one
    partial = file.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")
    for left in file.parent.glob(f"{escape(file.name)}.*{PARTIAL}"):  # by a process that was killed
        left.unlink(missing_ok=True)
    try:
        with partial.open("wb") as out:
            out.write(written.getbuffer())
            out.flush()
            os.fsync(out.fileno())
        if file.is_file():
            previous = _previous(file)
            with suppress(OSError):  # a file system without links: then there is only the new one
                previous.unlink(missing_ok=True)
                os.link(file, previous)
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # that the new name outlives a power cut: not every file system can say so
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
