"""Read an ONNX file that may hold anything, also what takes a hundred times its bytes of memory."""

import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from vol3dseg.errors import ModelError
from vol3dseg.written import usable_path

MOST_BYTES = 2**31  # bytes: what ONNX can hold in one file
# Bytes beside the numbers of weights. Two of them can make an object of two hundred.
_MOST_BESIDE = 2**23
_MOST_FIELDS = 100_000  # of one message, that are looked at
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # numbers of fields: of a model, a graph, a tensor
_NUMBER, _SIZED, _FIXED = 0, 2, {1: 8, 5: 4}  # how a field is stored; the last with their bytes
_EXPECTED = "an ONNX file of vol3dseg export-onnx"


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that may be ONNX, of which nothing is parsed yet.

    ModelError: it is missing, cannot be read, or is larger than ONNX can be.
    """
    usable_path(path, ModelError)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            found = "a folder" if path.is_dir() else "no file of a size"
        elif facts.st_size > MOST_BYTES:
            found = f"has {facts.st_size} bytes, more than ONNX can hold"
        else:
            return path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        found = "no such file" if missing else f"cannot be read ({error.strerror})"
    raise ModelError(found, where=path, expected=_EXPECTED)


def parse_onnx(content: bytes, path: Path) -> onnx.ModelProto:
    """Return what the bytes of an ONNX file say; `path` is named in a ModelError."""
    model = onnx.ModelProto()
    beside = _beside_weights(content)
    if beside > _MOST_BESIDE:
        raise ModelError(
            f"not an ONNX file, or one with {beside} bytes beside its weights",
            where=path,
            expected=f"{_EXPECTED}, with {_MOST_BESIDE} at most",
            remedy="copy or export it again",
        )
    try:
        model.ParseFromString(content)
    except DecodeError:
        model.Clear()  # of what came before the damage
    if not model.graph.node:
        raise ModelError(
            "not an ONNX file with a graph",
            where=path,
            expected=_EXPECTED,
            remedy="copy or export it again",
        )
    return model


def _beside_weights(content: bytes) -> int:
    """Return how many bytes of an ONNX file are not the raw numbers of weights."""
    graphs = _fields(memoryview(content), _GRAPH)
    tensors = (tensor for graph in graphs for tensor in _fields(graph, _INITIALIZER))
    return len(content) - sum(len(raw) for tensor in tensors for raw in _fields(tensor, _RAW_DATA))


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Give the content of each sized field with this number, as far as a message makes sense."""
    place = 0
    for _ in range(_MOST_FIELDS):
        if place >= len(message):
            return
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _NUMBER:
            _, place = _varint(message, place)
        elif kind == _SIZED:
            size, place = _varint(message, place)
            if number == wanted:
                yield message[place : place + size]
            place += size
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            return


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = 0
    for shift, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, place + shift + 1
    return value, len(message)
