"""What is known of many cases: held packed, and written as JSON with a line for each."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from vol3dseg.files import atomic_path

Model = TypeVar("Model", bound=BaseModel)


class PackedRecords(Mapping[str, str], Generic[Model]):
    """Models by name, as JSON in one line; each takes a kilobyte or less until it is looked up.

    As objects they would take ten, so that memory would grow with a night's thousands of cases.
    """

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    def add(self, name: str, record: Model) -> None:
        """Pack a model, in place of another of its name."""
        self._packed[name] = zlib.compress(record.model_dump_json().encode(), 1)

    def in_order(self, names: Iterable[str]) -> "PackedRecords[Model]":
        """Return those of `names` that are there, in this order."""
        chosen = PackedRecords[Model]()
        chosen._packed = {name: self._packed[name] for name in names if name in self._packed}
        return chosen

    def __getitem__(self, name: str) -> str:
        return zlib.decompress(self._packed[name]).decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def write_by_line(
    final: Path, head: BaseModel, brackets: Literal["[]", "{}"], lines: Iterable[str]
) -> None:
    """Write a model as JSON, atomically, with a line for each of its cases.

    Parameters
    ----------
    final : Path
    head : BaseModel
        With all fields but `cases`, which is its last.
    brackets : "[]" or "{}"
        Whether cases are a list, or have their names before them.
    lines : iterable of str
        The JSON of each case.
    """
    begun = head.model_dump_json(indent=1, exclude={"cases"}).removesuffix("\n}")
    with atomic_path(final) as path, path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{begun},\n "cases": {brackets[0]}')
        for number, line in enumerate(lines):
            file.write(f"{',' if number else ''}\n  {line}")
        file.write(f"\n {brackets[1]}\n}}\n")
