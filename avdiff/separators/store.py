"""Trained supervised systems on disk: a folder with config.yaml (which preset), model.safetensors (half precision) and a card."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
import yaml

from avdiff.errors import UserError
from avdiff.nets.flowavse import FlowAVSE
from avdiff.nets.ravss import RAVSS
from avdiff.nets.state import checkpoint_part, first_difference, read_config, read_weights
from avdiff.nets.visual_mask import VisualMask
from avdiff.priors.store import save_prior
from avdiff.separators.presets import PRESETS, System

Kind = TypeVar("Kind", FlowAVSE, RAVSS, VisualMask)


def shipped() -> tuple[str, ...]:
    """Names of the systems that come with the package."""
    folder = Path(str(resources.files("avdiff") / "weights"))
    configs = sorted(folder.glob("*/config.yaml"))
    return tuple(file.parent.name for file in configs if yaml.safe_load(file.read_text()).get("preset") in PRESETS)


def load_system(source: str) -> System:
    """A trained system in eval mode, float32, without gradients.

    Args:
        source: the name of a shipped one, or a folder with config.yaml and model.safetensors.

    Raises:
        UserError: the folder or one of its files is missing, or the weights belong to another preset.
    """
    inside = Path(str(resources.files("avdiff") / "weights" / source))
    folder = inside if source in shipped() else Path(source)
    config, weights = folder / "config.yaml", folder / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            names = ", ".join(shipped())
            raise UserError(
                f"system {source!r}: {file} does not exist; give a folder that `avdiff export` wrote"
                + (f", or the name of a shipped one: {names}" if names else "")
            )
    preset = read_config(config)["preset"]
    if preset not in PRESETS:
        raise UserError(
            f"{config} names the preset {preset!r}, which is no system; the systems are {', '.join(PRESETS)}"
        )
    system = PRESETS[preset]()
    own = system.state_dict()  # counters stay whole numbers
    state = {n: t.to(own[n].dtype) if n in own else t for n, t in read_weights(weights).items()}
    _check(system, state, f"{weights} does not fit preset {preset}")
    system.load_state_dict(state)
    return system.eval().requires_grad_(False)


def load_flowavse(source: str) -> FlowAVSE:
    """See `load_system`."""
    return _of(source, FlowAVSE)


def load_ravss(source: str) -> RAVSS:
    """See `load_system`."""
    return _of(source, RAVSS)


def load_visual_mask(source: str) -> VisualMask:
    """See `load_system`."""
    return _of(source, VisualMask)


def _of(source: str, kind: type[Kind]) -> Kind:
    system = load_system(source)
    if not isinstance(system, kind):
        raise UserError(f"{source!r} holds {type(system).__name__}, but {kind.__name__} was expected; give its folder")
    return system


def export_system(checkpoint: Path, preset: str, folder: Path) -> None:
    """Turn a Lightning checkpoint of a supervised training (averaged weights where EMA was on) into a folder.

    Raises:
        UserError: the checkpoint is missing, or does not fit the preset.
    """
    own = checkpoint_part(checkpoint, "network")
    _check(PRESETS[preset](), own, f"{checkpoint} does not fit preset {preset}")
    save_prior(folder, preset, own)


def _check(system: System, state: dict[str, torch.Tensor], problem: str) -> None:
    if odd := first_difference(system.state_dict(), state):
        raise UserError(f"{problem}: first difference at {odd!r}")
