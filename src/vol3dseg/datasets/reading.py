"""From the files of a case to arrays on one grid."""

from collections.abc import Iterable

from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError, GridError
from vol3dseg.volumes import nifti
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import LabelSet, Segmentation
from vol3dseg.volumes.volume import Volume


def read_volume(case: Case, modalities: Iterable[str]) -> Volume:
    """Read modalities of a case, in the order asked for.

    Parameters
    ----------
    case : Case
    modalities : iterable of str

    Raises
    ------
    DatasetError
        The case lacks a modality.
    FileFormatError, IntensityError
        A file cannot be read, or holds NaN or infinity.
    GridError
        The modalities lie on different grids.
    """
    sources = case.select(modalities).images
    try:
        return Volume.stack({n: nifti.read_image(s.path, s.channel) for n, s in sources.items()})
    except GridError as error:
        raise GridError(f"case {case.id}: {error}") from error


def read_labels(case: Case, labels: LabelSet, grid: Geometry) -> Segmentation:
    """Read the label map of a case and check that it lies on the grid of its images.

    Parameters
    ----------
    case : Case
    labels : LabelSet
    grid : Geometry
        Of the case's images.

    Raises
    ------
    DatasetError
        The case has no label map.
    LabelError
        A value is not in the label map of the config.
    GridError
        Labels and images lie on different grids.
    """
    if case.label is None:
        raise DatasetError(f"case {case.id}: has no label map; add it, or leave the case out")
    values, geometry = nifti.read_labels(case.label)
    if not geometry.fits(grid):
        raise GridError(
            f"case {case.id}: label and image lie on different grids: {case.label} has {geometry}, "
            f"the image {grid}; resample one onto the other first"
        )
    return Segmentation(labels.encode(values, str(case.label)), grid, labels)
