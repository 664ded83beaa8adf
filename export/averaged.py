"""The folds of a cross-validation as one network: the average of what each of them gives."""

from pathlib import Path

from vol3dseg.datasets.splits import Split
from vol3dseg.errors import RunError
from vol3dseg.export.standalone import require_standalone
from vol3dseg.export.trained import Trained, of_run
from vol3dseg.model.manifest import read_run_manifest
from vol3dseg.training.held_out import deployed_checkpoint, fold_folder, fold_numbers
from vol3dseg.training.pooled_folds import (
    RECORD_NAME,
    CrossValidation,
    read_cross_validation,
    require_alike,
)
from vol3dseg.written import sha256_file

_AGAIN = "finish it with vol3dseg cross-validate --resume"


def is_cross_validation(folder: Path) -> bool:
    """Tell whether a folder is of `vol3dseg cross-validate`, finished or not."""
    return (folder / RECORD_NAME).is_file() or bool(fold_numbers(folder))


def read_folds_of(folder: Path) -> CrossValidation:
    """Return the record of a cross-validation whose folds are still those that were judged."""
    if not is_cross_validation(folder):
        raise RunError(
            "no cross-validation",
            where=folder,
            expected="a folder of vol3dseg cross-validate",
            remedy="leave out --each, if it is a run",
        )
    if not (folder / RECORD_NAME).is_file():
        raise RunError(
            "an unfinished cross-validation",
            where=folder,
            expected=f"{RECORD_NAME}, which is written when all folds are done",
            remedy=f"{_AGAIN}, or export one fold: {fold_folder(folder, fold_numbers(folder)[0])}",
        )
    record = read_cross_validation(folder)
    for number, fold in enumerate(record.folds, start=1):
        checkpoint = deployed_checkpoint(fold_folder(folder, number))
        if not checkpoint.is_file() or sha256_file(checkpoint) != fold.checkpoint_sha256:
            raise RunError(
                "is not the checkpoint that was judged",
                where=checkpoint,
                expected=f"the one that {RECORD_NAME} names",
                remedy=_AGAIN,
            )
    return record


def of_folds(folder: Path, prepared: Path | None, standalone: bool) -> Trained:
    """Load the networks of all folds; the manifest is that of their average."""
    record = read_folds_of(folder)
    manifest = read_run_manifest(folder)
    if standalone:
        require_standalone(manifest, str(folder))
    numbers = range(1, len(record.folds) + 1)
    folds = {
        number: of_run(fold_folder(folder, number), prepared, standalone) for number in numbers
    }
    require_alike({number: fold.manifest for number, fold in folds.items()}, folder)
    return Trained(
        models=tuple(model for fold in folds.values() for model in fold.models),
        manifest=manifest,
        prepared=folds[1].prepared,
        # Each is unseen by one member alone, so none is there to judge the average on.
        split=Split(train=tuple(case for fold in record.folds for case in fold.cases)),
        notes=tuple(dict.fromkeys(note for fold in folds.values() for note in fold.notes)),
    )
