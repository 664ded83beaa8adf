"""Prepared cases, opened: their index may come from anywhere, so their files are examined first."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.index import CaseEntry, Index, verify
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.preprocessing.store_structure import READY, Task

# -P: nothing in the folder that a user happens to stand in may be taken for a module.
_CHILD = (sys.executable, "-P", "-m", "vol3dseg.preprocessing.store_structure")
_SECONDS = 10.0  # that one file may take; a whole case takes some milliseconds
_START_SECONDS = 120.0  # that the child may take to start


def open_cases(
    folder: Path, index: Index, case_ids: Iterable[str], modalities: Sequence[str]
) -> Mapping[str, StoredCase]:
    """Open prepared cases after checking that they are what the index says, and well built.

    Parameters
    ----------
    folder : Path
    index : Index
        Of that folder.
    case_ids : iterable of str
    modalities : sequence of str

    Raises
    ------
    StoreError
        A file is missing, is not the one that was written, or is not built as prepared cases are:
        it reaches into other files, claims more than it can hold, or ends the process that
        examines it.
    """
    paths = {name: verify(folder, index.entry(name)) for name in case_ids}
    tasks = [_task(path, index, index.entry(name)) for name, path in paths.items()]
    for path, words in zip(paths.values(), flaws(tasks), strict=True):
        if words:
            raise StoreError(
                words,
                where=path,
                expected="a case as vol3dseg preprocess writes it",
                remedy="prepare it again, and do not open the file with other programs",
            )
    return {name: StoredCase.open(path, modalities) for name, path in paths.items()}


def _task(path: Path, index: Index, entry: CaseEntry) -> Task:
    columns = 0 if entry.class_voxels is None else 3 + len(index.labels.classes)
    return Task(str(path), index.recipe.modalities, entry.shape, columns)


def flaws(
    tasks: Sequence[Task], seconds: float = _SECONDS, child: Sequence[str] = _CHILD
) -> list[str]:
    """Return what is wrong with the structure of each file; empty words where nothing is.

    All are examined in one child process, which has little memory and a time limit for each file.
    Should one end it, another goes on behind that file.

    Parameters
    ----------
    tasks : sequence of Task
    seconds : float
        That one file may take [s].
    child : sequence of str
        The command.
    """
    found: list[str] = []
    while len(found) < len(tasks):
        said = _examined(tasks[len(found) :], seconds, child)
        found += said
        if len(found) < len(tasks):
            found.append(f"ends the process that examines it, or takes more than {seconds:g} s")
    return found


def _examined(tasks: Sequence[Task], seconds: float, child: Sequence[str]) -> list[str]:
    """Return what one child says; shorter than `tasks` if one of them has ended it."""
    asked = json.dumps({"seconds": seconds, "tasks": [astuple(task) for task in tasks]})
    done = subprocess.run(
        child,
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_SECONDS + seconds * len(tasks),  # it has a watchdog of its own
    )
    ready, *said = [json.loads(line) for line in done.stdout.splitlines()] or [""]
    if ready != READY:
        raise RuntimeError(f"the process that examines prepared cases: {done.stderr}")
    return [str(words) for words in said]
