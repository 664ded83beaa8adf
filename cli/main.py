"""The entry point: the group of commands, and how errors are shown."""

import errno
import io
import logging
import os
import signal
import sys
from contextlib import closing
from mmap import mmap

import click

from vol3dseg import __version__
from vol3dseg.cli.adopt import adopt
from vol3dseg.cli.check import check
from vol3dseg.cli.compare import compare
from vol3dseg.cli.corrections import corrections
from vol3dseg.cli.cross_validate import cross_validate
from vol3dseg.cli.demo import demo
from vol3dseg.cli.evaluate import evaluate
from vol3dseg.cli.export_onnx import export_onnx
from vol3dseg.cli.info import info
from vol3dseg.cli.inspect import inspect
from vol3dseg.cli.plan import plan
from vol3dseg.cli.predict import predict
from vol3dseg.cli.preprocess import preprocess
from vol3dseg.cli.show import show
from vol3dseg.cli.split import split
from vol3dseg.cli.train import train
from vol3dseg.cli.view import view
from vol3dseg.errors import (
    LESS_MEMORY,
    NO_RIGHTS,
    MemoryLimitError,
    Vol3dSegError,
    lacks_memory,
)
from vol3dseg.extras import require_memory_for_libraries

# What a command says when it is stopped by Ctrl-C, if it can go on.
_STOPPED = {
    "cross-validate": "the same command with --resume goes on after the last epoch that ended",
    "predict": "what is segmented is kept; the same command with --resume goes on",
    "preprocess": "what is prepared is kept; the same command goes on",
    "train": "the same command with --resume goes on after the last epoch that ended; if none has, "
    "give it again without",
}

# What no program can help, with its remedy; other errors of files are bugs.
_MEND, _RENAME = "mend or free the disk, and run the same command again", "choose another name"
_OF_THE_SYSTEM = {
    **dict.fromkeys((errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE), _MEND),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.ELOOP), _RENAME),
}
_TO_BEGIN_IN = 240 * 2**20  # bytes: in less no command comes to its end
_TO_END_IN = 2**23  # bytes: where memory is used up, telling so and clearing up need some


class _Commands(click.Group):
    """Commands that end in a line when they are stopped."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        require_memory_for_libraries(_TO_BEGIN_IN)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            again = "nothing half-written is left; run the same command again"
            said = _STOPPED.get(ctx.invoked_subcommand or "", again)
            click.echo(f"stopped: {said}", err=True)
            return ctx.exit(128 + signal.SIGINT)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Commands, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="vol3dseg")
def cli() -> None:
    """Segment 3-D medical scans: train a U-Net, deploy one self-describing ONNX file.

    The straight line: plan, preprocess, train, export-onnx, predict, evaluate. See it run with
    `vol3dseg demo`.
    """
    logging.addLevelName(logging.WARNING, "warning")  # as in all other lines
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


for command in (
    check,
    inspect,
    plan,
    preprocess,
    split,
    train,
    cross_validate,
    export_onnx,
    adopt,
    predict,
    evaluate,
    compare,
    corrections,
    info,
    show,
    view,
    demo,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; our errors are one line and exit code 1, a bug keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):  # names may hold what a terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Workers start as python -c, which looks for modules where the user happens to stand.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        with closing(mmap(-1, _TO_END_IN)):  # addresses alone: no page of it is touched
            cli()
    except Vol3dSegError as error:
        _fail(error)
    except PermissionError as error:  # of a folder that was only asked what is in it
        found = f"may not be used ({error.strerror})"
        _fail(Vol3dSegError(found, where=error.filename, remedy=NO_RIGHTS))
    except Exception as error:
        if lacks_memory(error):  # outside of any case: where one is to blame, that is said
            said = " ".join(str(error).split()[-12:])
            _fail(MemoryLimitError(f"memory is used up{said and f' ({said})'}", remedy=LESS_MEMORY))
        if not isinstance(error, OSError) or error.errno not in _OF_THE_SYSTEM:
            raise
        found, where = f"cannot be used ({error.strerror})", error.filename or "a file"
        _fail(Vol3dSegError(found, where=where, remedy=_OF_THE_SYSTEM[error.errno]))


def _fail(error: Vol3dSegError) -> None:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)
    sys.exit(1)
