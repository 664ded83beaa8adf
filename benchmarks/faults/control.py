"""What is to fail, and where it struck: the Python side of shim.c."""

import ctypes
import errno
import mmap
import os
import subprocess
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

VARIABLE = "VOL3DSEG_FAULTS"
_SOURCE = Path(__file__).with_name("shim.c")
_PATH = 1024


class Kind(IntFlag):
    """Calls that can be made to fail."""

    OPEN = 1  # files and folders, those that are made included
    READ = 2
    WRITE = 4
    FSYNC = 8
    RENAME = 16
    CREATE = 32  # a file
    MKDIR = 64
    REMOVE = 128
    TRUNCATE = 256


class Mode(IntEnum):
    """What happens at the N-th call."""

    ONCE = 0
    FROM_THEN_ON = 1  # a write does half of its work first
    KILL = 2  # SIGKILL, before the call
    HALF = 3  # a write does half of its work, and says so: no error, as POSIX allows


@dataclass(frozen=True, slots=True)
class Fault:
    """What fails, and how.

    Parameters
    ----------
    name : str
    kinds : Kind
        Which calls are counted.
    mode : Mode
    error : int
        An errno.
    """

    name: str
    kinds: Kind
    mode: Mode = Mode.ONCE
    error: int = 0

    @property
    def cause(self) -> str:
        """What an error must say of it; empty where nothing says anything."""
        return os.strerror(self.error) if self.error else ""


_CHANGES = Kind.WRITE | Kind.CREATE | Kind.MKDIR | Kind.TRUNCATE
FAULTS = (
    Fault("write: no space", Kind.WRITE, error=errno.ENOSPC),
    Fault("write: I/O error", Kind.WRITE, error=errno.EIO),
    Fault("write: half of it", Kind.WRITE, Mode.HALF),
    Fault("disk full from then on", _CHANGES, Mode.FROM_THEN_ON, errno.ENOSPC),
    Fault("fsync: I/O error", Kind.FSYNC, error=errno.EIO),
    Fault("fsync: no space", Kind.FSYNC, error=errno.ENOSPC),
    Fault("rename: no permission", Kind.RENAME, error=errno.EACCES),
    Fault("rename: I/O error", Kind.RENAME, error=errno.EIO),
    Fault("mkdir: no space", Kind.MKDIR, error=errno.ENOSPC),
    Fault("mkdir: no permission", Kind.MKDIR, error=errno.EACCES),
    Fault("open: no permission", Kind.OPEN, error=errno.EACCES),
    Fault("open: I/O error", Kind.OPEN, error=errno.EIO),
    Fault("read: I/O error", Kind.READ, error=errno.EIO),
    Fault("killed", _CHANGES | Kind.FSYNC | Kind.RENAME | Kind.REMOVE, Mode.KILL),
)


class _Block(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kinds", "nth", "error", "mode", "count", "struck")),
        ("root", ctypes.c_char * _PATH * 2),
        ("hit", ctypes.c_char * (2 * _PATH)),
        ("log", ctypes.c_char * _PATH),
    ]


class Control:
    """A file that says what is to fail, shared with all processes of a command.

    Parameters
    ----------
    path : Path
    root : Path
        Only calls on what lies below it are counted.
    """

    def __init__(self, path: Path, root: Path) -> None:
        path.write_bytes(bytes(ctypes.sizeof(_Block)))
        with path.open("r+b") as file:
            self._block = _Block.from_buffer(mmap.mmap(file.fileno(), 0))
        self._block.root[0].value = os.fsencode(root)
        self.path = path

    def arm(self, fault: Fault, nth: int, log: Path | None = None) -> None:
        """Let the `nth` call fail, counted from 1 from now on; none, where it is 0."""
        block = self._block
        block.nth, block.error, block.mode = nth, fault.error, fault.mode
        block.count, block.struck, block.hit = 0, 0, b""
        block.log = os.fsencode(log) if log else b""
        block.kinds = fault.kinds

    def disarm(self) -> None:
        """Let nothing fail, and count nothing."""
        self._block.kinds = 0

    @property
    def count(self) -> int:
        """How many calls were counted."""
        return int(self._block.count)

    @property
    def hit(self) -> str:
        """Which call it struck, as "write /path"; empty where it did not."""
        return os.fsdecode(self._block.hit) if self._block.struck else ""


def build_shim(folder: Path) -> Path:
    """Compile the shim and return where it is; CalledProcessError: it cannot be."""
    made = folder / "shim.so"
    folder.mkdir(parents=True, exist_ok=True)
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["cc", *flags, "-o", made, _SOURCE, "-ldl"], check=True)
    return made
