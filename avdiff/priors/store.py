"""Trained priors on disk: a folder with config.yaml (which preset), model.safetensors (half precision) and a card."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
import yaml

from avdiff.errors import UserError
from avdiff.nets.state import checkpoint_part, first_difference, read_config, read_weights, write_weights
from avdiff.priors.edm import EDMPrior
from avdiff.priors.presets import PRESETS

SHIPPED = ("speech", "noise")


def _folder(source: str) -> Path:
    if source in SHIPPED:
        return Path(str(resources.files("avdiff") / "weights" / source))
    return Path(source)


def _size(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else " x ".join(map(str, tensor.shape)) or "a number"


def load_prior(source: str) -> EDMPrior:
    """A trained prior in eval mode, float32, without gradients.

    Args:
        source: "speech" or "noise" for the shipped ones, a folder with config.yaml and model.safetensors, or a file: a
            published checkpoint of BUDDy (speech without video).

    Raises:
        UserError: the folder or one of its files is missing, or the weights belong to another preset.
    """
    if Path(source).is_file():
        return EDMPrior.from_buddy(source).eval().requires_grad_(False)
    folder = _folder(source)
    config, weights = folder / "config.yaml", folder / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise UserError(
                f"prior {source!r}: {file} does not exist; give {' or '.join(SHIPPED)} for a shipped prior, "
                "a folder that `avdiff export` wrote, or the file of a BUDDy checkpoint"
            )
    preset = read_config(config)["preset"]
    if preset not in PRESETS:
        raise UserError(f"{config} names the unknown preset {preset!r}; the presets are {', '.join(PRESETS)}")
    prior = PRESETS[preset]()
    state = {name: tensor.float() for name, tensor in read_weights(weights).items()}
    own = prior.state_dict()
    if odd := first_difference(own, state):
        raise UserError(
            f"{weights} does not fit preset {preset}: first difference at {odd!r}, which is "
            f"{_size(state.get(odd))} in the file and {_size(own.get(odd))} in the preset; give weights of this preset"
        )
    prior.load_state_dict(state)
    return prior.eval().requires_grad_(False)


def save_prior(folder: Path, preset: str, state: dict[str, torch.Tensor]) -> None:
    """Write config.yaml and a half-precision model.safetensors; a card beside them is left alone.

    Args:
        state: a prior's state_dict.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Vectors stay in single precision: they are few, and rounding the Fourier frequencies would turn phases.
    half = {n: t.detach().to(torch.float16 if t.ndim > 1 else torch.float32).contiguous() for n, t in state.items()}
    write_weights(folder / "model.safetensors", half)
    (folder / "config.yaml").write_text(yaml.safe_dump({"preset": preset}))


def export_checkpoint(checkpoint: Path, preset: str, folder: Path) -> None:
    """Turn a Lightning checkpoint of `ScoreModel` (averaged weights where EMA was on) into a prior's folder.

    Raises:
        UserError: the checkpoint is missing, or does not fit the preset.
    """
    prior = checkpoint_part(checkpoint, "prior")
    if odd := first_difference(PRESETS[preset]().state_dict(), prior):
        raise UserError(f"{checkpoint} does not fit preset {preset}: first difference at {odd!r}")
    save_prior(folder, preset, prior)
