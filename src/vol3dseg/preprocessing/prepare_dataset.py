"""Prepare a whole data set: many cases, some of them bad, perhaps not for the first time."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.case import Case, allow_repairs
from vol3dseg.datasets.checks import preflight
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.over_cases import over_cases, worker_processes
from vol3dseg.datasets.signature import is_current
from vol3dseg.errors import DatasetError, StoreError
from vol3dseg.files import require_writable
from vol3dseg.preprocessing.index import CASES, FILE_NAME, CaseEntry, Index, load_index, verify
from vol3dseg.preprocessing.prepare_case import Outcome, Task, left_out, prepare_case
from vol3dseg.recipe import Recipe
from vol3dseg.space.labels import LabelSet

Progress = Callable[[Outcome, int], None]
_SAVING = 0.05  # of the time may go into writing the index, which grows with every case


def _silent(outcome: Outcome, total: int) -> None:
    pass


def preprocess(
    dataset: str | Path | Sequence[Case],
    output: str | Path,
    config: Config | str | Path,
    workers: int | Executor | None = 1,
    repair: bool = False,
    progress: Progress = _silent,
) -> Index:
    """Prepare a data set for training: crop, resample and normalise its scans into HDF5.

    Run again, it does only what is missing or has changed, and removes what it has prepared of
    cases that are no longer in the data set. A case that fails is named in the index with its
    reason, and the others go on. Headers are checked first, of all cases.

    Parameters
    ----------
    dataset : str, Path or sequence of Case
        A folder in a layout that `find_cases` knows, a dataset table, or cases.
    output : str or Path
        The prepared folder.
    config : Config, str or Path
        A config, the name of a preset, or a YAML file.
    workers : int, Executor or None
        Processes that prepare cases side by side, None for one for each core; or an executor.
    repair : bool
        Read files that are wrong where there is a repair; each repair is recorded.
    progress : callable
        Called with the `Outcome` of each case as it comes, also of those that are prepared already
        or are removed, and the number of cases in the data set.

    Returns
    -------
    Index
        What the folder holds, and which cases were left out or failed.

    Raises
    ------
    ConfigError
        The config is not valid.
    DatasetError
        There are no cases, or their layout is not known.
    OutputError
        `output` cannot be written.
    RecipeMismatch, StoreError
        `output` was prepared with another recipe, or other classes or values were read.
    MissingExtraError
        A step of the recipe needs what is not installed.
    """
    chosen, folder = load_config(config), Path(output)
    chosen.recipe.require_extras()
    found = find_cases(Path(dataset)) if isinstance(dataset, str | Path) else dataset
    cases = allow_repairs(found, repair)
    require_writable(folder)
    data = chosen.model_dump(mode="json")
    run = partial(prepare_cases, cases, folder, data, chosen.recipe, chosen.labels)
    if isinstance(workers, Executor):
        return run(workers, progress)
    with worker_processes(workers, len(cases)) as executor:
        return run(executor, progress)


def prepare_cases(
    cases: Sequence[Case],
    folder: Path,
    config: Mapping[str, Any],
    recipe: Recipe,
    labels: LabelSet,
    executor: Executor | None = None,
    progress: Progress = _silent,
) -> Index:
    """Prepare cases into `folder`; see `preprocess`.

    Parameters
    ----------
    cases : sequence of Case
    folder : Path
    config : mapping
        The whole config, kept in the index for `vol3dseg train`.
    recipe : Recipe
    labels : LabelSet
    executor : Executor or None
        Where cases are prepared side by side; None prepares one after the other here.
    progress : callable

    Returns
    -------
    Index
        Also written to `folder/index.json`, now and then, so that a killed run can go on: after
        each case, or less often where there are so many that writing would take more than a
        twentieth of the time.
    """
    recipe.require_extras()
    if not cases:
        raise DatasetError(
            "there are no cases to prepare", remedy="choose a folder that holds some"
        )
    task, known = Task(recipe, labels, folder), _known_entries(folder, recipe, labels)
    require_writable(folder / CASES)
    run = _Run(task, config, known)
    for outcome in run.keep_only(case.id for case in cases):
        progress(outcome, len(cases))
    made = {case.id for case in cases if _is_made(case, task, known)}
    for case_id in sorted(made):
        progress(run.record(_still(known[case_id], labels)), len(cases))
    wanted = [case for case in cases if case.id not in made]
    refused = preflight(wanted, recipe.modalities)
    for case_id, why in refused.items():
        run.record(Outcome(case_id, failed=why.recorded))
        progress(Outcome(case_id, failed=why.said), len(cases))
    accepted = [case for case in wanted if case.id not in refused]
    for outcome in over_cases(partial(prepare_case, task=task), accepted, executor, _killed):
        run.record(outcome)
        run.save_when_due()
        progress(outcome, len(cases))
    index = run.index()
    index.save(folder)
    return index


class _Run:
    """What has become of the cases so far; of those that are still to come, what was known."""

    def __init__(
        self, task: Task, config: Mapping[str, Any], known: Mapping[str, CaseEntry]
    ) -> None:
        self._task = task
        self._config = dict(config)
        self._known = dict(known)
        self._outcomes: dict[str, Outcome] = {}
        self._due = 0.0

    def keep_only(self, case_ids: Iterable[str]) -> list[Outcome]:
        """Remove what was prepared of all cases but these, before the index forgets them."""
        gone = sorted(self._known.keys() - set(case_ids))
        return [self._remove(self._known.pop(name)) for name in gone]

    def record(self, outcome: Outcome) -> Outcome:
        """Remember what became of a case; if it is not prepared, what was before is removed."""
        before = self._known.pop(outcome.case_id, None)
        if before and not outcome.entry:
            self._remove(before)
        self._outcomes[outcome.case_id] = outcome
        return outcome

    def _remove(self, entry: CaseEntry) -> Outcome:
        """Remove the file of an entry if it is the one that was written, and say so."""
        path, said = self._task.folder / entry.file, "its prepared file is removed"
        try:
            verify(self._task.folder, entry).unlink()
        except StoreError:
            if path.exists():
                said = f"{path} is not the file that was written and stays, remove it yourself"
        return Outcome(entry.id, removed=f"is no longer in the data set; {said}")

    def index(self) -> Index:
        """Return the index as it stands."""
        made = self._known | {o.case_id: o.entry for o in self._outcomes.values() if o.entry}
        reasons = [self._outcomes[name] for name in sorted(self._outcomes)]
        return Index(
            recipe=self._task.recipe,
            fingerprint=self._task.recipe.fingerprint,
            labels=self._task.labels,
            config=self._config,
            cases=tuple(made[name] for name in sorted(made)),
            left_out={o.case_id: o.left_out for o in reasons if o.left_out},
            failed={o.case_id: o.failed for o in reasons if o.failed},
        )

    def save_when_due(self) -> None:
        """Write the index, unless that has just been done and takes long."""
        started = time.monotonic()
        if started >= self._due:
            self.index().save(self._task.folder)
            ended = time.monotonic()
            self._due = ended + (ended - started) / _SAVING


def unknown_files(folder: Path, index: Index) -> list[Path]:
    """Return what lies among the prepared cases and is not in the index: it is nobody's, or yours.

    Parameters
    ----------
    folder : Path
    index : Index
        Of that folder.
    """
    ours = {folder / entry.file for entry in index.cases}
    return sorted(path for path in (folder / CASES).iterdir() if path not in ours)


def _known_entries(folder: Path, recipe: Recipe, labels: LabelSet) -> dict[str, CaseEntry]:
    if not (folder / FILE_NAME).exists():
        return {}
    index = load_index(folder)
    index.require_made_with(recipe, labels, folder)
    return {entry.id: entry for entry in index.cases}


def _is_made(case: Case, task: Task, known: Mapping[str, CaseEntry]) -> bool:
    entry = known.get(case.id)
    if entry is None or entry.subject != case.subject:
        return False
    if not is_current(entry, case, task.recipe.modalities, with_label=True):
        return False
    path = task.folder / entry.file
    return path.is_file() and path.stat().st_size == entry.bytes


def _still(entry: CaseEntry, labels: LabelSet) -> Outcome:
    """Return what becomes of a case that is prepared already: other classes may be required now."""
    why = left_out(entry.class_voxels, labels)
    return Outcome(entry.id, left_out=why) if why else Outcome(entry.id, entry)


def _killed(case: Case, error: DatasetError) -> Outcome:
    return Outcome(case.id, failed=error.recorded)
