"""Each fold of a cross-validation as an ONNX file of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vol3dseg.export.to_onnx import require_one_kind, write_trained
from vol3dseg.export.trained import of_run
from vol3dseg.files import require_writable
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.model.signing_keys import Signer, written_for
from vol3dseg.reporting.fold_scores import as_validation
from vol3dseg.training.held_out import fold_folder
from vol3dseg.training.pooled_folds import read_folds_of

HELD_OUT = "of what one fold of a cross-validation holds out"


def export_folds(
    source: str | Path,
    output: str | Path,
    *,
    prepared: str | Path | None = None,
    standalone: bool = False,
    int8: bool = False,
    signer: Signer | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[Path, Manifest]:
    """Write fold-1.onnx, fold-2.onnx, ... of a finished cross-validation into a folder.

    Each says how it does on what it holds out, which int8 is judged on as well. For parameters and
    errors see `export_onnx`.
    """
    require_one_kind(standalone, int8)
    source, folder = Path(source), Path(output)
    record, average = read_folds_of(source), read_run_manifest(source)
    files = {n: folder / f"fold-{n}.onnx" for n in range(1, len(record.folds) + 1)}
    each = [path.name for file in files.values() for path in written_for(file, signer)]
    require_writable(folder, each)
    patches = None if prepared is None else Path(prepared)
    made = {}
    for number, file in files.items():
        trained = of_run(fold_folder(source, number), patches, standalone)
        held = record.folds[number - 1]
        facts = {
            "validation": as_validation(held.scores, HELD_OUT),
            "postprocessing": average.postprocessing,  # which was chosen on all that is held out
        }
        trained = replace(
            trained, manifest=trained.manifest.model_copy(update=facts), judged=held.cases
        )
        progress(f"fold {number} -> {file}")
        made[file] = write_trained(trained, file, patches, standalone, int8, progress, None, signer)
    return made
