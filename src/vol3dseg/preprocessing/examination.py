"""Whether HDF5 files are built as `store.write_case` builds them, examined in a child process.

HDF5 follows links into other files without a word, reads the voxels of a dataset from any file
that a header names, and has had memory errors that a crafted file can reach. So a file that may
come from anywhere is opened first in a child that may die: this module, which reads what is
expected of files from stdin and answers each with a line: what is wrong, or nothing.

No voxel is read. Bytes are bounded by what the file can hold, so that nobody who opens it later
allocates more than that.
"""

import faulthandler
import json
import math
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# -P: nothing in the folder that a user happens to stand in may be taken for a module.
_CHILD = (sys.executable, "-P", "-m", "vol3dseg.preprocessing.examination")
_SECONDS = 10.0  # that one file may take; a whole case takes some milliseconds
_START_SECONDS = 120.0  # that the child may take to start
_READY = "ready"
_DEEPEST = 8  # groups; names of modalities may hold a slash
_MOST_MEMBERS = 10_000
_MOST_PACKED = 1032  # bytes that gzip makes of one at most; what stands around does no harm
_MOST_CHUNK = 2**22  # bytes, which are unpacked at once
_LONGEST = 2**20  # characters of an attribute: a recipe
_ROOM = 2**30  # that a process may take beyond what it has before the first file [bytes]
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32}
_TEXTS = {"case", "recipe", "box"}
_NUMBERS = {
    "grid_shape": (np.int64, (3,)),
    "grid_affine": (np.float64, (4, 4)),
    "source_shape": (np.int64, (3,)),
    "source_affine": (np.float64, (4, 4)),
}


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file, and what the index says of it."""

    path: str
    modalities: tuple[str, ...]
    shape: tuple[int, ...]  # of each image and the label map
    source_shape: tuple[int, ...]  # of the label map as read
    columns: int  # of tables of patches; 0 where there is no label map


class _Malformed(Exception):  # noqa: N818 - says what is wrong
    """Not built as a prepared case is; the words never quote what the file says."""


def flaws(
    files: Sequence[CaseFile], seconds: float = _SECONDS, child: Sequence[str] = _CHILD
) -> list[str]:
    """Return what is wrong with the structure of each file; empty words where nothing is.

    All are examined in one child process, which has little memory and a time limit for each file
    [s]. Should one end it, another goes on behind that file.
    """
    found: list[str] = []
    while len(found) < len(files):
        found += _examined(files[len(found) :], seconds, child)
        if len(found) < len(files):
            found.append(f"ends the process that examines it, or takes more than {seconds:g} s")
    return found


def _examined(files: Sequence[CaseFile], seconds: float, child: Sequence[str]) -> list[str]:
    """Return what one child says; shorter than `files` if one of them has ended it."""
    asked = json.dumps({"seconds": seconds, "files": [astuple(case) for case in files]})
    done = subprocess.run(  # noqa: S603 - this Python, this module, and no shell
        child,
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=_START_SECONDS + seconds * len(files),  # it has a watchdog of its own
    )
    ready, *said = [json.loads(line) for line in done.stdout.splitlines()] or [""]
    if ready != _READY:
        raise RuntimeError(f"the process that examines prepared cases: {done.stderr}")
    return [str(words) for words in said]


def flaw(case: CaseFile) -> str:
    """Return what is wrong with the structure of a file, in words; empty if nothing is."""
    try:
        with h5py.File(case.path, "r") as file:
            _check_file(file, case)
    except _Malformed as error:
        return str(error)
    except MemoryError:
        return "takes more memory than a prepared case"
    except Exception as error:  # noqa: BLE001 - damage shows as any exception, deep inside HDF5
        return f"is damaged or not an HDF5 file ({type(error).__name__})"
    return ""


def _check_file(file: Any, case: CaseFile) -> None:
    lacking: dict[str, tuple[Any, tuple[int, ...], set[str]]] = {
        f"image/{name}": (np.float32, case.shape, {"box"}) for name in case.modalities
    }
    if case.columns:
        lacking["label"] = (np.uint8, case.shape, set())
        lacking["source_label"] = (np.uint8, case.source_shape, set())
    room = Path(case.path).stat().st_size
    _check_attributes(file, _TEXTS, _NUMBERS)
    for name, dataset in _datasets(file):
        if name in lacking:
            dtype, shape, texts = lacking.pop(name)
            _check_dataset(dataset, dtype, shape, _MOST_PACKED * room)
            _check_attributes(dataset, texts)
        elif case.columns and name.startswith("patches/"):
            _check_dataset(dataset, np.int64, (len(dataset), case.columns), room)
            _check_attributes(dataset)
        else:
            raise _Malformed("holds more than images, label maps and tables of patches")
    if lacking:
        raise _Malformed("lacks an image or a label map")


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Give all datasets with their names; refuse links and whatever else there may be."""
    waiting = [(file, "", 1)]
    members = 0
    while waiting:
        group, above, depth = waiting.pop()
        for name in group:
            members += 1
            if members > _MOST_MEMBERS or depth > _DEEPEST:
                raise _Malformed("holds more groups and datasets than a prepared case")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _Malformed("holds a link")
            kind = group.get(name, getclass=True)
            if kind is h5py.Dataset:
                yield above + name, group[name]
            elif kind is h5py.Group:
                _check_attributes(group[name])
                waiting.append((group[name], f"{above}{name}/", depth + 1))
            else:
                raise _Malformed("holds an object that is neither a group nor a dataset")


def _check_dataset(dataset: Any, dtype: Any, shape: tuple[int, ...], most: int) -> None:
    """Refuse values that stand elsewhere, are of another kind, or cannot all be in the file."""
    if dataset.external or dataset.is_virtual:
        raise _Malformed("stores voxels in another file")
    if dataset.dtype != np.dtype(dtype) or dataset.shape != shape:
        # Types that are no numbers have names, which a file may choose.
        found = dataset.dtype if dataset.dtype.kind in "biuf" else "another type"
        raise _Malformed(
            f"holds a dataset of {found} of {dataset.shape}; the index says {np.dtype(dtype)} of "
            f"{shape}"
        )
    if math.prod(shape) * dataset.dtype.itemsize > most:
        raise _Malformed(f"claims {shape} values, more than the file can hold")
    plan = dataset.id.get_create_plist()
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    if not filters <= _FILTERS:
        raise _Malformed("compresses voxels in another way than a prepared case")
    if dataset.chunks is None or math.prod(dataset.chunks) * dataset.dtype.itemsize > _MOST_CHUNK:
        raise _Malformed("stores voxels in other chunks than a prepared case")
    portions = (-(-n // chunk) for n, chunk in zip(shape, dataset.chunks, strict=True))
    if dataset.id.get_num_chunks() != math.prod(portions):
        raise _Malformed("lacks some of its chunks")


def _check_attributes(
    holder: Any, texts: Collection[str] = (), numbers: Mapping[str, Any] | None = None
) -> None:
    numbers = numbers or {}
    if set(holder.attrs) != {*texts, *numbers}:
        raise _Malformed("has other attributes than a prepared case")
    for name in texts:
        attribute = h5py.h5a.open(holder.id, name.encode())
        if h5py.check_string_dtype(attribute.dtype) is None or attribute.shape != ():
            raise _Malformed("has an attribute that is not text where text is expected")
        if len(holder.attrs[name]) > _LONGEST:
            raise _Malformed("has an attribute that is longer than a recipe")
    for name, (dtype, shape) in numbers.items():
        attribute = h5py.h5a.open(holder.id, name.encode())
        if (attribute.dtype, attribute.shape) != (np.dtype(dtype), shape):
            raise _Malformed("has an attribute of another type or shape than a prepared case")


def _limit_memory() -> None:
    """Let this process take little more than it has, where a system can hold it to that."""
    if sys.platform != "linux":
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, taken + _ROOM))


def _main() -> None:
    asked = json.load(sys.stdin)
    _limit_memory()
    _say(_READY)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, no path of anybody's
        for path, names, shape, source_shape, columns in asked["files"]:
            # The watchdog ends the process whatever it is doing, in the depths of HDF5 as well.
            faulthandler.dump_traceback_later(asked["seconds"], exit=True, file=nowhere)
            words = flaw(CaseFile(path, names, tuple(shape), tuple(source_shape), columns))
            faulthandler.cancel_dump_traceback_later()
            _say(words)


def _say(words: str) -> None:
    sys.stdout.write(f"{json.dumps(words)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
