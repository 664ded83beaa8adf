"""Options of a prediction, and the files that it is written to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vol3dseg.datasets.case import Case
from vol3dseg.errors import OutputError, some_of
from vol3dseg.files import atomic_path, require_writable
from vol3dseg.formats import FORMATS, NIFTI, Format, format_by_name, write_labels
from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
from vol3dseg.formats.dicom.series import Series
from vol3dseg.inference import LAYOUTS, SEG
from vol3dseg.inference.bids_files import bids_file, dataset_files, require_labels
from vol3dseg.inference.prediction import Origin, Prediction
from vol3dseg.inference.record import RECORD_NAME, Record
from vol3dseg.inference.uncertainty import ENTROPY, MUTUAL_INFORMATION
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume
from vol3dseg.written import require_ours

# Draws a case into a file; returns a note on what is missing from the picture, or nothing.
Draw = Callable[[Path, Case, Volume, Segmentation], str]


VOLUMES = ("probabilities", ENTROPY, MUTUAL_INFORMATION)  # beside label maps


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
    layout : "flat" or "bids"
        Of the folder: files named by their case, or derivatives as BIDS has them, in NIfTI.
    deidentify : bool
        Blank patient and study in DICOM-SEG.
    draw : callable or None
        Draws each case into `<id>.png`.

    What a predictor measures of uncertainty is written as well: `<id>_entropy.nii.gz` and
    `<id>_mutual_information.nii.gz`, (i, j, k) float32.
    """

    split: str | Path | None = None
    parts: Sequence[str] = ()
    repair: bool = False
    resume: bool = False
    probabilities: bool = False
    format: str | None = None
    layout: str = "flat"
    deidentify: bool = False
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.in_bids and self.format not in (None, NIFTI.name):
            raise OutputError(
                f"the format {self.format}",
                where="--layout bids",
                expected=NIFTI.name,
                remedy="leave out --format, or --layout",
            )

    @property
    def in_bids(self) -> bool:
        """Whether what is written is a data set of BIDS."""
        return self.layout == "bids"

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
        if self.in_bids:
            return NIFTI
        first = next(iter(case.images.values()), None)
        chosen = next((written for written in FORMATS if written.name == self.format), None)
        return chosen or (format_by_name(first.path) if first else None) or NIFTI

    def label_file(self, case: Case) -> str:
        """Return the name of the label map of a case, relative to the folder."""
        if self.in_bids:
            return bids_file(case, "labels")
        return f"{case.id}{'.dcm' if self.as_seg else self.format_for(case).suffix}"

    def volume_file(self, case: Case, kind: str, written: Format) -> str:
        """Return the name of probabilities or uncertainty of a case, in a format."""
        return bids_file(case, kind) if self.in_bids else f"{case.id}_{kind}{written.suffix}"

    def picture_file(self, case: Case) -> str:
        """Return the name of the picture of a case."""
        return bids_file(case, "picture") if self.in_bids else f"{case.id}.png"

    def volumes(self, measures: Sequence[str]) -> list[str]:
        """Return what is written beside label maps in the format of images, by its name."""
        return [*["probabilities"] * self.probabilities, *measures]


def claim_outputs(
    cases: Sequence[Case],
    folder: Path,
    options: PredictOptions,
    before: Record | None,
    measures: Sequence[str] = (),
) -> None:
    """Refuse whatever outputs of these cases would replace that is not theirs, all at once.

    Theirs is what an earlier prediction has made of the same case. A foreign file that looks like
    probabilities, uncertainty or a picture of a case is refused too, though it would stay: it would
    be taken for those of the new segmentation.
    """
    common = [RECORD_NAME]
    if options.in_bids:
        require_labels(cases)
        common += dataset_files(options.probabilities)
    _require_same_layout(folder, options, before)
    wanted = [(case.id, name) for case in cases for name in output_names(case, options, measures)]
    looks = [name for case in cases for name in _looking_alike(case, options)]
    paths, root = [path for case in cases for path in case.paths], folder.resolve()
    inputs = {p for path in paths for p in (path.resolve(), path.parent.resolve() / path.name)}
    all_names = dict.fromkeys([*(name for _, name in wanted), *looks])
    read = [name for name in all_names if root / name in inputs]
    made = before.cases.items() if before else ()
    others = {name: case_id for case_id, case in made for name in case.written}
    taken = [name for case_id, name in wanted if others.get(name, case_id) != case_id]
    if read or taken:
        why = "inputs are read from" if read else f"{RECORD_NAME} has of other cases"
        raise OutputError(
            f"would replace {some_of(read or taken)}, which {why}",
            where=folder,
            remedy="choose another output folder",
        )
    names = [*common, *(name for _, name in wanted)]
    beside = dict.fromkeys([*names, *looks])
    require_ours([folder / name for name in beside], "would replace, or write beside,")
    require_writable(folder, names)


def _require_same_layout(folder: Path, options: PredictOptions, before: Record | None) -> None:
    made = before is not None and any(case.file for case in before.cases.values())
    if before and made and bool(before.dataset) != options.in_bids:
        raise OutputError(
            f"holds predictions in the layout {LAYOUTS[bool(before.dataset)]}",
            where=folder,
            expected=f"those of --layout {options.layout}, or none",
            remedy="choose another output folder, or that layout",
        )


def output_names(case: Case, options: PredictOptions, measures: Sequence[str] = ()) -> list[str]:
    """Return the names of all files that are written of a case, with these of its uncertainty."""
    written = options.format_for(case)
    names = [options.volume_file(case, kind, written) for kind in options.volumes(measures)]
    return [options.label_file(case), *names, *[options.picture_file(case)] * bool(options.draw)]


def _looking_alike(case: Case, options: PredictOptions) -> list[str]:
    """Return the names of all that may stand beside the label map of a case, in any format."""
    volumes = (options.volume_file(case, kind, f) for f in FORMATS for kind in VOLUMES)
    return list(dict.fromkeys([*volumes, options.picture_file(case)]))


def write_outputs(
    prediction: Prediction,
    case: Case,
    series: Series | None,
    folder: Path,
    options: PredictOptions,
    origin: Origin,
) -> list[str]:
    """Write a prediction, and return the names of its files, that of the label map first.

    A DICOM-SEG refers to the series, and names the origin as its maker.
    """
    segmentation, chosen = prediction.segmentation, options.format_for(case)
    names = [options.label_file(case)]
    if options.as_seg and series:
        algorithm = Algorithm(origin.name, origin.sha256)
        target = folder / names[0]
        write_seg(target, segmentation, series, algorithm, deidentify=options.deidentify)
    else:
        write_labels(segmentation, folder / names[0])
    volumes = {"probabilities": prediction.probabilities, **prediction.uncertainty}
    for kind in options.volumes(list(prediction.uncertainty)):
        names.append(options.volume_file(case, kind, chosen))
        chosen.write(folder / names[-1], np.asarray(volumes[kind]), segmentation.geometry)
    return names


def draw_case(
    draw: Draw, case: Case, folder: Path, name: str, volume: Volume, segmentation: Segmentation
) -> dict[str, str]:
    """Draw a case and return what its record says of the picture; a case does not fail for that."""
    path = folder / name
    try:
        with atomic_path(path) as temporary:
            note = draw(temporary, case, volume, segmentation)
    except Exception as error:  # noqa: BLE001 - a picture must not fail a case whose segmentation is written
        return {"picture_note": f"no picture: {' '.join(str(error).split())}"}
    return {"picture": name, "picture_note": note}
