"""DICOM series whose slices do not lie as they should."""

from copy import deepcopy

from tests.catalogue.data import AFFINE, FLAIR, LABEL, T1, DataSet


def series(spoil=list):
    """Give the image as a series, whose slices `spoil` changes first."""

    def make(data: DataSet) -> None:
        data.series(spoil)

    return make


def drop_one(slices: list) -> None:
    del slices[2]


def repeat(slices: list) -> None:
    other = deepcopy(slices[1])
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    slices.append(other)


def repeat_alike(slices: list) -> None:
    slices.append(deepcopy(slices[1]))


def repeat_all(slices: list) -> None:
    slices.extend(deepcopy(slices))


def repeat_uid(slices: list) -> None:
    slices.append(deepcopy(slices[1]))
    slices[-1].PixelData = bytes(len(slices[1].PixelData))


def repeat_all_places(slices: list) -> None:
    for one in list(slices):
        slices.append(deepcopy(one))
        slices[-1].PixelData = bytes(len(one.PixelData))


def tilt(slices: list) -> None:
    for k, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0.5 * k, 2 * k]


def tilted_second(data: DataSet) -> None:
    data.series(tilt, folder="tilted")
    data.table(flair="flair.nii", t1="tilted", t1_resample="yes")


def tilt_a_hair(slices: list) -> None:
    for k, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0.001 * k, 2 * k]


def beside(slices: list) -> None:
    slices[2].ImagePositionPatient = [0, 0.5, 4]


def localizer(slices: list) -> None:
    slices[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def same_place(slices: list) -> None:
    for one in slices:
        one.ImagePositionPatient = [0, 0, 0]


def no_place(slices: list) -> None:
    del slices[1].ImagePositionPatient


def place_of_nan(slices: list) -> None:
    from pydicom.config import disable_value_validation

    del slices[1].ImagePositionPatient  # the old element would go on validating
    with disable_value_validation():
        slices[1].ImagePositionPatient = ["nan", "0", "2"]


def crooked(slices: list) -> None:
    slices[0].ImageOrientationPatient = [1, 0, 0, 0.5, 0.5, 0]


def flat_spacing(slices: list) -> None:
    slices[0].PixelSpacing = [0, 1]


def two_references(slices: list) -> None:
    slices[0].FrameOfReferenceUID = "1.2.3.6"


def uneven(slices: list) -> None:
    slices[2].ImagePositionPatient = [0, 0, 4.6]


def interleaved(slices: list) -> None:
    """Make every second slice one of another scan."""
    for number, one in enumerate(slices):
        other = number % 2
        one.EchoTime, one.RepetitionTime = (90, 4000) if other else (12, 500)
        one.SeriesDescription = "T2 axial" if other else "T1 axial"


def two_echoes(slices: list) -> None:
    for one in list(slices):
        one.EchoTime = 12
        slices.append(deepcopy(one))
        slices[-1].EchoTime = 80.5


def other_size(slices: list) -> None:
    slices[3].Rows, slices[3].PixelData = 2, slices[3].PixelData[: 2 * 12 * 2]


def other_spacing(slices: list) -> None:
    slices[3].PixelSpacing = [1, 1.1]


def backwards(slices: list) -> None:
    slices.reverse()


def no_series(slices: list) -> None:
    del slices[2].SeriesInstanceUID


def slice_of_all(data: DataSet, *names: str) -> None:
    """Keep the fourth slice of files."""
    arrays = {"flair.nii": FLAIR, "t1.nii": T1, "label.nii": LABEL}
    affine = AFFINE.copy()
    affine[2, 3] = 3 * affine[2, 2]
    for name in names or arrays:
        data.nifti(name, arrays[name][..., 3:4], affine)


def one_slice(data: DataSet) -> None:
    def alone(slices: list) -> None:
        slices[:] = slices[3:4]
        slices[0].SliceThickness = 2

    data.series(alone)
    slice_of_all(data, "t1.nii", "label.nii")


def two_series(data: DataSet) -> None:
    def other(slices: list) -> None:
        for one in slices:
            one.SeriesInstanceUID, one.SeriesNumber = "1.2.3.8", 8
            one.SeriesDescription = "T2 [fs]"

    data.series(folder="scans/a")
    data.series(other, folder="scans/b")
    data.table(flair="scans")


def chosen(data: DataSet) -> None:
    two_series(data)
    data.table(flair_series="T1*")
