"""A framework that has trained a model, run in a process of its own.

What it imports, holds and prints, and how it ends, is then no matter of this one.
"""

import json
import subprocess
import sys
from typing import Any

from vol3dseg.errors import ModelError


def run_apart(module: str, job: Any, framework: str, remedy: str, where: object = "") -> None:
    """Run a module of ours as a program that reads its job from standard input.

    Parameters
    ----------
    module : str
        By its full name. It writes what it finds into files that the job names.
    job : any value that JSON holds
    framework : str
        As it is called in the error.
    remedy : str
        What to do where it fails.
    where : Path or str
        The file or folder that it fails on.

    Raises
    ------
    ModelError
        It failed, with the last that it said.
    """
    command = [sys.executable, "-W", "ignore", "-m", module]
    done = subprocess.run(  # noqa: S603 - this Python, a module of ours, and no shell
        command, input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = said[-1] if said else f"exit {done.returncode}"
        raise ModelError(f"{framework} failed on it ({last})", where=where, remedy=remedy)
