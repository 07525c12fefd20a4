"""Weights out of files, and whether they fit a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avdiff.errors import UserError
from avdiff.files import whole, yaml_fault


def first_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """The first name in alphabetical order that one of them lacks, or has in another shape; None if they agree."""
    names = sorted(expected.keys() | given.keys())
    return next((n for n in names if n not in expected or n not in given or expected[n].shape != given[n].shape), None)


class _Inert:
    """Stands in for any class that a checkpoint names besides tensors and plain containers (its training options).

    Makes the one type that torch's safe reader fills with items and with attributes alike.
    """

    def __new__(cls, *args: object) -> OrderedDict:  # type: ignore[misc]
        return OrderedDict()


def read_checkpoint(path: str | Path, source: str) -> dict[str, Any]:
    """Tensors and plain values of a torch checkpoint; nothing in the file is executed.

    Args:
        path: the file.
        source: where such a file is to be had, or what to do, for the error.

    Raises:
        UserError: no such file, or not a torch checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint at {path}; {source}")
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        inert: list[Any] = [(_Inert, name) for name in foreign]
        with torch.serialization.safe_globals(inert):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, LookupError, UnpicklingError) as error:
        raise UserError(
            f"{path} is no checkpoint that torch can read safely (damaged, or not a torch checkpoint at all); {source}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__} and no checkpoint; {source}")
    return checkpoint


def read_config(file: Path) -> dict[str, Any]:
    """The config.yaml beside weights: `preset`, and whatever else their kind has.

    Raises:
        UserError: it cannot be read, or names no preset.
    """
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = yaml_fault(error) if isinstance(error, yaml.YAMLError) else error
        raise UserError(f"{file} is no YAML file ({reason}); give a folder that avdiff export wrote") from error
    if not isinstance(told, dict) or not isinstance(told.get("preset"), str):
        raise UserError(f"{file} names no preset; give a folder that avdiff export wrote")
    return told


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: it is something else, or holds values that are not finite.
    """
    try:
        state = load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file} is damaged or no file of weights ({error}); export or fetch it again") from error
    if odd := not_finite(state):
        raise UserError(f"{file} holds values that are not finite ({_such_as(odd, state)}); export or fetch it again")
    return state


def write_weights(file: Path, state: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that all may read, whole or not at all.

    Raises:
        UserError: values are not finite. What was there before is as it was.
    """
    if odd := not_finite(state):
        raise UserError(
            f"{file} was not written: the weights are not finite ({_such_as(odd, state)}), or too large for half precision; the "
            "training went wrong, so go on from an earlier checkpoint with a lower learning rate"
        )
    with whole(file) as partial:
        try:
            save_file({name: value.contiguous() for name, value in state.items()}, partial)
        except SafetensorError as error:  # its way to tell of a full disk
            raise UserError(f"{file} cannot be written ({error}); free some space, or give another folder") from error
        partial.chmod(0o644)


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors with values that are not finite."""
    return [name for name, value in state.items() if not bool(torch.isfinite(value).all())]


def _such_as(odd: list[str], state: Mapping[str, Tensor]) -> str:
    return f"{len(odd)} of {len(state)} tensors, such as {odd[0]}"


def checkpoint_part(checkpoint: Path, part: str) -> dict[str, Tensor]:
    """The weights of an attribute of a LightningModule, out of its checkpoint (averaged ones where EMA was on).

    Raises:
        UserError: there is no such file, it is no such checkpoint, or the weights are not finite.
    """
    if not checkpoint.is_file():
        raise UserError(f"checkpoint {checkpoint} does not exist; train first, or give the path of a .ckpt file")
    state = read_checkpoint(checkpoint, "give one that avdiff fit wrote").get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{checkpoint} is no checkpoint of a training: it has no state_dict; give one that avdiff fit wrote"
        )
    if odd := not_finite(state):
        raise UserError(
            f"the weights of {checkpoint} are not finite ({_such_as(odd, state)}): the training went wrong; give an earlier one"
        )
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
