"""A whole data set looked at: facts of all cases, suspects, who is left out, pictures of some."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vol3dseg.datasets.case import Case, allow_repairs, modalities_of
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.errors import DatasetError
from vol3dseg.quality.case_facts import CaseFacts, measure
from vol3dseg.quality.suspects import Verdict, rank
from vol3dseg.reporting.inspection.thumbnails import Drawing, Picture, draw
from vol3dseg.space.labels import LabelSet

_MOST_SUSPECTS = 200  # with pictures; where more are suspect, the limits do not fit the set
_EXAMPLE_SIDE = 280  # pixels


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a data set.

    Parameters
    ----------
    title : str
        Name of the folder.
    layout : str
    cases : tuple of CaseFacts
        In order of their ids.
    verdicts : tuple of Verdict
        The most suspicious first.
    left_out : mapping from case id to str
        Cases that `vol3dseg preprocess` will leave out, with the reason.
    required : tuple of str
        The classes that a case must have, by the config.
    modalities, classes : tuple of str
    """

    title: str
    layout: str
    cases: tuple[CaseFacts, ...]
    verdicts: tuple[Verdict, ...]
    left_out: dict[str, str]
    required: tuple[str, ...]
    modalities: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def suspects(self) -> tuple[Verdict, ...]:
        """The verdicts that hold a reason for suspicion."""
        return tuple(verdict for verdict in self.verdicts if verdict.reasons)


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of a data set.

    Parameters
    ----------
    example : Drawing or None
        A case without suspicion and with much foreground, larger.
    drawings : mapping from case id to pictures
        Of suspects and of a sample.
    """

    example: Drawing | None
    drawings: dict[str, tuple[Picture, ...]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set comes from and how it is to be read.

    Parameters
    ----------
    folder : Path
    layout : str
    cases : sequence of Case
    modalities : tuple of str
        Those that every case should have.
    labels : LabelSet or None
        None names classes by their values.
    """

    folder: Path
    layout: str
    cases: Sequence[Case]
    modalities: tuple[str, ...]
    labels: LabelSet | None


def find_source(
    folder: Path,
    modalities: tuple[str, ...] | None = None,
    labels: LabelSet | None = None,
    repair: bool = False,
) -> Source:
    """Return the cases in `folder`, and what is expected of them; no voxel is loaded.

    Parameters
    ----------
    folder : Path
        A data set in a known layout, or a dataset table.
    modalities : tuple of str or None
        None expects of every case what any of them has.
    labels : LabelSet or None
    repair : bool
        Read files that are wrong where there is a repair.

    Raises
    ------
    DatasetError
        The folder does not exist or has no known layout.
    """
    cases = allow_repairs(find_cases(folder), repair)
    layout = layout_of(folder)
    name = layout.name if layout else ""
    return Source(folder, name, cases, modalities or modalities_of(cases), labels)


def survey(
    source: Source,
    executor: Executor | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Survey:
    """Measure all cases and rank them; memory holds facts only, beside one case a process.

    Parameters
    ----------
    source : Source
    executor : Executor or None
        Where cases are measured side by side; None does one after the other here.
    progress : callable
        Called after each case.
    """
    function = partial(measure, modalities=source.modalities, labels=source.labels)
    found = {}
    for facts in over_cases(function, source.cases, executor, _killed):
        found[facts.case_id] = facts
        progress()
    cases = tuple(found[case_id] for case_id in sorted(found))
    required = source.labels.required if source.labels else ()
    return Survey(
        title=source.folder.resolve().name,
        layout=source.layout,
        cases=cases,
        verdicts=tuple(rank(cases)),
        left_out=_left_out(cases, required),
        required=required,
        modalities=source.modalities,
        classes=_classes(cases, source.labels),
    )


def _killed(case: Case, error: DatasetError) -> CaseFacts:
    return CaseFacts(case.id, case.subject, problems=(error.recorded,))


def _left_out(cases: Sequence[CaseFacts], required: Sequence[str]) -> dict[str, str]:
    found = {}
    for case in cases:
        if case.volumes_ml is not None:
            lacking = [name for name in required if not case.volumes_ml.get(name)]
            if lacking:
                found[case.case_id] = f"lacks the required class {', '.join(lacking)}"
    return found


def _classes(cases: Sequence[CaseFacts], labels: LabelSet | None) -> tuple[str, ...]:
    if labels is not None:
        return labels.foreground
    names = {name for case in cases for name in case.volumes_ml or {}}
    return tuple(sorted(names, key=lambda name: (len(name), name)))


def gallery(
    source: Source,
    found: Survey,
    sample: int,
    executor: Executor | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Gallery:
    """Draw the suspects and a sample of the other cases.

    Parameters
    ----------
    source : Source
    found : Survey
        Of `source`.
    sample : int
        How many of the cases that are not suspect; drawn by a fixed seed.
    executor, progress
        As for `survey`.

    Raises
    ------
    MissingExtraError
        Pillow is not installed.
    """
    example = _example(found)
    chosen = _chosen(found, sample)
    task = partial(draw, modalities=source.modalities, labels=source.labels, classes=found.classes)
    cases = {case.id: case for case in source.cases}
    drawings = {}
    chosen_cases = [cases[i] for i in chosen]
    for drawing in over_cases(task, chosen_cases, executor, lambda case, _: Drawing(case.id, ())):
        drawings[drawing.case_id] = drawing.pictures
        progress()
    larger = task(cases[example], side=_EXAMPLE_SIDE) if example else None
    return Gallery(larger, drawings)


def count_drawn(found: Survey, sample: int) -> int:
    """Return how many cases `gallery` will draw."""
    return len(_chosen(found, sample))


def _chosen(found: Survey, sample: int) -> list[str]:
    suspects = [verdict.case_id for verdict in found.suspects][:_MOST_SUSPECTS]
    others = [verdict.case_id for verdict in found.verdicts if not verdict.reasons]
    rng = np.random.default_rng(0)
    picked = rng.choice(len(others), min(sample, len(others)), replace=False)
    return suspects + [others[n] for n in sorted(picked.tolist())]


def _example(found: Survey) -> str | None:
    """Return a case without suspicion whose foreground is larger than that of three in four."""
    good = {verdict.case_id for verdict in found.verdicts if not verdict.reasons}
    cases = [c for c in found.cases if c.case_id in good and c.modalities] or [
        c for c in found.cases if c.modalities
    ]
    ordered = sorted(cases, key=lambda c: (c.foreground_ml or 0.0, c.case_id))
    return ordered[(3 * (len(ordered) - 1)) // 4].case_id if ordered else None
