"""Several runs one after the other, each in a process of its own; one that fails stops no other."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import wraps
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from traceback import print_exception
from typing import ParamSpec

from vol3dseg.config import Config
from vol3dseg.errors import Vol3dSegError
from vol3dseg.model.manifest import Manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.training.data import split_of
from vol3dseg.training.run_config import choose_config
from vol3dseg.training.training_state import goes_on, require_same_config, require_same_data
from vol3dseg.training.watching import Logger, Progress, Show, quiet

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run, in words; `manifest` is that of a run that was finished now."""

    said: str
    finished: bool = False
    manifest: Manifest | None = None


_KILLED = (
    "failed: its process was killed, perhaps for want of memory; free some and go on with "
    "--resume, or train in another folder with a smaller training.micro_batch"
)


def train_several(
    prepared: Path,
    runs: Path,
    configs: Mapping[str, str | Path],
    resume: bool = False,
    changes: Mapping[str, object] | None = None,
    progress: Progress = print,
    show: Show = quiet,
    loggers: Sequence[Logger] = (),
    parent: Path | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Train one config after the other, each in the run folder of its name.

    Yields each run folder with its outcome as soon as that is known. All configs are read before
    the first is trained: a slip in the last must not wait for hours. With `resume` interrupted runs
    go on and finished ones are left as they are. `progress`, `show` and `loggers`, as of `train`,
    must be what can be sent to other processes, which call them. For `changes` see `choose_config`.
    """
    chosen = {
        runs / name: choose_config(prepared, config, changes=changes, parent=parent)
        for name, config in configs.items()
    }
    for run, config in chosen.items():
        progress(f"\n{run.name} -> {run}")
        told = (progress, show, loggers, parent)
        yield run, _train_apart(prepared, run, config, resume, told)


def _train_apart(
    prepared: Path,
    run: Path,
    config: Config,
    resume: bool,
    told: tuple[Progress, Show, Sequence[Logger], Path | None],
) -> Outcome:
    """Train in a process of its own, so that what one run breaks or leaves ends with it."""
    if resume and (run / "manifest.json").is_file() and not goes_on(run, config):
        return _finished_before(prepared, run, config)
    begun = resume and (run / "last.keras").is_file()
    return apart(_train, prepared, run, config, begun, *told)


def apart(work: Callable[..., Outcome], *arguments: object) -> Outcome:
    """Do work in a process of its own; that it was killed, or met a bug, is its outcome too."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with_parent) as pool:
        future = pool.submit(work, *arguments)
        error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenProcessPool):
        return Outcome(_KILLED)
    print_exception(error)  # a bug: the traceback is kept, the other runs go on
    return Outcome(f"failed: {type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """Let this process end when the one that began it was killed: two must not write one run."""
    if (parent := parent_process()) is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        Thread(target=watch, daemon=True).start()


def _finished_before(prepared: Path, run: Path, config: Config) -> Outcome:
    try:
        require_same_config(run, config)
        index = load_index(prepared)
        require_same_data(run, index, split_of(prepared, index, config))
    except Vol3dSegError as error:
        return Outcome(f"failed: was finished before; {error}")
    return Outcome("had been finished", finished=True)


def as_outcome(work: Callable[P, Outcome]) -> Callable[P, Outcome]:
    """Let an error of ours be an outcome in words, since work is done in another process."""

    @wraps(work)
    def done(*arguments: P.args, **named: P.kwargs) -> Outcome:
        try:
            return work(*arguments, **named)
        except Vol3dSegError as error:
            return Outcome(f"failed: {' '.join(str(error).split())}")

    return done


@as_outcome
def _train(
    prepared: Path,
    run: Path,
    config: Config,
    resume: bool,
    progress: Progress,
    show: Show,
    loggers: Sequence[Logger],
    parent: Path | None,
) -> Outcome:
    from vol3dseg.training.fit import train

    manifest = train(
        prepared, run, config, parent=parent, resume=resume, progress=progress, show=show,
        loggers=loggers,
    )  # fmt: skip
    return Outcome("finished", finished=True, manifest=manifest)
