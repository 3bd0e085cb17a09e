"""Reading the tensors of an ONNX file with numpy alone.

An ONNX file is one protocol buffer message. On the wire a message is a row of fields, each a key
(``number << 3 | wire type``, a varint) and a value: a varint (type 0), 8 bytes (1), a length and
that many bytes (2), or 4 bytes (5). Only these fields are read: ModelProto 7 graph; GraphProto 1
node, 5 initializer; NodeProto 1 input, 3 name; TensorProto 1 dims, 2 data_type, 8 name, 9 raw_data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {1: "<f4", 7: "<i8"}
"""TensorProto.DataType: FLOAT and INT64, all that the graphs read here hold."""


@dataclass(frozen=True)
class Graph:
    """The constants of a graph, and which of them each node takes."""

    initializers: dict[str, NDArray[Any]]
    inputs: dict[str, list[str]]
    """Node name -> the names of its inputs, in order."""


def read(data: bytes) -> Graph:
    """Parse a whole ONNX file. The arrays share memory with `data`.

    Raises:
        ValueError: The bytes are no ONNX model with its tensors inside.

    """
    initializers: dict[str, NDArray[Any]] = {}
    inputs: dict[str, list[str]] = {}
    try:
        graph = next(value for number, value in _fields(memoryview(data)) if number == 7)
        for number, message in _fields(graph):
            if number == 1:
                node = list(_fields(message))
                name = "".join(_text(value) for n, value in node if n == 3)
                inputs[name] = [_text(value) for n, value in node if n == 1]
            elif number == 5:
                name, array = _tensor(message)
                initializers[name] = array
    except (IndexError, KeyError, StopIteration, TypeError) as error:
        raise ValueError(f"not an ONNX file that holds its own tensors: {error!r}") from error
    return Graph(initializers, inputs)


def _tensor(message: memoryview) -> tuple[str, NDArray[Any]]:
    shape: list[int] = []
    rest: dict[int, Any] = {}
    for number, value in _fields(message):
        if number != 1:
            rest[number] = value
        elif isinstance(value, int):
            shape.append(value)
        else:  # packed, as proto3 writers do
            shape += _varints(value)
    return _text(rest[8]), np.frombuffer(rest[9], _DTYPES[rest[2]]).reshape(shape)


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Every (field number, value) of a message: int for varints, memoryview for the others."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError(f"not an ONNX file: bad field at byte {at} of {len(data)}")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The varint at `at` (seven bits a byte, lowest first), and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _text(value: memoryview) -> str:
    return bytes(value).decode()
