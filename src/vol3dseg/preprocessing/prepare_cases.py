"""Prepare a whole data set: many cases, some of them bad, perhaps not for the first time."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.checks import flat_modalities, no_contrast, preflight
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.datasets.signature import is_current, signature
from vol3dseg.errors import DatasetError, Vol3dSegError
from vol3dseg.files import sha256_file
from vol3dseg.preprocessing.index import FILE_NAME, CaseEntry, Index, load_index
from vol3dseg.preprocessing.prepare import Prepared, prepare, prepare_labels, restore_labels
from vol3dseg.preprocessing.recipe import Recipe
from vol3dseg.preprocessing.store import write_case
from vol3dseg.space.intake import in_words
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.volume import Volume

_SAVING = 0.05  # of the time may go into writing the index, which grows with every case


@dataclass(frozen=True, slots=True)
class Task:
    """How cases are prepared and where they go."""

    recipe: Recipe
    labels: LabelSet
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case: an entry, or the reason why there is none.

    Parameters
    ----------
    case_id : str
    entry : CaseEntry or None
    left_out, failed : str
        The reason in words; empty where it does not apply. A line for each thing that is wrong.
    """

    case_id: str
    entry: CaseEntry | None = None
    left_out: str = ""
    failed: str = ""


def preprocess(
    cases: Sequence[Case],
    folder: Path,
    config: Mapping[str, Any],
    recipe: Recipe,
    labels: LabelSet,
    executor: Executor | None = None,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Index:
    """Prepare cases into `folder`; only what is missing or has changed is done.

    A case that fails is named in the index with its reason, and the others go on. What headers tell
    is checked of all cases before the first is prepared.

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
        Called with each outcome as it comes, and with those of earlier runs that still hold.

    Returns
    -------
    Index
        Also written to `folder/index.json`, now and then, so that a killed run can go on: after
        each case, or less often where there are so many that writing would take more than a
        twentieth of the time.

    Raises
    ------
    DatasetError
        There are no cases.
    RecipeMismatch, StoreError
        `folder` was prepared with another recipe or other labels.
    MissingExtraError
        A step of the recipe needs what is not installed.
    """
    recipe.require_extras()
    if not cases:
        raise DatasetError("there are no cases to prepare; choose a folder that holds some")
    known = _known_entries(folder, recipe, labels)
    task = Task(recipe, labels, folder)
    done = {c.id: known[c.id] for c in cases if _is_made(c, task, known)}
    outcomes = {i: _outcome(entry, labels) for i, entry in done.items()}

    def index() -> Index:
        ordered = [outcomes[i] for i in sorted(outcomes)]
        return Index(
            recipe=recipe,
            fingerprint=recipe.fingerprint,
            labels=labels,
            config=dict(config),
            cases=tuple(o.entry for o in ordered if o.entry),
            left_out={o.case_id: o.left_out for o in ordered if o.left_out},
            failed={o.case_id: o.failed for o in ordered if o.failed},
        )

    wanted = [case for case in cases if case.id not in done]
    refused = preflight(wanted, recipe.modalities)
    for outcome in outcomes.values():
        progress(outcome)
    for case_id, why in refused.items():
        outcomes[case_id] = Outcome(case_id, failed=why.recorded)
        progress(Outcome(case_id, failed=why.said))
    accepted = [case for case in wanted if case.id not in refused]
    due = 0.0
    for outcome in over_cases(partial(prepare_case, task=task), accepted, executor, _killed):
        outcomes[outcome.case_id] = outcome
        started = time.monotonic()
        if started >= due:
            index().save(folder)
            ended = time.monotonic()
            due = ended + (ended - started) / _SAVING
        progress(outcome)
    result = index()
    result.save(folder)
    return result


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


def _killed(case: Case, error: DatasetError) -> Outcome:
    return Outcome(case.id, failed=error.recorded)


def prepare_case(case: Case, task: Task) -> Outcome:
    """Read, prepare and write one case; never raises an error of ours, but returns it in words."""
    try:
        volume = read_volume(case, task.recipe.modalities)
        for name in flat_modalities(volume):
            raise no_contrast(name, case.images[name].path)
        chosen = case.select(task.recipe.modalities)
        label = read_segmentation(chosen, task.labels, volume.geometry) if case.label else None
        why = _left_out(_class_voxels(label), task.labels)
        if why:
            return Outcome(case.id, left_out=why)
        entry = _prepare_and_write(case, task, prepare(volume, task.recipe), label)
        return Outcome(case.id, entry.model_copy(update=_intake(volume, label)))
    except Vol3dSegError as error:
        return Outcome(case.id, failed=error.recorded)


def _intake(volume: Volume, label: Segmentation | None) -> dict[str, Any]:
    """Return what an entry says of how the files were read."""
    notes = {**volume.notes, "label": label.notes if label else ()}
    return {
        "replaced": dict(volume.replaced),
        "notes": in_words(notes, repaired=False),
        "repairs": in_words(notes, repaired=True),
    }


def _class_voxels(label: Segmentation | None) -> dict[str, int] | None:
    return dict(zip(label.labels.names, label.counts(), strict=True)) if label else None


def _outcome(entry: CaseEntry, labels: LabelSet) -> Outcome:
    """Return what becomes of a case that is prepared already."""
    why = _left_out(entry.class_voxels, labels)
    return Outcome(entry.id, left_out=why) if why else Outcome(entry.id, entry)


def _left_out(class_voxels: Mapping[str, int] | None, labels: LabelSet) -> str:
    """Return in words why a case is left out; empty where it is not, or has no label map."""
    lacking = [name for name in labels.required if class_voxels and not class_voxels[name]]
    return f"lacks the required class {', '.join(lacking)}" if lacking else ""


def _prepare_and_write(
    case: Case, task: Task, prepared: Prepared, label: Segmentation | None
) -> CaseEntry:
    name = f"cases/{case.id}.h5"
    path = task.folder / name
    working = prepare_labels(label, prepared) if label else None
    sources = signature(case, task.recipe.modalities, with_label=True)
    both = (working, label) if working and label else None
    write_case(path, case.id, task.recipe, prepared, both)
    outside, changed = _losses(label, working) if label and working else (0, 0)
    return CaseEntry(
        id=case.id,
        subject=case.subject,
        file=name,
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        sources=sources,
        shape=prepared.volume.geometry.shape,
        source_shape=prepared.source.shape,
        source_spacing_mm=prepared.source.spacing_mm,
        class_voxels=_class_voxels(label),
        appearance=prepared.appearance,
        labels_outside=outside,
        labels_changed=changed,
    )


def _losses(label: Segmentation, working: Segmentation) -> tuple[int, int]:
    """Count the foreground voxels outside the box, and all voxels that do not come home alike."""
    home = restore_labels(working, label.geometry)
    everywhere = Segmentation(np.ones_like(working.array), working.geometry, label.labels)
    inside = restore_labels(everywhere, label.geometry).array == 1
    outside = int(np.count_nonzero((label.array > 0) & ~inside))
    return outside, int(np.count_nonzero(home.array != label.array))
