"""Harm done to what is written in a grammar: fields of an ONNX file, values of JSON and YAML."""

import json
from functools import cache
from random import Random
from typing import Any

import onnx
import yaml
from google.protobuf.message import DecodeError, Message

from tests.fuzzing.mutations import FLOATS
from tests.fuzzing.sample import Content
from vol3dseg.model.manifest import METADATA_KEY

_INTEGERS = (0, 1, -1, 2, 3, 5, 7, 64, 255, 2**31 - 1, -(2**31))
_LONG = (2**31, 10**9, 2**62, 2**63 - 1, -(2**63))
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e-300, 1e30, 1e308, 2**31, 2**63, 10**30),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "1", "../x", "\0", "\n", "é", "x" * 300),
    *([], {}, [0], ["x", "x"], [1, 1, 1], {"x": {}}, [[[[[]]]]]),
)
_TEXTS = ("", "image", "probabilities", "x", "\n", "\0", "y" * 200, "ai.onnx", "com.evil")


def set_onnx_field(content: Content, rng: Random) -> None:
    """Change one field of an ONNX file, as a writer that is wrong might."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(content))
    except DecodeError:
        return
    message = rng.choice(_messages(model))
    fields = message.DESCRIPTOR.fields
    present = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.8 else fields)
    try:
        _change(message, field, model, rng)
        content[:] = model.SerializeToString()
    except (TypeError, ValueError):  # what protobuf itself does not let be written
        return


def set_manifest_value(content: Content, rng: Random) -> None:
    """Change one value of the manifest in an ONNX file."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(content))
    except DecodeError:
        return
    for prop in model.metadata_props:
        if prop.key == METADATA_KEY:
            value: Any = prop.value  # bytes where it is no text
            text = bytearray(value if isinstance(value, bytes) else value.encode())
            set_value(text, rng)
            prop.value = text.decode(errors="replace")
    content[:] = model.SerializeToString()


def set_value(content: Content, rng: Random) -> None:
    """Change, move or remove one value of a JSON or YAML file."""
    try:
        document = yaml.safe_load(bytes(content))  # JSON as well
    except (yaml.YAMLError, ValueError, RecursionError):
        return
    places = list(_places(document))
    if not places:
        return
    holder, key = rng.choice(places)
    what = rng.random()
    if what < 0.2:
        del holder[key]
    elif what < 0.35:
        donor, other = rng.choice(places)
        holder[key] = json.loads(json.dumps(donor[other]))
    elif what < 0.4 and isinstance(holder, dict):
        holder[rng.choice(("x", "", "é", "1"))] = holder[key]
    else:
        holder[key] = rng.choice(_VALUES)
    content[:] = json.dumps(document).encode()


def _places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _messages(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.message_type:
            inner = value if field.is_repeated else [value]
            found += [each for one in inner for each in _messages(one)]
    return found


def _change(message: Any, field: Any, model: onnx.ModelProto, rng: Random) -> None:
    name = field.name
    if field.is_repeated:
        values = getattr(message, name)
        what = rng.random()
        if values and what < 0.25:
            del values[rng.randrange(len(values))]
        elif values and what < 0.5:
            values.extend([rng.choice(values)] * rng.choice((1, 1, 2, 40)))
        elif values and not field.message_type:
            values[rng.randrange(len(values))] = _value(field, values[0], model, rng)
        elif field.message_type:
            values.add()
        else:
            values.append(_value(field, None, model, rng))
    elif field.message_type:
        getattr(message, name).SetInParent() if rng.random() < 0.5 else message.ClearField(name)
    else:
        setattr(message, name, _value(field, getattr(message, name), model, rng))


def _value(field: Any, now: Any, model: onnx.ModelProto, rng: Random) -> Any:
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.cpp_type == field.CPPTYPE_STRING:
        if field.name == "raw_data":
            return rng.choice((b"", bytes(len(now)), rng.randbytes(len(now)), now[:-1], now * 2))
        used = [name for node in model.graph.node for name in (*node.input, *node.output)]
        text = rng.choice((rng.choice(_operators()), rng.choice(used or _TEXTS), *_TEXTS))
        text = rng.choice(_operators()) if field.name == "op_type" else text
        return text.encode() if field.type == field.TYPE_BYTES else text
    return rng.choice((*_INTEGERS, *_LONG) if field.cpp_type == field.CPPTYPE_INT64 else _INTEGERS)


@cache
def _operators() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))
