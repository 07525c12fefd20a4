"""What validation is told of a batch beside its clips, so that its figures are of the clips alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def place_of(batch: Mapping[str, Any], batch_idx: int) -> int:
    """The place of a batch among those of all processes: what its noise is drawn by."""
    return int(batch.get("place", batch_idx))


def weight_of(batch: Mapping[str, Any], clips: int) -> int:
    """The clips of a batch that count: none where another process has them too."""
    return int(batch["weight"]) * clips // len(next(iter(batch.values()))) if "weight" in batch else clips
