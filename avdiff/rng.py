"""Noise that belongs to a clip, not to a batch.

Every draw is a pure function of (seed, clip key, source, step), so a clip's samples do not depend on the batch
it is in, on the number of processes, or on what was drawn before. Training noise likewise belongs to a step (`drawn_by`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


def stream_seed(*key: int | str) -> int:
    """The seed of a stream of its own for every key, such as (seed, epoch, index)."""
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits on every device


@contextmanager
def drawn_by(device: torch.device, *key: int | str) -> Iterator[None]:
    """Inside, torch's global generators draw what `key` says; outside, they go on as if nothing had been drawn.

    Args:
        device: whose generator is used besides the CPU's.
        key: as seed, epoch, batch and rank: other values, other draws.
    """
    seed = stream_seed(*key)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@dataclass(frozen=True)
class ClipNoise:
    """Standard normal noise keyed by (seed, clip, source, step).

    Attributes:
        seed: one integer for a whole experiment.
        key: clip ids, length B.
    """

    seed: int
    key: tuple[str, ...]

    def normal(self, shape: tuple[int, ...], step: int, *, like: Tensor) -> Tensor:
        """Draw N(0, I).

        Args:
            shape: (B, K, ...) with B = len(key); every (clip, source) has a stream of its own.
            step: the counter. Two calls with the same step return the same values: count up between draws.
            like: gives device and dtype.
        """
        batch, sources = shape[:2]
        if batch != len(self.key):
            raise ValueError(f"noise for {batch} clips was asked of a source keyed to {len(self.key)} clips")
        out = torch.empty(shape, device=like.device, dtype=torch.float32)
        generator = torch.Generator(device=like.device)
        for b, key in enumerate(self.key):
            for k in range(sources):
                generator.manual_seed(stream_seed(self.seed, key, k, step))
                out[b, k].normal_(generator=generator)
        return out.to(like.dtype)
