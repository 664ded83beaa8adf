"""A folder that one process at a time works in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from vol3dseg.errors import OutputError
from vol3dseg.files import lock_folder
from vol3dseg.written import reporting, usable_path


@contextmanager
def working_in(folder: str | Path, shared: bool = False) -> Iterator[None]:
    """Keep a folder to this process for the block; it is made, and removed if it stays empty.

    Those that share it may be there together. OutputError: another process works in it, or it
    cannot be made.
    """
    place = usable_path(folder, OutputError)
    new = [each for each in (place, *place.parents) if not each.exists()]
    with ExitStack() as stack:
        with reporting(place):
            place.mkdir(parents=True, exist_ok=True)
            ours = stack.enter_context(lock_folder(place.resolve(), shared))
        if ours is False:
            raise OutputError(
                "is being written by another process of vol3dseg",
                where=place,
                remedy="wait until that has ended, or choose another output folder",
            )
        try:
            yield
        finally:
            with suppress(OSError):
                for each in new:
                    each.rmdir()


Given = ParamSpec("Given")
Made = TypeVar("Made")


def one_at_a_time(parameter: str) -> Callable[[Callable[Given, Made]], Callable[Given, Made]]:
    """Let a function keep the folder that is given as `parameter`, if any, to its process."""

    def keeping(function: Callable[Given, Made]) -> Callable[Given, Made]:
        @wraps(function)
        def run(*args: Given.args, **named: Given.kwargs) -> Made:
            folder = signature(function).bind(*args, **named).arguments.get(parameter)
            with nullcontext() if folder is None else working_in(folder):
                return function(*args, **named)

        return run

    return keeping
