"""All that is wrong with the files of cases, found at once: from headers alone, or all voxels.

It asks what `vol3dseg.datasets.reading` asks, so what passes is read, and what does not is refused
there in the same words.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from vol3dseg.datasets.case import FIT_ID, Case, is_fit_id, modalities_of
from vol3dseg.datasets.contrast import is_flat, no_contrast
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.datasets.reading import differing_label_grid
from vol3dseg.datasets.sources import SourceFile, by_file, open_label
from vol3dseg.errors import (
    DatasetError,
    MissingExtraError,
    Vol3dSegError,
    failing_alone,
    some_of,
)
from vol3dseg.machine import thread_pool
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.label_values import distinct
from vol3dseg.space.labels import LabelSet, Segmentation, is_labelled
from vol3dseg.space.volume import differing_grids

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_THREADS = 8  # files that are opened at a time: disks of a network are slow to answer


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a case that its user should know.

    Parameters
    ----------
    severity : "error", "warning" or "note"
        Whether the case is refused, is read but looks wrong, or was corrected without harm.
    case : str
    where : str
        The file, or the case.
    found, expected, remedy, listed : str
        Parts of the message; see `Vol3dSegError`.
    traceback : str
        Where the check itself failed, if it did and nobody foresaw that.
    """

    severity: Severity
    case: str
    where: str
    found: str
    expected: str = ""
    remedy: str = ""
    listed: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, error: Vol3dSegError, case: Case, severity: Severity = "error") -> "Finding":
        """Return the finding of what was raised about a case."""
        where = error.where or f"case {case.id}"
        parts = (error.found, error.expected, error.remedy, error.listed, error.traceback)
        return cls(severity, case.id, where, *parts)

    def __str__(self) -> str:
        parts = {"expected": self.expected, "remedy": self.remedy, "listed": self.listed}
        return str(Vol3dSegError(self.found, where=self.where, **parts))

    @property
    def message(self) -> str:
        """The message without where it was found."""
        return str(replace(self, where=""))

    @property
    def recorded(self) -> str:
        """The message without what headers say."""
        return str(replace(self, listed=""))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a case is refused, a line for each error."""

    message: str
    recorded: str  # the same without what headers say, which may name the patient
    traceback: str = ""  # of what nobody foresaw


def check(
    dataset: str | Path | Sequence[Case],
    modalities: Sequence[str] | None = None,
    labels: LabelSet | None = None,
    executor: Executor | None = None,
    progress: Callable[[], None] = lambda: None,
    optional: Collection[str] = (),
) -> list[Finding]:
    """Check all files of a data set with all their voxels.

    Parameters
    ----------
    dataset : str, Path or sequence of Case
        A folder in a layout that `find_cases` knows, a dataset table, or cases.
    modalities : sequence of str or None
        Those that every case should have; None expects of each what any of them has.
    labels : LabelSet or None
        What label maps may hold; None takes up to 254 whole numbers besides 0.
    executor : Executor or None
        Where cases are checked side by side; None checks one after the other here.
    progress : callable
        Called after each case.
    optional : collection of str
        Of the modalities, those that a case may lack; which ones it does is a note.

    Returns
    -------
    list of Finding
        The most severe first, then in order of cases.

    Raises
    ------
    DatasetError
        There are no cases, or their layout is not known. What is wrong with a case is returned.
    """
    cases = find_cases(dataset) if isinstance(dataset, str | Path) else dataset
    expected = modalities_of(cases) if modalities is None else modalities
    function = partial(check_case, modalities=expected, labels=labels, optional=optional)
    found: list[Finding] = []
    for findings in over_cases(function, cases, executor, lambda c, e: [Finding.of(e, c)]):
        found += findings
        progress()
    found += _unlabelled(cases)
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), finding.case))


def check_case(
    case: Case,
    modalities: Sequence[str],
    labels: LabelSet | None = None,
    voxels: bool = True,
    optional: Collection[str] = (),
) -> list[Finding]:
    """Return what is found of all files of a case, the most severe first; see `check`.

    Without `voxels`, headers alone are checked, which takes hardly any time.
    """
    found = _Check(case, modalities, labels, voxels, optional).run()
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _unlabelled(cases: Sequence[Case]) -> Iterator[Finding]:
    """Give the cases without a label map, if others have one or a file looks like theirs."""
    labelled = any(case.label for case in cases)
    for case in cases:
        if case.label is None and case.likely_labels:
            yield Finding(
                "warning", case.id, some_of([str(path) for path in case.likely_labels]),
                "looks like a label map, but its case has none by the names of files",
                remedy="name it as the layout has it, or in the column label of a dataset table",
            )  # fmt: skip
        elif case.label is None and labelled:
            yield Finding("note", case.id, f"case {case.id}", "has no label map")


def preflight(
    cases: Sequence[Case],
    modalities: Sequence[str],
    labelled: bool = True,
    optional: Collection[str] = (),
) -> dict[str, Refusal]:
    """Return which cases would be refused and why, by id, from headers alone.

    Label maps matter where `labelled`; `optional` modalities may be missing.
    """
    checked = [case if labelled else replace(case, label=None) for case in cases]
    function = partial(check_case, modalities=modalities, voxels=False, optional=optional)
    refused = {}
    with thread_pool(_THREADS) as pool:
        for case, found in zip(cases, pool.map(function, checked), strict=True):
            errors = [finding for finding in found if finding.severity == "error"]
            if errors:
                recorded = "\n".join(error.recorded for error in errors)
                traceback = "\n".join(error.traceback for error in errors if error.traceback)
                refused[case.id] = Refusal("\n".join(map(str, errors)), recorded, traceback)
    return refused


@dataclass(slots=True)
class _Check:
    """What was found of a case so far."""

    case: Case
    modalities: Sequence[str]
    labels: LabelSet | None
    voxels: bool
    optional: Collection[str]
    found: list[Finding] = field(default_factory=list)
    grids: dict[str, Geometry] = field(default_factory=dict)

    def run(self) -> list[Finding]:
        with self._errors():
            self._name()
            present = self.case.select(self.modalities, self.optional).images
            if lacking := [name for name in self.modalities if name not in present]:
                may = "is" if len(lacking) == 1 else "are"
                said = f"{' and '.join(lacking)} {may} missing, as the config allows"
                self._say("note", f"case {self.case.id}", said)
        images = {n: self.case.images[n] for n in self.modalities if n in self.case.images}
        for names in by_file(images):
            with self._errors():
                self._file(names)
        grids = {name: self.grids[name] for name in images if name in self.grids}
        if grids:
            self._add("error", *differing_grids(grids, f"case {self.case.id}", self.case.files))
        if self.case.label is not None:
            self.case = replace(self.case, images={name: images[name] for name in grids})
            with self._errors():
                self._label(next(iter(grids.values()), None))
        return self.found

    def _name(self) -> None:
        if not is_fit_id(self.case.id):
            raise DatasetError(
                "its name cannot become that of other files",
                where=f"case {self.case.id}",
                expected=f"text in UTF-8 with {FIT_ID}",
                remedy="rename its folder or files",
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with failing_alone(f"case {self.case.id}", "checking"):
                yield
        except MissingExtraError:  # is nothing about this case
            raise
        except Vol3dSegError as error:
            self._add("error", error)

    def _add(self, severity: Severity, *errors: Vol3dSegError) -> None:
        self.found += [Finding.of(error, self.case, severity) for error in errors]

    def _say(self, severity: Severity, where: object, found: str) -> None:
        self._add(severity, Vol3dSegError(found, where=where))

    def _notes(self, notes: Sequence[Note], where: object) -> None:
        for note in notes:
            self._say("note", where, f"{note}{' (repaired)' if note.repaired else ''}")

    def _file(self, names: Sequence[str]) -> None:
        file = SourceFile(self.case.images[names[0]], self.case.repair)
        for name in names:
            with self._errors():
                self._image(file, name)
        self._notes(file.notes, file.path)

    def _image(self, file: SourceFile, name: str) -> None:
        source = self.case.images[name]
        self.grids[name] = file.grid(source)
        if not self.voxels:
            return
        array, _, replaced = file.read(source)
        if is_flat(array):
            self._add("error" if self.case.label else "warning", no_contrast(name, source.path))
        if replaced:
            found = f"{replaced} voxels of {name} are NaN or infinite; read as {source.nan:g}"
            self._say("note", source.path, found)

    def _label(self, grid: Geometry | None) -> None:
        file = open_label(self.case)
        own = file.geometry()
        if grid is not None:
            self._add("error", *differing_label_grid(self.case, own, grid))
        if self.voxels:
            self._classes(file.segmentation(self.labels, grid))
        self._notes(file.notes, file.path)

    def _classes(self, found: Segmentation) -> None:
        present = distinct(found.array)
        required = self.labels.required if self.labels else ()
        lacking = [name for name in required if found.labels.index(name) not in present]
        if not is_labelled(np.array(present, np.uint8)).any():
            empty = "the label map is empty: all of it is background"
            self._say("warning", self.case.label, empty)
        elif lacking:
            lacks = f"lacks the required class {', '.join(lacking)}; preprocess leaves it out"
            self._say("note", self.case.label, lacks)
