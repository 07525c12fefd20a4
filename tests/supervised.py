"""What the tests of supervised systems share: small batches, and networks that do something."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from avdiff.nets.ravss import RAVSS
from avdiff.types import NOISE, SPEAKER, Observation

Network = TypeVar("Network", bound=nn.Module)
FRAMES = 8


def randomise(network: Network) -> Network:
    """Random weights that do something: some layers of a new network are near zero."""
    generator = torch.Generator().manual_seed(0)
    for value in network.parameters():
        if value.ndim > 1:
            fan = value[0].numel()
            value.data = torch.randn(value.shape, generator=generator) * fan**-0.5
    if isinstance(network, RAVSS):  # so that estimates resemble the mixture: those that do not are given no level
        network.synthesis.weight.data = network.analysis.weight.data.clone()
    return network.eval().requires_grad_(False)


def _crops(*shape: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def batch(talkers: int, clips: int = 2, frames: int = FRAMES) -> dict[str, Any]:
    """Of white sources, all of them seen."""
    sources = 0.1 * torch.randn(clips, talkers + 1, 640 * frames, generator=torch.Generator().manual_seed(1))
    return {
        "mixture": sources.sum(1),
        "sources": sources,
        "visual": _crops(clips, talkers, frames),
        "seen": torch.ones(clips, talkers, frames, dtype=torch.bool),
        "layout": (*[SPEAKER] * talkers, NOISE),
    }


def observation(visible: int, samples: int, *others: str) -> Observation:
    """Two white mixtures of so many visible talkers and others (noise, if none is named)."""
    mixture = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    layout = (*[SPEAKER] * visible, *(others or (NOISE,)))
    return Observation(("a", "b"), mixture, _crops(2, visible, -(-samples // 640)), None, layout)
