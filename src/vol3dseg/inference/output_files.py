"""Options of a prediction, and the files that it is written to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vol3dseg.datasets.case import Case
from vol3dseg.errors import OutputError
from vol3dseg.formats import FORMATS, NIFTI, Format, format_by_name
from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
from vol3dseg.formats.dicom.series import Series
from vol3dseg.inference import SEG
from vol3dseg.inference.predictor import Origin, Prediction
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

# Draws a case into a file; returns a note on what is missing from the picture, or nothing.
Draw = Callable[[Path, Case, Volume, Segmentation], str]


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Which cases are segmented, and what is written of them.

    Parameters
    ----------
    split : str, Path or None
        A split.json: only its cases.
    parts : sequence of str
        Only these parts of the split; none stands for all.
    repair : bool
        Read files that are wrong where there is a repair for it; each is recorded.
    resume : bool
        Skip cases that this model has segmented already, if no file of them has changed.
    probabilities : bool
        Write `<id>_probabilities.nii.gz` as well: (i, j, k, channel) float32.
    format : str or None
        Of what is written, one of `inference.FORMAT_NAMES`; None for that of the case's first
        image, by its name. "dicom-seg" refers to the series of the model's first modality;
        probabilities are then in the format of the image, or NIfTI.
    deidentify : bool
        Blank patient and study in DICOM-SEG.
    draw : callable or None
        Draws each case into `<id>.png`.
    """

    split: str | Path | None = None
    parts: Sequence[str] = ()
    repair: bool = False
    resume: bool = False
    probabilities: bool = False
    format: str | None = None
    deidentify: bool = False
    draw: Draw | None = None

    @property
    def as_seg(self) -> bool:
        """Whether label maps are written as DICOM-SEG."""
        return self.format == SEG

    @property
    def deidentified(self) -> bool:
        """Whether patient and study are blank in a DICOM-SEG."""
        return self.as_seg and self.deidentify

    def format_for(self, case: Case) -> Format:
        """Return the format that images of a case are written in."""
        first = next(iter(case.images.values()), None)
        chosen = next((written for written in FORMATS if written.name == self.format), None)
        return chosen or (format_by_name(first.path) if first else None) or NIFTI

    def label_file(self, case: Case) -> str:
        """Return the name of the label map of a case."""
        return f"{case.id}{'.dcm' if self.as_seg else self.format_for(case).suffix}"


def _picture(case: Case, folder: Path) -> Path:
    return folder / f"{case.id}.png"


def _probabilities(case: Case, folder: Path, written: Format) -> Path:
    return folder / f"{case.id}_probabilities{written.suffix}"


def _extras(case: Case, folder: Path) -> list[Path]:
    """Return where all that may stand beside the label map of a case goes, in any format."""
    return [*(_probabilities(case, folder, f) for f in FORMATS), _picture(case, folder)]


def write_outputs(
    prediction: Prediction,
    case: Case,
    series: Series | None,
    target: Path,
    options: PredictOptions,
    origin: Origin,
) -> None:
    """Write a prediction, its label map to `target`, and remove what an earlier one has left.

    A DICOM-SEG refers to the series, and names the origin as its maker.
    """
    segmentation, chosen = prediction.segmentation, options.format_for(case)
    if options.as_seg and series:
        algorithm = Algorithm(origin.name, origin.sha256[:12])
        write_seg(target, segmentation, series, algorithm, deidentify=options.deidentify)
    else:
        values = segmentation.labels.decode(segmentation.array)
        chosen.write(target, values, segmentation.geometry)
    for path in _extras(case, target.parent):
        if path.is_file():  # of an earlier prediction, which must not be mistaken for this one's
            path.unlink()
    if options.probabilities:
        path = _probabilities(case, target.parent, chosen)
        chosen.write(path, np.asarray(prediction.probabilities), segmentation.geometry)


def require_no_input(case: Case, folder: Path, options: PredictOptions) -> None:
    """Refuse an output that would replace a file of the case."""
    outputs = [folder / options.label_file(case), *_extras(case, folder)]
    taken = {path.resolve() for path in case.paths}.intersection(p.resolve() for p in outputs)
    if taken:
        raise OutputError(
            f"is a file of case {case.id}, which its segmentation would replace",
            where=min(taken),
            remedy="choose another output folder",
        )


def draw_case(
    draw: Draw, case: Case, folder: Path, volume: Volume, segmentation: Segmentation
) -> dict[str, str]:
    """Draw a case and return what its record says of the picture; a case does not fail for that."""
    path = _picture(case, folder)
    try:
        note = draw(path, case, volume, segmentation)
    except Exception as error:  # noqa: BLE001 - a picture must not fail a case whose segmentation is written
        return {"picture_note": f"no picture: {' '.join(str(error).split())}"}
    return {"picture": path.name, "picture_note": note}
