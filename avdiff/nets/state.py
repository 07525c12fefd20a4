"""Whether weights fit a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from avdiff.errors import UserError


def first_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """The first name in alphabetical order that one of them lacks, or has in another shape; None if they agree."""
    names = sorted(expected.keys() | given.keys())
    return next((n for n in names if n not in expected or n not in given or expected[n].shape != given[n].shape), None)


def checkpoint_part(checkpoint: Path, part: str) -> dict[str, Tensor]:
    """The weights of an attribute of a LightningModule, out of its checkpoint (averaged ones where EMA was on).

    Raises:
        UserError: there is no such file.
    """
    if not checkpoint.is_file():
        raise UserError(f"checkpoint {checkpoint} does not exist; train first, or give the path of a .ckpt file")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
