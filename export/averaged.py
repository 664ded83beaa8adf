"""The folds of a cross-validation as one network: the average of what each of them gives."""

from pathlib import Path

from vol3dseg.datasets.splits import Split
from vol3dseg.export.standalone import require_standalone
from vol3dseg.export.trained import Trained, of_run
from vol3dseg.model.manifest import read_run_manifest
from vol3dseg.training.held_out import fold_folder
from vol3dseg.training.pooled_folds import read_folds_of, require_alike


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
