"""Whether weights fit a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avdiff.errors import UserError


def first_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """The first name in alphabetical order that one of them lacks, or has in another shape; None if they agree."""
    names = sorted(expected.keys() | given.keys())
    return next((n for n in names if n not in expected or n not in given or expected[n].shape != given[n].shape), None)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What torch saved in a file, on the processor.

    Raises:
        UserError: torch cannot read it, or there is no dict in it.
    """
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{file} is no checkpoint that torch can read ({type(error).__name__}); give another"
        ) from error
    if not isinstance(saved, dict):
        raise UserError(f"{file} holds a {type(saved).__name__} and no checkpoint; give another")
    return saved


def read_preset(folder: Path) -> tuple[str, dict[str, Tensor]]:
    """The preset of weights that `avdiff export` wrote, and they: config.yaml and model.safetensors.

    Raises:
        UserError: one of the files cannot be read, or is something else.
    """
    config, weights = folder / "config.yaml", folder / "model.safetensors"
    try:
        told = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{config} is no YAML file ({type(error).__name__}); give a folder that avdiff export wrote"
        ) from error
    if not isinstance(told, dict) or not isinstance(told.get("preset"), str):
        raise UserError(f"{config} names no preset; give a folder that avdiff export wrote")
    try:
        return told["preset"], load_file(weights)
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged or no file of weights ({error}); export or fetch it again") from error


def checkpoint_part(checkpoint: Path, part: str) -> dict[str, Tensor]:
    """The weights of an attribute of a LightningModule, out of its checkpoint (averaged ones where EMA was on).

    Raises:
        UserError: there is no such file, or it is no such checkpoint.
    """
    if not checkpoint.is_file():
        raise UserError(f"checkpoint {checkpoint} does not exist; train first, or give the path of a .ckpt file")
    state = read_checkpoint(checkpoint).get("state_dict")
    if state is None:
        raise UserError(
            f"{checkpoint} is no checkpoint of a training: it has no state_dict; give one that avdiff fit wrote"
        )
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
