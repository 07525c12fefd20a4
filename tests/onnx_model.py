"""ONNX files of a few nodes, written without any package: `model(nodes, tensors, inputs, outputs)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int64): 7}


def _number(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def _whole(field: int, value: int) -> bytes:
    return _number(8 * field) + _number(value)


def _part(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _number(8 * field + 2) + _number(len(data)) + data


def node(operation: str, reads: Sequence[str], writes: Sequence[str], **whole_numbers: int | Sequence[int]) -> bytes:
    """A node with attributes that are whole numbers or lists of these."""
    out = b"".join(_part(1, name) for name in reads) + b"".join(_part(2, name) for name in writes)
    out += _part(4, operation)
    for name, value in whole_numbers.items():
        one = isinstance(value, int)
        numbers = _whole(3, value) if one else b"".join(_whole(8, number) for number in value)  # type: ignore[union-attr, arg-type]
        out += _part(5, _part(1, name) + numbers + _whole(20, 2 if one else 7))
    return out


def _tensor(name: str, array: np.ndarray) -> bytes:
    shape = b"".join(_whole(1, size) for size in array.shape)
    return shape + _whole(2, _TYPES[array.dtype]) + _part(8, name) + _part(9, array.tobytes())


def _value(name: str, kind: type[np.generic], shape: Sequence[int | str]) -> bytes:
    sizes = b"".join(_part(1, _whole(1, size) if isinstance(size, int) else _part(2, size)) for size in shape)
    return _part(1, name) + _part(2, _part(1, _whole(1, _TYPES[np.dtype(kind)]) + _part(2, sizes)))


def model(
    nodes: Sequence[bytes],
    tensors: Mapping[str, np.ndarray],
    inputs: Mapping[str, tuple[type[np.generic], Sequence[int | str]]],
    outputs: Mapping[str, tuple[type[np.generic], Sequence[int | str]]],
) -> bytes:
    """An ONNX file; values are told by their type and shape, where a text is a size that is free."""
    graph = b"".join(_part(1, each) for each in nodes) + _part(2, "graph")
    graph += b"".join(_part(5, _tensor(name, array)) for name, array in tensors.items())
    graph += b"".join(_part(11, _value(name, *of)) for name, of in inputs.items())
    graph += b"".join(_part(12, _value(name, *of)) for name, of in outputs.items())
    return _whole(1, 8) + _part(7, graph) + _part(8, _whole(2, 17))
