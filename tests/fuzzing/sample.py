"""What is harmed: a small file, or a few that belong together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

# Stands wherever a header may hold text; no message and no log may say it.
NAME = "XQDOE^XQJOHN"  # of two words that stand nowhere else
Content = bytearray
Mutation = Callable[[Content, Random], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """Whole files that make one image.

    Parameters
    ----------
    name : str
        For reports.
    files : mapping from file name to bytes
    opened : str
        The name that is given to the reader; empty for the folder.
    """

    name: str
    files: Mapping[str, bytes]
    opened: str

    def save(self, folder: Path) -> Path:
        """Write the files into `folder` and return what a reader is given."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder / self.opened


@dataclass(frozen=True, slots=True)
class Family:
    """Samples that are read in the same way, and what is done to them.

    Parameters
    ----------
    name : str
    samples : tuple of Sample
    read : callable
        Takes the path; reads all that can be read, raises an error of ours, or `BrokenPromise`.
    mutations : tuple of callable
        Harm the content of a file in place; one that stands twice is done twice as often.
    """

    name: str
    samples: tuple[Sample, ...]
    read: Callable[[Path], None]
    mutations: tuple[Mutation, ...]
