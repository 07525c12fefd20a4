"""Orders that look random and are the same everywhere: no random number generator, whose versions differ, is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def rank(*name: str | int) -> int:
    """Where a name comes in such an order: 64 even bits of its BLAKE2b digest."""
    digest = hashlib.blake2b("\0".join(map(str, name)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def shuffled(names: Iterable[str], *order: str | int) -> list[str]:
    """The names in an order of their own, whatever order they come in.

    Args:
        names: without repeats.
        order: its name: another one gives another order.
    """
    return sorted(names, key=lambda name: (rank(*order, name), name))


def fraction(*name: str | int) -> float:
    """An even draw from [0, 1) that belongs to a name."""
    return (rank(*name) >> 11) / (1 << 53)
