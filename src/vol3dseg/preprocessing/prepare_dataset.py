"""Prepare a whole data set: many cases, some of them bad, perhaps not for the first time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.case import Case, allow_repairs, begun, require_distinct
from vol3dseg.datasets.checks import preflight
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.over_cases import over_cases, worker_processes
from vol3dseg.datasets.signature import is_current
from vol3dseg.errors import DatasetError, OutputError, StoreError
from vol3dseg.files import (
    NowAndThen,
    forget_absent,
    remove_leftovers,
    remove_ours,
    require_writable,
    set_aside,
)
from vol3dseg.machine import thread_pool
from vol3dseg.many_records import PackedRecords
from vol3dseg.planning.make_plan import Plan, plan
from vol3dseg.preprocessing.index import (
    CASES,
    FILE_NAME,
    PLAN,
    CaseEntry,
    Index,
    load_index,
    verify,
)
from vol3dseg.preprocessing.prepare_case import (
    Outcome,
    outcome_of,
    prepare_case,
    without_entry,
)
from vol3dseg.preprocessing.withdrawal import require_meant
from vol3dseg.working_folder import one_at_a_time
from vol3dseg.written import adopt, is_ours, list_again, sha256_file, usable_path

Progress = Callable[[Outcome, int], None]
_KILLED = (
    "case {}: the run before was killed while it was worked on, perhaps for want of memory; give "
    "it more memory, and run the same command again to try it"
)


@one_at_a_time("output")
def preprocess(
    dataset: str | Path | Sequence[Case],
    output: str | Path,
    config: Config | str | Path | None = None,
    workers: int | Executor | None = 1,
    repair: bool = False,
    progress: Progress = lambda outcome, total: None,
    remove_withdrawn: bool = False,
) -> Index:
    """Prepare a data set for training: crop, resample and normalise its scans into HDF5.

    Run again, it does only what is missing or has changed. A case that fails is named in the index
    with its reason, and the others go on. Headers are checked first, of all cases.

    Parameters
    ----------
    dataset : str, Path or sequence of Case
        A folder in a layout that `find_cases` knows, a dataset table, or cases.
    output : str or Path
        The prepared folder.
    config : Config, str, Path or None
        A config, the name of a preset, or a YAML file. None takes the one that `output` was made
        with, or plans one and writes it into `output` as plan.yaml.
    workers : int, Executor or None
        Processes that prepare cases side by side, None for one for each core; or an executor.
    repair : bool
        Read files that are wrong where there is a repair; each repair is recorded.
    progress : callable
        Called as `progress(outcome, total)` as soon as it is known what became of a case, also of
        those that are prepared already or are removed; `total` is the cases of the data set.
    remove_withdrawn : bool
        Remove what was prepared of cases that the data set has no more; a file that was changed
        since it was written is left alone, and the outcome says so.

    Returns
    -------
    Index
        What the folder holds, and which cases were left out or failed. Also written to
        `index.json`, now and then, so that a killed run can go on: after each case, or less often
        where there are so many that writing would take more than a twentieth of the time.

    Raises
    ------
    ConfigError
        The config is not valid.
    DatasetError
        There are no cases, or their layout is not known.
    OutputError
        `output` cannot be written.
    RecipeMismatch, StoreError
        `output` was prepared with another recipe, or other classes or values were read; or it holds
        cases that the data set has no more, and `remove_withdrawn` does not say what becomes of
        them; or none that it has.
    MissingExtraError
        A step of the recipe needs what is not installed.
    """
    folder = usable_path(output, OutputError)
    config, _ = chosen_config(dataset, folder, config, workers, repair)
    config.recipe.require_extras()
    if isinstance(dataset, str | Path):
        cases = find_cases(dataset, config.recipe.modalities)
    else:
        cases = list(dataset)
    if not cases:
        raise DatasetError("no cases to prepare", remedy="choose a folder that holds some")
    require_distinct(cases)
    if repair:
        cases = allow_repairs(cases)
    run = _Run(folder, config, len({case.id for case in cases}), progress)
    run.clear(cases, remove_withdrawn)
    try:
        with worker_processes(workers, len(cases)) as executor:
            return run.prepare(cases, executor)
    finally:  # no case is to blame, as it is where this process is killed
        if (folder / CASES).is_dir():
            remove_leftovers(folder / CASES)


def chosen_config(
    dataset: str | Path | Sequence[Case],
    folder: Path,
    config: Config | str | Path | None,
    workers: int | Executor | None = 1,
    repair: bool = False,
    measured: Callable[[int], None] = lambda total: None,
) -> tuple[Config, Plan | None]:
    """Return the config that is given, or that `folder` was made with, or a plan and its own.

    `measured` is called after each case that is measured for a plan with how many there are.
    """
    if config is not None:
        return load_config(config), None
    if (folder / FILE_NAME).exists():
        return load_index(folder).config, None
    require_writable(folder, [FILE_NAME, PLAN])
    made = plan(dataset, folder / PLAN, workers=workers, repair=repair, progress=measured)
    return made.config, made


class _Run:
    """What has become of the cases so far; of those that are still to come, what was known."""

    def __init__(self, folder: Path, config: Config, total: int, progress: Progress) -> None:
        self._folder = folder
        self._config = config
        self._made = PackedRecords[CaseEntry]()
        self._unmade: dict[str, Outcome] = {}
        self._known: dict[str, CaseEntry] = {}
        self._aside: dict[str, str] = {}  # cases, with what was moved away for them
        self._now_and_then = NowAndThen()
        self._report: Callable[[Outcome], None] = lambda outcome: progress(outcome, total)
        if (folder / FILE_NAME).exists():
            index = load_index(folder)
            index.require_made_with(config, folder)
            adopt(folder, {FILE_NAME: sha256_file(folder / FILE_NAME)})
            adopt(folder / CASES, {Path(e.file).name: e.sha256 for e in index.cases})
            self._known = {entry.id: entry for entry in index.cases}
        require_writable(folder, [FILE_NAME])

    def clear(self, cases: Sequence[Case], remove: bool) -> None:
        """Remove what was prepared of cases that the data set has no more, where that is meant."""
        gone = require_meant(self._folder, self._known, {case.id for case in cases}, remove)
        removed = [self._remove(self._known[name]) for name in gone]
        if remove and (self._folder / CASES).is_dir():
            forget_absent(self._folder / CASES)
        for name in gone:
            del self._known[name]
        if gone:  # last: whoever is killed before finds them in the index, and goes on
            self._save()
        for outcome in removed:
            self._report(outcome)

    def prepare(self, cases: Sequence[Case], executor: Executor | None) -> Index:
        """Prepare what is missing or has changed, and write the index."""
        with thread_pool() as pool:  # hashing lets other threads run
            current = list(pool.map(self._is_current, cases))
        wanted = [case for case, is_so in zip(cases, current, strict=True) if not is_so]
        new = [
            name
            for case in wanted
            if case.id not in self._known
            for name in (f"{case.id}.h5", begun(case.id))
        ]
        left = require_writable(self._folder / CASES, new)
        for name in sorted({case.id for case in cases} - {case.id for case in wanted}):
            self._record(outcome_of(self._known[name], self._config.labels))
        modalities, optional = self._config.recipe.modalities, self._config.optional
        refused = preflight(wanted, modalities, optional=optional)
        for name, why in refused.items():
            kept = Outcome(name, failed=why.recorded, traceback=why.traceback)
            self._record(kept, Outcome(name, failed=why.message))
        accepted = [case for case in wanted if case.id not in refused]
        for case in accepted:
            self._set_aside(case.id)
        fatal = [case for case in accepted if begun(case.id) in left]
        if len(fatal) == 1:  # or it would end this run too; the next tries it again
            self._record(Outcome(fatal[0].id, failed=_KILLED.format(fatal[0].id)))
            accepted.remove(fatal.pop())
        try:
            # Of several one may have ended all: these come last, each by itself.
            for several in ([c for c in accepted if c not in fatal], *([case] for case in fatal)):
                self._prepare(several, executor)
        except BaseException:
            with suppress(OutputError, StoreError):
                self._end()
            raise
        return self._end()

    def _prepare(self, cases: Sequence[Case], executor: Executor | None) -> None:
        function = partial(prepare_case, config=self._config, folder=self._folder)
        for outcome in over_cases(function, cases, executor, without_entry, writes=self._folder):
            self._record(outcome, save=True)

    def _record(self, outcome: Outcome, told: Outcome | None = None, save: bool = False) -> None:
        """Remember and tell what became of a case; if nothing did, what was before is removed."""
        before = self._known.pop(outcome.case_id, None)
        note = self._aside.get(outcome.case_id)
        if note and outcome.entry:
            entry = outcome.entry.model_copy(update={"notes": (*outcome.entry.notes, note)})
            outcome = replace(outcome, entry=entry)
        if before and not outcome.entry:
            self._remove(before)
        if outcome.entry:
            self._made.add(outcome.case_id, outcome.entry)
        else:
            self._unmade[outcome.case_id] = outcome
        if save:
            self._now_and_then(self._save)
        self._report(told or outcome)

    def _remove(self, entry: CaseEntry) -> Outcome:
        """Remove the file of an entry if it is the one that was written, and say so."""
        path, said = self._folder / CASES / Path(entry.file).name, "its prepared file was removed"
        if not remove_ours(path) and path.exists():
            said = f"{path} differs from the file that was written and was left alone"
        return Outcome(entry.id, removed=f"is no longer in the data set; {said}")

    def _end(self) -> Index:
        """Write the index; list the files that it has, which other machines may have written."""
        self._save()
        index = load_index(self._folder)
        files = {Path(entry.file).name: entry.sha256 for entry in index.cases}
        list_again(self._folder / CASES, files)
        return index

    def _save(self) -> None:
        reasons = [self._unmade[name] for name in sorted(self._unmade)]
        index = Index(
            config=self._config,
            fingerprint=self._config.recipe.fingerprint,
            cases=tuple(self._known.values()),
            left_out={o.case_id: o.left_out for o in reasons if o.left_out},
            failed={o.case_id: o.failed for o in reasons if o.failed},
            tracebacks={o.case_id: o.traceback for o in reasons if o.traceback},
        )
        index.save(self._folder, self._made)

    def _is_current(self, case: Case) -> bool:
        entry = self._known.get(case.id)
        if entry is None or entry.subject != case.subject:
            return False
        if not {*entry.missing} <= {*self._config.optional}:
            return False  # it had been allowed to lack more
        wanted = self._config.recipe.modalities
        same = is_current(entry.sources, bool(entry.repairs), case, wanted, with_label=True)
        return same and self._is_whole(entry)

    def _is_whole(self, entry: CaseEntry) -> bool:
        """Tell whether the file of an entry is the one that was written."""
        try:
            verify(self._folder, entry)
        except StoreError:
            return False
        return True

    def _set_aside(self, case_id: str) -> None:
        """Move away what stands where a case goes and is not what was written for it."""
        path = self._folder / CASES / f"{case_id}.h5"
        if case_id in self._known and path.exists() and not is_ours(path):
            self._aside[case_id] = (
                f"{path.name} was not the file that had been written: it is "
                f"{set_aside(path).name} now, and the case was prepared again"
            )
