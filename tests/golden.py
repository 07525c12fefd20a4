"""Outputs of public networks on weights given by a formula (tests/data): nobody's weights, the same function.

u_i(c) = 2 frac(43758.5453 sin(12.9898 i + c)) - 1 for i = 1, 2, ...; a tensor k takes c = (crc32(k) mod 1000) / 100.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


BLOCK = 1 << 15  # values at a time, so that they stay in the cache


def numbers(c: float, count: int) -> Iterator[np.ndarray]:
    """u_1(c) ... u_count(c) in float64, block by block."""
    for first in range(1, count + 1, BLOCK):
        wave = np.arange(first, min(first + BLOCK, count + 1), dtype=np.float64)
        wave *= 12.9898
        wave += c
        np.sin(wave, out=wave)
        wave *= 43758.5453
        wave -= np.floor(wave)
        wave *= 2
        wave -= 1
        yield wave


def golden_tensor(c: float, shape: tuple[int, ...], rule: Callable[[np.ndarray], np.ndarray] = lambda v: v) -> Tensor:
    out = np.empty(math.prod(shape), dtype=np.float32)
    for block, values in enumerate(numbers(c, out.size)):
        out[block * BLOCK : block * BLOCK + len(values)] = rule(values)
    return torch.from_numpy(out.reshape(shape))


def golden_input(shape: tuple[int, ...]) -> Tensor:
    return golden_tensor(0.5, shape)


def golden_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("running_var"):
        rule = lambda v: 1 + 0.5 * v**2  # noqa: E731
    elif len(shape) < 2 and name.endswith("weight"):
        rule = lambda v: 1 + 0.1 * v  # noqa: E731
    elif name.endswith(".W"):
        rule = lambda v: 4 * v  # noqa: E731
    elif len(shape) < 2:
        rule = lambda v: 0.1 * v  # noqa: E731
    else:
        bound = math.sqrt(3 / math.prod(shape[1:]))
        rule = lambda v: v * bound  # noqa: E731
    return golden_tensor((zlib.crc32(name.encode()) % 1000) / 100, shape, rule)


def golden_checkpoint(table: str) -> dict[str, Tensor]:
    """The tensors listed in a table of tests/data, in the published order."""

    def tensor(line: str) -> tuple[str, Tensor]:
        name, sizes, kind = line.split("\t")
        shape = tuple(int(size) for size in sizes.split(",") if size)
        return name, golden_weight(name, shape) if kind == "float32" else torch.zeros(shape, dtype=torch.int64)

    with ThreadPoolExecutor(2) as pool:  # numpy lets go of the lock
        return dict(pool.map(tensor, (DATA / table).read_text().splitlines()))


def golden_output(file: str) -> dict[str, Any]:
    return json.loads((DATA / file).read_text())


def assert_golden(output: Tensor, expected: dict[str, Any], rounding: float = 1e-4) -> None:
    """Mean and deviation to 1e-4, single values to `rounding`."""
    flat = output.detach().double().flatten()
    assert flat.numel() == expected["n"]
    np.testing.assert_allclose(flat.mean(), expected["mean"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(flat.std(unbiased=False), expected["std"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(flat[:8], expected["first8"], atol=rounding, rtol=0)
    np.testing.assert_allclose(flat[:: flat.numel() // 8], expected["every"], atol=rounding, rtol=0)
