"""Several runs, one after the other or side by side; one that fails stops no other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from vol3dseg.config import Config
from vol3dseg.datasets.cluster import HasPaths
from vol3dseg.datasets.over_cases import heard_here, over_cases, worker_processes
from vol3dseg.errors import DatasetError, Vol3dSegError
from vol3dseg.preprocessing.index import FILE_NAME, load_index
from vol3dseg.training.child_process import KILLED, Outcome, apart
from vol3dseg.training.data import split_of
from vol3dseg.training.run_config import choose_config
from vol3dseg.training.training_state import (
    LAST,
    MANIFEST,
    goes_on,
    require_same_config,
    require_same_data,
)
from vol3dseg.training.watching import Logger, Progress, Show, quiet

_Training = TypeVar("_Training", bound=HasPaths)
_Train = Callable[[_Training, Progress, Show], Outcome]


def over_trainings(
    train: _Train[_Training],
    trainings: Sequence[_Training],
    executor: Executor | None,
    progress: Progress,
    show: Show,
    reads: Sequence[Path],
    writes: Path,
) -> Iterator[tuple[_Training, Outcome]]:
    """Give each training with its outcome as soon as that is known.

    Without `executor` one after the other, and `progress` and `show` are called here; with one side
    by side, each line with the name of its training, and no steps.
    """
    if executor is None:
        yield from ((each, train(each, progress, show)) for each in trainings)
        return
    with heard_here(executor, progress) as say:
        named = partial(_named, train, say)
        yield from over_cases(
            named, trainings, executor, _failed, reads, writes, ahead=False, kind="training"
        )


def _named(
    train: _Train[_Training], progress: Progress, training: _Training
) -> tuple[_Training, Outcome]:
    return training, train(training, partial(_with_name, progress, training.id), quiet)


def _with_name(progress: Progress, name: str, text: str) -> None:
    progress("\n".join(f"{name}: {line}" for line in text.strip("\n").splitlines()))


def _failed(training: _Training, error: Vol3dSegError) -> tuple[_Training, Outcome]:
    return training, KILLED if isinstance(error, DatasetError) else Outcome(f"failed: {error}")


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of one of several configs."""

    id: str
    folder: Path
    config: Config
    paths: tuple[Path, ...] = ()


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
    workers: int | Executor | None = 1,
    threads: int | None = None,
) -> Iterator[tuple[Path, Outcome]]:
    """Train each config in the run folder of its name, in a process of its own.

    Yields each run folder with its outcome as soon as that is known. All configs are read before
    the first is trained: a slip in the last must not wait for hours. With `resume` interrupted runs
    go on and finished ones are left as they are. `loggers`, as of `train`, must be what can be sent
    to other processes; so must `progress` where several `workers` train side by side. For `changes`
    see `choose_config`; `threads` is the most that each takes, by default its share of the cores.
    """
    chosen = [
        _Run(name, runs / name, choose_config(prepared, config, changes=changes, parent=parent))
        for name, config in configs.items()
    ]
    train = partial(_complete, prepared, resume, parent, loggers, threads)
    reads = [prepared / FILE_NAME, *([parent] if parent else [])]
    with worker_processes(workers, len(chosen)) as executor:
        outcomes = over_trainings(train, chosen, executor, progress, show, reads, runs)
        yield from ((run.folder, outcome) for run, outcome in outcomes)


def _complete(
    prepared: Path,
    resume: bool,
    parent: Path | None,
    loggers: Sequence[Logger],
    threads: int | None,
    run: _Run,
    progress: Progress,
    show: Show,
) -> Outcome:
    """Train, unless that is done."""
    progress(f"\n{run.id} -> {run.folder}")
    finished = (run.folder / MANIFEST).is_file()
    if resume and finished and not goes_on(run.folder, run.config):
        return _finished_before(prepared, run)
    arguments = (prepared, run.folder, run.config, resume, parent, loggers)
    return apart(_train, *arguments, threads=threads, progress=progress, show=show)


def _finished_before(prepared: Path, run: _Run) -> Outcome:
    try:
        require_same_config(run.folder, run.config)
        index = load_index(prepared)
        require_same_data(run.folder, index, split_of(prepared, index, run.config))
    except Vol3dSegError as error:
        return Outcome(f"failed: was finished before; {error}")
    return Outcome("had been finished", finished=True)


def _train(
    prepared: Path,
    run: Path,
    config: Config,
    resume: bool,
    parent: Path | None,
    loggers: Sequence[Logger],
    again: bool,
    progress: Progress,
    show: Show,
) -> Outcome:
    from vol3dseg.training.fit import train

    goes_on = (resume or again) and (run / LAST).is_file()
    manifest = train(
        prepared, run, config, parent=parent, resume=goes_on, progress=progress, show=show,
        loggers=loggers,
    )  # fmt: skip
    return Outcome("finished", finished=True, manifest=manifest)
