"""What is written of a prediction: a label map in some format, and what stands beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vol3dseg.datasets.case import Case
from vol3dseg.errors import OutputError
from vol3dseg.formats import FORMATS, NIFTI, Format, format_by_name
from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
from vol3dseg.formats.dicom.series import Series
from vol3dseg.inference.predictor import Prediction
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

# Draws a case into a file; returns what is missing from the picture, in words, or nothing.
Draw = Callable[[Path, Case, Volume, Segmentation], str]


@dataclass(frozen=True, slots=True)
class DicomSeg:
    """How DICOM-SEG is written.

    Parameters
    ----------
    algorithm : Algorithm
        What the files name as their maker.
    deidentify : bool
        Blank patient and study.
    """

    algorithm: Algorithm
    deidentify: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is done with each case.

    Parameters
    ----------
    probabilities : bool
        Write `<id>_probabilities.nii.gz` as well: (i, j, k, class) float32.
    format : Format or None
        Of what is written; None for that of the case's first image, by its name.
    seg : DicomSeg or None
        Write label maps as DICOM-SEG of the series of the model's first modality; probabilities
        have `format`.
    draw : callable or None
        Draws each case into `<id>.png`.
    ahead : bool
        Read and prepare the next case while the network runs on this one; it has to be held in
        memory beside it.
    """

    probabilities: bool = False
    draw: Draw | None = None
    ahead: bool = True
    format: Format | None = None
    seg: DicomSeg | None = None

    def format_for(self, case: Case) -> Format:
        """Return the format that the label map of a case is written in."""
        first = next(iter(case.images.values()), None)
        return self.format or (format_by_name(first.path) if first else None) or NIFTI

    @property
    def deidentified(self) -> bool:
        """Whether patient and study are blank in a DICOM-SEG."""
        return self.seg is not None and self.seg.deidentify

    def label_file(self, case: Case) -> str:
        """Return the name of the label map of a case."""
        return f"{case.id}{'.dcm' if self.seg else self.format_for(case).suffix}"


def _picture(case: Case, folder: Path) -> Path:
    return folder / f"{case.id}.png"


def _probabilities(case: Case, folder: Path, written: Format) -> Path:
    return folder / f"{case.id}_probabilities{written.suffix}"


def _extras(case: Case, folder: Path) -> list[Path]:
    """Return where all that may stand beside the label map of a case goes, in any format."""
    return [*(_probabilities(case, folder, f) for f in FORMATS), _picture(case, folder)]


def write_outputs(
    prediction: Prediction, case: Case, series: Series | None, target: Path, wanted: Wanted
) -> None:
    """Write what is wanted of a prediction, and remove what an earlier one has left beside it.

    Parameters
    ----------
    prediction : Prediction
    case : Case
    series : Series or None
        What a DICOM-SEG refers to.
    target : Path
        The label map.
    wanted : Wanted

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    segmentation, chosen = prediction.segmentation, wanted.format_for(case)
    if wanted.seg and series:
        algorithm, blanked = wanted.seg.algorithm, wanted.seg.deidentify
        write_seg(target, segmentation, series, algorithm, deidentify=blanked)
    else:
        values = segmentation.labels.decode(segmentation.array)
        chosen.write(target, values, segmentation.geometry)
    for path in _extras(case, target.parent):
        if path.is_file():  # of an earlier prediction: nobody shall take it for this one's
            path.unlink()
    if wanted.probabilities:
        path = _probabilities(case, target.parent, chosen)
        chosen.write(path, np.asarray(prediction.probabilities), segmentation.geometry)


def require_no_input(case: Case, folder: Path, wanted: Wanted) -> None:
    """Refuse an output that would replace a file of the case.

    Raises
    ------
    OutputError
    """
    outputs = [folder / wanted.label_file(case), *_extras(case, folder)]
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
    except Exception as error:  # noqa: BLE001 - the segmentation is written, whatever ails a picture
        return {"picture_note": f"no picture: {' '.join(str(error).split())}"}
    return {"picture": path.name, "picture_note": note}
