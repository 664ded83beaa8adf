"""One case, read, prepared and written: what a worker process does."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vol3dseg.config import Config
from vol3dseg.datasets.case import Case, begun
from vol3dseg.datasets.contrast import flat_modalities, no_contrast
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.datasets.signature import signature
from vol3dseg.errors import MissingExtraError, OutputError, Vol3dSegError, failing_alone
from vol3dseg.files import trace
from vol3dseg.preprocessing.index import CASES, CaseEntry
from vol3dseg.preprocessing.prepare import prepare, prepare_labels, restore_labels
from vol3dseg.preprocessing.store import write_case
from vol3dseg.space.intake import notes_as_text
from vol3dseg.space.labels import LabelSet, Segmentation, is_labelled
from vol3dseg.written import sha256_file


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case: an entry, or in words why there is none; a line for each fault."""

    case_id: str
    entry: CaseEntry | None = None
    left_out: str = ""
    failed: str = ""
    traceback: str = ""  # of what failed and nobody foresaw
    removed: str = ""  # it is no longer in the data set


def prepare_case(case: Case, config: Config, folder: Path) -> Outcome:
    """Read, prepare and write one case; what is wrong with it is returned in words.

    OutputError and MissingExtraError are raised: other cases would fare no better.
    """
    try:
        with trace(folder / CASES, begun(case.id)), failing_alone(f"case {case.id}", "preparing"):
            return _prepared(case, config, folder)
    except (OutputError, MissingExtraError):
        raise
    except Vol3dSegError as error:
        return without_entry(case, error)


def without_entry(case: Case, error: Vol3dSegError) -> Outcome:
    """Return what has become of a case that failed."""
    return Outcome(case.id, failed=error.recorded, traceback=error.traceback)


def _prepared(case: Case, config: Config, folder: Path) -> Outcome:
    recipe, labels, optional = config.recipe, config.labels, config.optional
    # Before the files are read: one that is replaced meanwhile must not count as read.
    sources = signature(case, recipe.modalities, with_label=True)
    volume = read_volume(case, recipe.modalities, optional)
    for name in flat_modalities(volume):
        raise no_contrast(name, case.images[name].path)
    label = None
    if case.label:
        label = read_segmentation(case.select(volume.modalities), labels, volume.geometry)
    class_voxels = dict(zip(labels.names, label.counts(), strict=True)) if label else None
    unannotated = label.unannotated if label else ()
    why = _left_out(class_voxels, unannotated, labels)
    if why:
        return Outcome(case.id, left_out=why)
    prepared = prepare(volume, recipe, optional=optional)
    notes = {**volume.notes, "label": label.notes if label else ()}
    maps = (prepare_labels(label, prepared), label) if label else None
    file = f"{CASES}/{case.id}.h5"
    path = folder / file
    contents = write_case(path, case.id, recipe, prepared, maps)
    outside, changed = _losses(*maps) if maps else (0, 0)
    entry = CaseEntry(
        id=case.id,
        subject=case.subject,
        file=file,
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        contents=contents,
        sources=sources,
        shape=prepared.volume.geometry.shape,
        source_shape=prepared.source.shape,
        source_spacing_mm=prepared.source.spacing_mm,
        class_voxels=class_voxels,
        missing=tuple(name for name in recipe.modalities if name not in volume.modalities),
        unannotated=unannotated,
        likely_labels=tuple(f"{p.parent.name}/{p.name}" for p in case.likely_labels),
        appearance=prepared.appearance,
        labels_outside=outside,
        labels_changed=changed,
        replaced=dict(volume.replaced),
        notes=notes_as_text(notes, repaired=False),
        repairs=notes_as_text(notes, repaired=True),
    )
    return Outcome(case.id, entry)


def outcome_of(entry: CaseEntry, labels: LabelSet) -> Outcome:
    """Return what becomes of a case that is prepared already: other classes may be required now."""
    why = _left_out(entry.class_voxels, entry.unannotated, labels)
    return Outcome(entry.id, left_out=why) if why else Outcome(entry.id, entry)


def _left_out(
    class_voxels: Mapping[str, int] | None, unannotated: Collection[str], labels: LabelSet
) -> str:
    """Return in words why a case is left out; empty where it is not, or has no label map."""
    wanted = [name for name in labels.required if name not in unannotated]
    lacking = [name for name in wanted if class_voxels and not class_voxels[name]]
    return f"lacks the required class {', '.join(lacking)}" if lacking else ""


def _losses(working: Segmentation, label: Segmentation) -> tuple[int, int]:
    """Count the foreground voxels outside the box, and all voxels that restoring changes."""
    restored = restore_labels(working, label.geometry)
    everywhere = Segmentation(np.ones_like(working.array), working.geometry, label.labels)
    inside = restore_labels(everywhere, label.geometry).array == 1
    outside = int(np.count_nonzero(is_labelled(label.array) & ~inside))
    return outside, int(np.count_nonzero(restored.array != label.array))
