"""The pickle inside a checkpoint, read by a machine of our own that can do nothing but hold values.

A pickle is a program. Python's own reader calls whatever the program names; this one knows the
instructions that torch writes and the names of `torch_names`, and no others. So nothing can be run,
and nothing is made that is larger than what the file holds of it.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vol3dseg.errors import FileFormatError
from vol3dseg.export.torch_files.torch_names import (
    LONGEST_NAME,
    NAMES,
    Array,
    Dtype,
    Name,
    Storage,
    damaged,
    expect,
)
from vol3dseg.model.operators import quoted

_MOST_STEPS = 2**24  # twice those of 4000 epochs with scores of 117 classes
_MOST_MADE = 2**22  # containers
_LARGEST_KEY = 2**20  # of a mapping, if it is a number: no two of these are hashed alike


def read_pickle(content: bytes) -> Any:
    """Return what a pickle of torch holds: plain values, and those of `torch_names`.

    FileFormatError: it is damaged, or asks for what is not known here.
    """
    try:
        return _Machine(content).run()
    except (IndexError, KeyError, ValueError, struct.error) as error:
        if isinstance(error, FileFormatError):
            raise
        raise damaged("it breaks off, or refers to what is not there") from error


@dataclass(slots=True)
class _Machine:
    """A stack, the stacks below it that marks have put aside, and what may be fetched again."""

    content: bytes
    place: int = 0
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    made: int = 0

    def run(self) -> Any:
        if self.content[:2] != b"\x80\2":
            raise damaged("it is not of protocol 2")
        self.place = 2
        for _ in range(_MOST_STEPS):
            code = self.content[self.place]
            self.place += 1
            if code == _STOP:
                (value,) = self.stack
                return value
            if code not in _STEPS:
                raise damaged(f"unknown instruction {code:#04x}")
            _STEPS[code](self)
        raise FileFormatError("its pickle takes too long", expected=f"at most {_MOST_STEPS} steps")

    def take(self, size: int) -> bytes:
        start, self.place = self.place, self.place + size
        if self.place > len(self.content):
            raise damaged("it breaks off")
        return self.content[start : self.place]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        stop = self.content.index(b"\n", self.place, self.place + LONGEST_NAME)
        text = self.take(stop - self.place).decode(errors="backslashreplace")
        self.place += 1
        return text

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def count(self) -> None:
        self.made += 1
        if self.made > _MOST_MADE:
            raise FileFormatError(
                "its pickle holds too much", expected=f"at most {_MOST_MADE} lists and the like"
            )

    def hold(self, container: Any) -> None:
        """Push a container, of which there may not be too many."""
        self.count()
        self.stack.append(container)

    def mark(self) -> None:
        self.count()
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Take all that was pushed since the last mark."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def popped(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise damaged("it takes more than it has")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def named(self) -> None:
        name = f"{self.line()}.{self.line()}"
        if name not in NAMES:
            raise FileFormatError(
                f"its pickle asks for {quoted(name)}, which is not run",
                expected="numbers, text and tensors",
                remedy="have its author save the state_dict of the network alone",
            )
        self.push(NAMES[name])

    def call(self) -> None:
        name, said = self.popped(2)
        make, values = expect(Name, name).make, expect(tuple, said)
        try:
            made = make(*values) if make else None
        except TypeError as error:  # of another number of arguments
            raise damaged("a name is called in a way that is not known") from error
        if made is None:
            raise damaged("it calls what cannot be called")
        self.hold(made)

    def build(self) -> None:
        """Tell what lies on the stack more about itself."""
        said, value = self.stack.pop(), self.stack[-1]
        if isinstance(value, Dtype) and isinstance(said, tuple) and said[1] in ("<", ">", "|"):
            value.order = said[1]
        elif isinstance(value, Array) and isinstance(said, tuple):
            value.said = said
        elif not (isinstance(value, dict) and isinstance(said, dict)):  # of versions of modules
            raise damaged(f"{type(value).__name__} is told more than is known of it")

    def stored(self) -> None:
        said = expect(tuple, self.stack.pop())
        if len(said) != 5 or said[0] != "storage":
            raise damaged("it keeps something else than numbers beside itself")
        dtype = expect(Name, said[1]).dtype
        if not dtype:
            raise damaged("numbers are of no known type")
        self.hold(Storage(dtype, expect(str, said[2]), expect(int, said[4])))

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def get(self, form: str) -> None:
        self.push(self.memo[self.number(form)])

    def text(self) -> None:
        self.push(self.take(self.number("<I")).decode(errors="surrogatepass"))

    def whole(self) -> None:
        self.push(int.from_bytes(self.take(self.number("B")), "little", signed=True))

    def append(self, values: list[Any]) -> None:
        expect(list, self.stack[-1]).extend(values)

    def set(self, values: list[Any]) -> None:
        target = expect(dict, self.stack[-1])
        keys = values[::2]
        for key in keys:
            if not isinstance(key, str | int) or (isinstance(key, int) and abs(key) > _LARGEST_KEY):
                raise damaged("a mapping has keys that are neither text nor small numbers")
        target.update(zip(keys, values[1::2], strict=True))


_STOP = ord(".")
_STEPS: Mapping[int, Callable[[_Machine], None]] = {
    ord(code): step
    for code, step in {
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("B")),
        "M": lambda m: m.push(m.number("<H")),
        "\x8a": _Machine.whole,
        "G": lambda m: m.push(m.number(">d")),
        "X": _Machine.text,
        "(": _Machine.mark,
        ")": lambda m: m.push(()),
        "t": lambda m: m.hold(tuple(m.marked())),
        "\x85": lambda m: m.hold(m.popped(1)),
        "\x86": lambda m: m.hold(m.popped(2)),
        "\x87": lambda m: m.hold(m.popped(3)),
        "]": lambda m: m.hold([]),
        "}": lambda m: m.hold({}),
        "a": lambda m: m.append([m.stack.pop()]),
        "e": lambda m: m.append(m.marked()),
        "s": lambda m: m.set(list(m.popped(2))),
        "u": lambda m: m.set(m.marked()),
        "c": _Machine.named,
        "R": _Machine.call,
        "b": _Machine.build,
        "Q": _Machine.stored,
        "q": lambda m: m.put("B"),
        "r": lambda m: m.put("<I"),
        "h": lambda m: m.get("B"),
        "j": lambda m: m.get("<I"),
    }.items()
}
