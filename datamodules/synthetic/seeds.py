"""Random numbers that belong to a name: the same name gives the same numbers, whatever was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*name: str | int) -> np.random.Generator:
    """A generator of its own for a name, as `stream("face", "train", 17)`."""
    digest = hashlib.blake2b("\0".join(map(str, name)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def wander(rng: np.random.Generator, times: np.ndarray, period: float) -> np.ndarray:
    """A smooth random curve that stays within [-1, 1].

    Args:
        rng: drawn from.
        times: seconds from 0, (N,).
        period: seconds between the values that the curve goes through.
    """
    knots = rng.uniform(-1, 1, int(times.max(initial=0) / period) + 2)
    whole = np.floor(times / period).astype(int)
    part = 0.5 - 0.5 * np.cos(np.pi * (times / period - whole))
    return knots[whole] * (1 - part) + knots[whole + 1] * part
