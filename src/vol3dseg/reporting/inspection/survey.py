"""All cases of a data set measured and ranked, and pictures of some of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from vol3dseg.datasets.case import Case, modalities_of
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.errors import Vol3dSegError
from vol3dseg.quality.background import Window
from vol3dseg.quality.case_facts import CaseFacts, ModalityFacts, measure
from vol3dseg.quality.expectations import FEWEST_CASES
from vol3dseg.quality.suspects import Verdict, rank
from vol3dseg.reporting.inspection.thumbnails import Picture, draw
from vol3dseg.space.intake import by_note
from vol3dseg.space.labels import LabelSet

Progress = Callable[[str, int], None]

_MOST_SUSPECTS = 200  # with pictures; where more are suspect, the limits do not fit the set
_EXAMPLE_SIDE = 280  # pixels


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a data set.

    Parameters
    ----------
    cases : tuple of CaseFacts
        In order of their ids.
    verdicts : tuple of Verdict
        The most suspicious first.
    left_out : mapping from case id to str
        Cases that `vol3dseg preprocess` will leave out, with the reason.
    required : tuple of str
        The classes that a case must have, by the config.
    modalities, classes : tuple of str
    windows : mapping from modality to (low, high)
        Those of the config that it is normalised by.
    title, layout : str
        Name of the folder, and how it is laid out.
    """

    cases: tuple[CaseFacts, ...]
    verdicts: tuple[Verdict, ...]
    left_out: dict[str, str]
    required: tuple[str, ...]
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    windows: Mapping[str, Window] = field(default_factory=dict)
    title: str = ""
    layout: str = ""

    @property
    def suspects(self) -> tuple[Verdict, ...]:
        """The verdicts that hold a reason for suspicion."""
        return tuple(verdict for verdict in self.verdicts if verdict.reasons)

    def facts_of(self, modality: str) -> list[ModalityFacts]:
        """Return the facts of a modality in all cases that have it."""
        return [case.modalities[modality] for case in self.cases if modality in case.modalities]

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be measured, and why: nothing is known against their files."""
        return {case.case_id: case.failed for case in self.cases if case.failed}

    @property
    def notes(self) -> list[str]:
        """What was harmlessly put right in files, or passed over, with the cases."""
        return by_note({case.case_id: case.notes for case in self.cases}, len(self.cases))

    @property
    def too_few(self) -> str:
        """What is said of a data set that is too small to compare its cases; empty of others."""
        if len(self.cases) >= FEWEST_CASES:
            return ""
        return (
            f"With fewer than {FEWEST_CASES} cases there is nothing to compare: only what is wrong "
            "by itself is found."
        )

    @property
    def example(self) -> str:
        """A case without suspicion, if any, with more foreground than three in four; or ""."""
        suspect = {verdict.case_id for verdict in self.suspects}
        cases = [case for case in self.cases if case.modalities]
        cases = [case for case in cases if case.case_id not in suspect] or cases
        ordered = sorted(cases, key=lambda case: (case.foreground_ml or 0.0, case.case_id))
        return ordered[(3 * (len(ordered) - 1)) // 4].case_id if ordered else ""

    def drawn(self, sample: int) -> list[str]:
        """Return the cases that get pictures: the suspects, and `sample` of the others."""
        suspects = [verdict.case_id for verdict in self.suspects][:_MOST_SUSPECTS]
        others = [verdict.case_id for verdict in self.verdicts if not verdict.reasons]
        rng = np.random.default_rng(0)
        picked = rng.choice(len(others), min(sample, len(others)), replace=False)
        return suspects + [others[n] for n in sorted(picked.tolist())]


class Gallery(NamedTuple):
    """The pictures of cases by their id, and larger ones of the example."""

    example: tuple[Picture, ...]
    drawings: dict[str, tuple[Picture, ...]]


def survey(
    cases: Sequence[Case],
    modalities: tuple[str, ...] | None = None,
    labels: LabelSet | None = None,
    executor: Executor | None = None,
    progress: Progress = lambda stage, total: None,
    windows: Mapping[str, Window] | None = None,
    optional: Collection[str] = (),
) -> Survey:
    """Measure all cases and rank them; memory holds facts only, beside one case a process.

    Every case should have the `modalities`, but for `optional` ones; None expects of all what any
    of them has. Without `labels`, classes are named by their values.
    """
    modalities = modalities or modalities_of(cases)
    windows = windows or {}
    function = partial(
        measure, modalities=modalities, labels=labels, windows=windows, optional=optional
    )
    found = []
    for facts in over_cases(function, cases, executor, _failed):
        found.append(facts)
        progress("measuring", len(cases))
    found.sort(key=lambda facts: facts.case_id)
    required = labels.required if labels else ()
    names = {name for facts in found for name in facts.volumes_ml or {}}
    by_length = tuple(sorted(names, key=lambda name: (len(name), name)))  # value 2 before value 10
    return Survey(
        cases=tuple(found),
        verdicts=tuple(rank(found)),
        left_out=_left_out(found, required),
        required=required,
        modalities=modalities,
        classes=labels.foreground if labels else by_length,
        windows=windows,
    )


def _failed(case: Case, error: Vol3dSegError) -> CaseFacts:
    why = error.recorded
    return CaseFacts(case.id, case.subject, problems=(why,), failed=why, traceback=error.traceback)


def _left_out(cases: Sequence[CaseFacts], required: Sequence[str]) -> dict[str, str]:
    lacking = {
        case.case_id: [
            name
            for name in required
            if not case.volumes_ml.get(name) and name not in case.unannotated
        ]
        for case in cases
        if case.volumes_ml is not None
    }
    return {
        i: f"lacks the required class {', '.join(names)}" for i, names in lacking.items() if names
    }


def draw_cases(
    cases: Sequence[Case],
    found: Survey,
    labels: LabelSet | None = None,
    sample: int = 100,
    executor: Executor | None = None,
    progress: Progress = lambda stage, total: None,
) -> Gallery:
    """Draw the suspects and a `sample` of the other cases, chosen by a fixed seed."""
    task = partial(
        draw,
        modalities=found.modalities,
        labels=labels,
        classes=found.classes,
        windows=found.windows,
    )
    by_id = {case.id: case for case in cases}
    chosen, drawings = [by_id[i] for i in found.drawn(sample)], {}
    for case_id, pictures in over_cases(task, chosen, executor, _undrawn):
        drawings[case_id] = pictures
        progress("drawing", len(chosen))
    large = partial(task, side=_EXAMPLE_SIDE)
    shown = [by_id[found.example]] if found.example else []
    example = [picture for _, row in over_cases(large, shown, None, _undrawn) for picture in row]
    return Gallery(tuple(example), drawings)


def _undrawn(case: Case, _: Vol3dSegError) -> tuple[str, tuple[Picture, ...]]:
    return case.id, ()
