"""What the folds of a cross-validation say of the cases that they had not seen.

`CV/fold-K/held-out.json` is written when all held-out cases of a fold are segmented, by which
checkpoint; the label maps lie in `CV/predictions`. Nothing here needs TensorFlow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from vol3dseg.errors import RunError, some_of
from vol3dseg.files import sha256_json
from vol3dseg.formats import NIFTI, read_labels
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.record import CaseRecord, Record
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.store import open_cases
from vol3dseg.schema import Frozen, read_json
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.written import sha256_file

PREDICTIONS, FILE_NAME = "predictions", "held-out.json"
PROVIDER = "TensorFlow, float32; each case by the fold that had not seen it"
AGAIN = "write it anew with vol3dseg cross-validate --resume"


class HeldOut(Frozen):
    """What became of the cases that a fold holds out.

    Attributes
    ----------
    checkpoint_sha256 : str
        Of the .keras file that segmented them.
    cases : mapping from case to CaseRecord
        As in predictions.json.
    """

    format: Literal["vol3dseg.held-out"] = "vol3dseg.held-out"
    version: Literal[1] = 1
    checkpoint_sha256: str
    cases: dict[str, CaseRecord]


class HeldOutCase(NamedTuple):
    """A case with what its fold, which had not seen it, found in it; both on the grid as read."""

    fold: int
    case_id: str
    reference: Segmentation
    prediction: Segmentation


def fold_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a fold."""
    return folder / f"fold-{number}"


def test_scores(folder: Path, number: int) -> Path:
    """Return the folder of the scores of a fold's held-out cases: the test part of its split."""
    return fold_folder(folder, number) / "scores" / "test"


def prediction_file(case_id: str) -> str:
    """Return the name of the segmentation of a held-out case."""
    return f"{case_id}{NIFTI.suffix}"


def fold_numbers(folder: Path) -> tuple[int, ...]:
    """Return the folds that a cross-validation has run folders of, in order."""
    names = (path.name.removeprefix("fold-") for path in folder.glob("fold-*"))
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def deployed_checkpoint(run: Path) -> Path:
    """Return the checkpoint that a finished run is deployed by."""
    return run / f"{read_run_manifest(run).trained[0].checkpoint}.keras"


def read_held_out(folder: Path, number: int) -> HeldOut:
    """Read what became of the held-out cases of a fold."""
    path, wanted = fold_folder(folder, number) / FILE_NAME, "what cross-validate writes of a fold"
    return read_json(HeldOut, path, RunError, expected=wanted, remedy=AGAIN)


def is_judged(folder: Path, number: int, checkpoint: Path) -> bool:
    """Tell whether a fold has segmented what it holds out, by this checkpoint, as it lies there."""
    if not (fold_folder(folder, number) / FILE_NAME).is_file():
        return False
    found = read_held_out(folder, number)
    paths = {folder / PREDICTIONS / made.file: made.sha256 for made in found.cases.values()}
    return (
        checkpoint.is_file()
        and found.checkpoint_sha256 == sha256_file(checkpoint)
        and all(path.is_file() and sha256_file(path) == digest for path, digest in paths.items())
    )


def held_out_cases(
    folder: Path, prepared: Path, manifest: Manifest, numbers: Mapping[int, HeldOut]
) -> Iterator[HeldOutCase]:
    """Give all held-out cases of these folds, one at a time."""
    index, modalities = load_index(prepared), manifest.recipe.modalities
    written = manifest.labels.of_predictions(ours=True)
    for number, found in numbers.items():
        stored = open_cases(prepared, index, found.cases, modalities)
        for case_id, case in stored.items():
            file = folder / PREDICTIONS / found.cases[case_id].file
            yield HeldOutCase(
                number,
                case_id,
                case.reference(manifest.labels),
                _read(file, written, manifest.labels),
            )


@dataclass(frozen=True, slots=True)
class HeldOutMaps:
    """Reference and prediction of every held-out case, read anew whenever they are gone through."""

    folder: Path
    prepared: Path
    manifest: Manifest
    folds: Mapping[int, HeldOut]

    def __iter__(self) -> Iterator[tuple[str, Segmentation, Segmentation]]:
        """Give the id of a case, its reference and its prediction."""
        for case in held_out_cases(self.folder, self.prepared, self.manifest, self.folds):
            yield case.case_id, case.reference, case.prediction


def _read(file: Path, written: LabelSet, labels: LabelSet) -> Segmentation:
    read = read_labels(file, written)
    return Segmentation(read.array, read.geometry, labels, read.notes)


def record_of(manifest: Manifest, folds: Mapping[int, HeldOut]) -> Record:
    """Return `predictions.json` of all folds together."""
    digests = {str(number): fold.checkpoint_sha256 for number, fold in folds.items()}
    origin = Origin("cross-validation", sha256_json(digests), PROVIDER)
    cases = {case: made for fold in folds.values() for case, made in fold.cases.items()}
    return Record.of(manifest, origin).with_cases(dict(sorted(cases.items())))


def require_each_once(cases: Mapping[str, int], every: Mapping[str, str]) -> None:
    """Refuse folds that leave a labelled case out; `cases` by how many folds hold them out."""
    if missing := sorted(set(every) - set(cases)):
        raise RunError(
            f"{len(missing)} cases are held out by no fold: {some_of(missing)}",
            expected="each case held out once",
            remedy="add them to the val of a fold, or leave them out of the data set",
        )
