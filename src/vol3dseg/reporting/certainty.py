"""What stands beside a prediction, probabilities and entropy, and whether it was right to be sure.

As `vol3dseg predict --probabilities --uncertainty` writes them, by their names: `<id>_entropy` and
`<id>_probabilities`; `entropy` and `probseg` in place of `dseg` in BIDS derivatives.
"""

from math import isfinite
from pathlib import Path

from vol3dseg.errors import EvaluationError, Vol3dSegError
from vol3dseg.evaluation.calibration import Calibration, Values, calibration
from vol3dseg.formats import FORMATS, label_stem, open_volume
from vol3dseg.formats.image_file import ImageFile
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation

ENTROPY, PROBABILITIES = "entropy", "probabilities"
_IN_BIDS = {ENTROPY: "entropy", PROBABILITIES: "probseg"}
_BIDS_LABELS = "_dseg"
_SUM = 0.01  # by which probabilities of all classes may miss 1, on the mean


def file_beside(prediction: Path, kind: str) -> Path | None:
    """Return the file of this kind that stands beside a label map; None where there is none."""
    stem = label_stem(prediction) or ""
    names = [f"{stem}_{kind}"]
    if stem.endswith(_BIDS_LABELS):
        names.append(f"{stem.removesuffix(_BIDS_LABELS)}_{_IN_BIDS[kind]}")
    paths = (prediction.parent / f"{name}{each.suffix}" for name in names for each in FORMATS)
    return next((path for path in paths if path.is_file()), None)


def certainty(
    file: Path, reference: Segmentation, prediction: Segmentation
) -> tuple[Calibration | None, tuple[str, ...]]:
    """Return how sure a prediction was where it is right and wrong, and what could not be used.

    None where nothing stands beside `file`, the prediction's label map, or nothing can be used:
    scores do not fail for that.
    """
    found: dict[str, Values] = {}
    notes = []
    for kind in (ENTROPY, PROBABILITIES):
        path = file_beside(file, kind)
        if path is not None:
            try:
                classes = len(reference.labels.classes) if kind == PROBABILITIES else 1
                found[kind] = read_beside(path, classes, prediction.geometry)
            except Vol3dSegError as error:
                notes.append(f"{kind} not used: {error.recorded}")
    if not found:
        return None, tuple(notes)
    binned = calibration(reference, prediction, found.get(PROBABILITIES), found.get(ENTROPY))
    return binned, tuple(notes)


def read_beside(path: Path, volumes: int, grid: Geometry) -> Values:
    """Return the values of a file on the grid of its label map; the largest where it has several.

    Raises EvaluationError where they are not those of `volumes` classes, and the errors of reading.
    """
    file = open_volume(path)
    there = file.shape[3] if len(file.shape) == 4 else 1
    if not isinstance(file, ImageFile) or there != volumes:
        raise EvaluationError(
            f"holds {there} volumes",
            where=path,
            expected=f"{volumes}, one for each class; those of regions do not sum to one",
            remedy="nothing: only what needs them is left out",
        )
    values, own, mean = file.largest()
    if not own.fits(grid):
        raise EvaluationError(
            f"lies on another grid: {own.placed()}",
            where=path,
            expected=f"that of its label map, {grid.placed()}",
            remedy="predict the case again",
        )
    if not isfinite(mean) or (volumes > 1 and abs(mean * volumes - 1) > _SUM):
        raise EvaluationError(
            f"its values sum to {mean * volumes:.3g} in a voxel, on the mean",
            where=path,
            expected="probabilities of all classes, which sum to 1; finite numbers",
            remedy="nothing: only what needs them is left out",
        )
    return values
