"""Which cases are looked at, and which files each of them has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.layouts.label_names import named_labels
from vol3dseg.datasets.selection import reference_cases
from vol3dseg.errors import EvaluationError, some_of
from vol3dseg.formats import label_stem
from vol3dseg.formats.dicom.series import holds_files
from vol3dseg.inference.record import RECORD_NAME, Record, load_record
from vol3dseg.quality.background import Window
from vol3dseg.reporting.matching import predicted_files
from vol3dseg.space.labels import LabelSet


@dataclass(frozen=True, slots=True)
class ShownCase:
    """The files of one case: its images, and label maps as far as there are any."""

    images: Case
    prediction: Path | None
    reference: Case | None


@dataclass(frozen=True, slots=True)
class Exhibition:
    """All cases that are looked at, and what the values of their label maps mean.

    Without labels, classes are named by their values.
    """

    cases: tuple[ShownCase, ...]
    labels: LabelSet | None
    ours: bool  # whether a record says that the predictions are ours
    windows: Mapping[str, Window]  # of modalities, as the config has them
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> LabelSet | None:
        """What the values of predictions mean."""
        return self.labels and self.labels.of_predictions(self.ours)


def gather(
    images: Sequence[Path],
    segmentation: Path | None = None,
    reference: Path | None = None,
    config: str | Path | None = None,
) -> Exhibition:
    """Look what is there; no voxel is read. Arguments and errors are those of `view`."""
    cases = _cases(images)
    record = _record(segmentation)
    predictions, references = dict[str, Path](), {c.id: c for c in cases if c.label is not None}
    if segmentation is not None:
        one = _only(segmentation, cases)
        predictions = {one: segmentation} if one else predicted_files(segmentation, record)
    if reference is not None:
        one = _only(reference, cases)
        found = {one: Case(one, one, {}, reference)} if one else reference_cases(reference)
        references = {name: case for name, case in found.items() if case.label is not None}
    shown, notes = cases, list[str]()
    if record is not None:
        notes.append(f"predicted by the model of SHA-256 {record.model_sha256}")
    if segmentation is not None:
        shown = _having(predictions, segmentation, shown, notes)
    elif reference is not None:
        shown = _having(references, reference, shown, notes)
    if reference is not None and (lacking := [c.id for c in shown if c.id not in references]):
        notes.append(f"without a reference: {some_of(lacking)}")
        _having(references, reference, shown, [])
    chosen = load_config(config) if config else None
    places = [p for path in (*images, segmentation, reference) if path for p in (path, path.parent)]
    labels = chosen.labels if chosen else record.labels if record else named_labels(*places)
    return Exhibition(
        tuple(ShownCase(c, predictions.get(c.id), references.get(c.id)) for c in shown),
        labels,
        record is not None,
        chosen.recipe.windows if chosen else {},
        tuple(notes),
    )


def _having(
    maps: Mapping[str, object], where: Path, cases: Sequence[Case], notes: list[str]
) -> list[Case]:
    """Return the cases that have a label map; raise an EvaluationError where none has."""
    if not (found := [case for case in cases if case.id in maps]):
        raise EvaluationError(
            f"holds label maps of {some_of(list(maps)) or 'nothing'}",
            where=where,
            expected=f"those of the images: {some_of([case.id for case in cases])}",
            remedy="name each label map like its case",
        )
    known = {case.id for case in cases}
    if strangers := [name for name in maps if name not in known]:
        notes.append(f"left out, for they have no image: {some_of(strangers)}")
    return found


def _cases(images: Sequence[Path]) -> list[Case]:
    """Return the cases of a data set, or the one that some files are the images of."""
    first = images[0]
    if len(images) == 1 and not _is_series(first) and (first.is_dir() or layout_of(first)):
        return find_cases(first)
    stems = [label_stem(path) or path.name for path in images]
    # Of "Case_flair" and "Case_t1", the case is what they share before the last underscore.
    parts = [stem.split("_") for stem in stems]
    same = takewhile(lambda each: len({*each}) == 1, zip(*(p[:-1] for p in parts), strict=False))
    shared = [each[0] for each in same] if len(stems) > 1 else []
    names = ["_".join(p[len(shared) :]) for p in parts]
    if len({*names}) < len(names):
        names = [str(path) for path in images]
    sources = {n: ImageSource(path) for n, path in zip(names, images, strict=True)}
    name = "_".join(shared) or stems[0]
    return [Case(name, name, sources)]


def _only(maps: Path, cases: Sequence[Case]) -> str:
    """Return the case of what is one label map; empty of a folder or a table of several."""
    if not maps.exists():
        raise EvaluationError(
            "does not exist",
            where=maps,
            expected="a label map or a folder of them",
            remedy="check the path",
        )
    if not _is_series(maps) and (maps.is_dir() or layout_of(maps)):
        return ""
    if maps.is_dir() and (len(cases) > 1 or (maps / f"{cases[0].id}.dcm").exists()):
        return ""  # a DICOM-SEG for each case
    if len(cases) > 1:
        raise EvaluationError(
            f"is one label map, but there are {len(cases)} cases",
            where=maps,
            expected="a folder with a label map for each, named by case",
            remedy="give that folder, or the images of one case",
        )
    return cases[0].id


def _is_series(path: Path) -> bool:
    return path.is_dir() and holds_files(path)


def _record(predictions: Path | None) -> Record | None:
    if predictions is None:
        return None
    folder = predictions if predictions.is_dir() else predictions.parent
    return load_record(folder) if (folder / RECORD_NAME).exists() else None
