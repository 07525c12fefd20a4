"""Small edits of a stored ONNX graph: other outputs, an input in place of a computed tensor, convolutions in float32.

An ONNX file is a protocol-buffer message. Only its outer levels are taken apart here (model, graph, and of the nodes and tensors
what an edit asks for); what is not edited stays as it is, byte for byte. No package is needed for it.
Format: `onnx.proto` of ONNX.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

_GRAPH = 7  # of ModelProto
_NODE, _INITIALISER, _INPUT, _OUTPUT = 1, 5, 11, 12  # of GraphProto
_READS, _WRITES, _OPERATION, _ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
_NAME, _TYPE = 1, 2  # of ValueInfoProto
_DIMENSIONS, _KIND, _FLOATS, _INTEGERS, _TENSOR_NAME, _RAW = 1, 2, 4, 5, 8, 9  # of TensorProto
_FLOAT, _UINT8, _INT8 = 1, 2, 3  # of TensorProto.DataType
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types

Field = tuple[int, int, bytes]  # number, wire type, content


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The model, giving these tensors and nothing else, without what they do not depend on.

    Args:
        model: an ONNX file.
        names: of tensors that its nodes compute.
    """

    def edit(graph: list[Field]) -> list[Field]:
        old = {_texts(field[2], _NAME)[0]: field for field in graph if field[0] == _OUTPUT}
        new = [old.get(name, (_OUTPUT, _BYTES, _field(_NAME, name.encode()))) for name in names]
        return _needed([field for field in graph if field[0] != _OUTPUT], set(names)) + new

    return _edited(model, edit)


def with_given(model: bytes, tensor: str, name: str) -> bytes:
    """The model, its nodes reading a new input in place of a tensor.

    Args:
        model: an ONNX file.
        tensor: float32 (1, n), computed by a node so far.
        name: of the input that takes its place.

    Raises:
        ValueError: no node reads the tensor.
    """
    read = (_READS, _BYTES, tensor.encode())
    readers = 0

    def node(content: bytes) -> bytes:
        nonlocal readers
        if tensor.encode() not in content:
            return content
        fields = list(_fields(content))
        readers += fields.count(read)
        return b"".join(_packed((_READS, _BYTES, name.encode()) if field == read else field) for field in fields)

    def edit(graph: list[Field]) -> list[Field]:
        edited = [(number, wire, node(content) if number == _NODE else content) for number, wire, content in graph]
        dimensions = b"".join(_field(1, one) for one in (_field(1, 1), _field(2, b"tokens")))
        kind = _field(1, _field(1, _FLOAT) + _field(2, dimensions))
        return [*edited, (_INPUT, _BYTES, _field(_NAME, name.encode()) + _field(_TYPE, kind))]

    out = _edited(model, edit)
    if not readers:
        raise ValueError(f"no node of the model reads {tensor!r}; is it another version of the model?")
    return out


def with_float_convolutions(model: bytes) -> bytes:
    """The model, its dynamically quantised convolutions computed in float32 from the same weights.

    onnxruntime quantises the input of each anew, which adds noise, and takes longer for it.

    Args:
        model: an ONNX file, quantised by onnxruntime's `quantize_dynamic`: a convolution is DynamicQuantizeLinear, ConvInteger,
            the addition of a quantised bias where it has one, Cast, and Mul by the scales.

    Raises:
        ValueError: a convolution is something else.
    """

    def edit(graph: list[Field]) -> list[Field]:
        nodes = [content for number, _, content in graph if number == _NODE]
        writers = {name: node for node in nodes for name in _texts(node, _WRITES)}
        readers = defaultdict(list)
        for node in nodes:
            for name in _texts(node, _READS):
                readers[name].append(node)
        tensors = {_texts(content, _TENSOR_NAME)[0]: content for number, _, content in graph if number == _INITIALISER}
        convolutions: dict[bytes, bytes] = {}  # what stands in place of the last node of each
        weights: list[Field] = []
        for node in nodes:
            if _operation(node) != "ConvInteger":
                continue
            quantised, kernel, _, zero = _texts(node, _READS)
            bias = []
            (after,) = readers[_texts(node, _WRITES)[0]]
            if _operation(after) == "Add":
                bias = [_origin(_texts(after, _READS)[1], writers)]
                (after,) = readers[_texts(after, _WRITES)[0]]
            (last,) = readers[_texts(after, _WRITES)[0]]
            source = writers[quantised]
            if [_operation(node) for node in (source, after, last)] != ["DynamicQuantizeLinear", "Cast", "Mul"]:
                raise ValueError(
                    f"the convolution of {kernel!r} is not as quantize_dynamic leaves it; is it another model?"
                )
            (scales,) = [name for name in _texts(last, _READS) if name not in _texts(after, _WRITES)]
            (scale,) = [name for name in _texts(writers[scales], _READS) if name not in _texts(source, _WRITES)]
            values = (_array(tensors[kernel]) - _array(tensors[zero])) * _array(tensors[scale])
            weights.append(_tensor(f"{kernel}_float", values))
            reads = [_texts(source, _READS)[0], f"{kernel}_float", *bias]
            convolutions[last] = b"".join(
                [
                    *(_field(_READS, name.encode()) for name in reads),
                    _field(_WRITES, _texts(last, _WRITES)[0].encode()),
                    _field(_OPERATION, b"Conv"),
                    *(_packed(field) for field in _fields(node) if field[0] == _ATTRIBUTE),
                ]
            )
        edited = [
            (number, wire, convolutions.get(content, content) if number == _NODE else content)
            for number, wire, content in graph
        ]
        outputs = {_texts(content, _NAME)[0] for number, _, content in graph if number == _OUTPUT}
        return _needed([*edited, *weights], outputs)

    return _edited(model, edit)


def _origin(name: str, writers: dict[str, bytes]) -> str:
    """The tensor that nodes in a row make another of."""
    while name in writers:
        name = _texts(writers[name], _READS)[0]
    return name


def _needed(graph: list[Field], wanted: set[str]) -> list[Field]:
    """Without the nodes and stored tensors that the wanted ones do not depend on. Nodes are stored in the order they run in."""
    for number, _, content in reversed(graph):
        if number == _NODE and not wanted.isdisjoint(_texts(content, _WRITES)):
            wanted = wanted.union(_texts(content, _READS))
    names = {_NODE: _WRITES, _INITIALISER: _TENSOR_NAME}
    return [field for field in graph if field[0] not in names or wanted & set(_texts(field[2], names[field[0]]))]


def _array(tensor: bytes) -> np.ndarray:
    """A stored tensor of uint8, int8 or float32, as float32."""
    fields: dict[int, list[Field]] = defaultdict(list)
    for field in _fields(tensor):
        fields[field[0]].append(field)
    shape = [size for field in fields[_DIMENSIONS] for size in _numbers(field)]
    kind = _numbers(fields[_KIND][0])[0]
    if fields[_RAW]:
        types = {_FLOAT: "<f4", _UINT8: "u1", _INT8: "i1"}
        return np.frombuffer(fields[_RAW][0][2], types[kind]).astype(np.float32).reshape(shape)
    if kind == _FLOAT:
        return np.frombuffer(b"".join(content for _, _, content in fields[_FLOATS]), "<f4").reshape(shape)
    return np.array([n for field in fields[_INTEGERS] for n in _numbers(field)], np.float32).reshape(shape)


def _tensor(name: str, values: np.ndarray) -> Field:
    shape = b"".join(_field(_DIMENSIONS, size) for size in values.shape)
    raw = values.astype("<f4").tobytes()
    return _INITIALISER, _BYTES, shape + _field(_KIND, _FLOAT) + _field(_TENSOR_NAME, name.encode()) + _field(_RAW, raw)


def _operation(node: bytes) -> str:
    return _texts(node, _OPERATION)[0]


def _edited(model: bytes, edit: Callable[[list[Field]], list[Field]]) -> bytes:
    parts = []
    for number, wire, content in _fields(model):
        if number == _GRAPH:
            content = b"".join(map(_packed, edit(list(_fields(content)))))
        parts.append(_packed((number, wire, content)))
    return b"".join(parts)


def _texts(message: bytes, number: int) -> list[str]:
    return [content.decode() for field, _, content in _fields(message) if field == number]


def _numbers(field: Field) -> list[int]:
    """Numbers of a field: one, or packed."""
    values, at = [], 0
    while at < len(field[2]):
        value, at = _varint(field[2], at)
        values.append(value)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _coded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _fields(message: bytes) -> Iterator[Field]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire, start = tag & 7, at
        if wire == _BYTES:
            length, start = _varint(message, at)
            at = start + length
        elif wire == _VARINT:
            _, at = _varint(message, at)
        elif wire in (_FOUR_BYTES, _EIGHT_BYTES):
            at += 4 if wire == _FOUR_BYTES else 8
        else:
            raise ValueError(f"a field of wire type {wire} was found; is the file an ONNX model?")
        yield tag >> 3, wire, message[start:at]


def _packed(field: Field) -> bytes:
    number, wire, content = field
    return _coded(number << 3 | wire) + (_coded(len(content)) if wire == _BYTES else b"") + content


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _packed((number, _VARINT, _coded(value)))
    return _packed((number, _BYTES, value))
