"""A4: DICOM series."""

from copy import deepcopy

import numpy as np

from tests.catalogue.data import FLAIR, LABEL, T1, DataSet
from tests.catalogue.row import Group, Row

_NEEDS = ("pydicom",)


def _series(spoil=list):
    """Give the image as a series, whose slices `spoil` changes first."""

    def make(data: DataSet) -> None:
        data.series(spoil)

    return make


def _drop_one(slices: list) -> None:
    del slices[2]


def _repeat(slices: list) -> None:
    other = deepcopy(slices[1])
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    slices.append(other)


def _repeat_alike(slices: list) -> None:
    slices.append(deepcopy(slices[1]))


def _tilt(slices: list) -> None:
    for k, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0.5 * k, 2 * k]


def _tilt_a_hair(slices: list) -> None:
    for k, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0.001 * k, 2 * k]


def _beside(slices: list) -> None:
    slices[2].ImagePositionPatient = [0, 0.5, 4]


def _localizer(slices: list) -> None:
    slices[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _same_place(slices: list) -> None:
    for one in slices:
        one.ImagePositionPatient = [0, 0, 0]


def _no_place(slices: list) -> None:
    del slices[1].ImagePositionPatient


def _uneven(slices: list) -> None:
    slices[2].ImagePositionPatient = [0, 0, 4.6]


def _two_echoes(slices: list) -> None:
    for one in list(slices):
        one.EchoTime = 12
        slices.append(deepcopy(one))
        slices[-1].EchoTime = 80.5


def _other_size(slices: list) -> None:
    slices[3].Rows, slices[3].PixelData = 2, slices[3].PixelData[: 2 * 12 * 2]


def _other_spacing(slices: list) -> None:
    slices[3].PixelSpacing = [1, 1.1]


def _lying_rows(slices: list) -> None:
    slices[0].Rows = slices[0].Columns = 60000


def _colours(slices: list) -> None:
    slices[0].SamplesPerPixel, slices[0].PhotometricInterpretation = 3, "RGB"
    slices[0].PlanarConfiguration = 0


def _no_codec(slices: list) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    for one in slices:
        one.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        one.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])


def _slope_of_zero(slices: list) -> None:
    slices[0].RescaleSlope = 0


def _backwards(slices: list) -> None:
    slices.reverse()


def _slopes(slices: list) -> None:
    """Store each slice with a slope and an intercept of its own; the intensities stay."""
    for k, one in enumerate(slices):
        intensities = np.frombuffer(one.PixelData, np.int16).astype(np.int32)
        one.RescaleSlope, one.RescaleIntercept = 0.5, -k
        one.PixelData = ((intensities + k) * 2).astype(np.int16).tobytes()


def _packed(keyword: str):
    """Store the series in another transfer syntax."""

    def pack(slices: list) -> None:
        import pydicom.uid

        syntax = getattr(pydicom.uid, keyword)
        for one in slices:
            if syntax.is_encapsulated:
                one.compress(syntax, generate_instance_uid=False)
            one.file_meta.TransferSyntaxUID = syntax

    return _series(pack)


def _enhanced(slices: list) -> None:
    """Put all slices into one file, as frames with functional groups."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence
    from pydicom.uid import EnhancedMRImageStorage

    def group(sequence: str, one, *keywords: str):
        item = Dataset()
        for keyword in keywords:
            setattr(item, keyword, one[keyword].value)
        setattr(holder, sequence, Sequence([item]))

    groups = []
    for one in slices:
        holder = Dataset()
        group("PlanePositionSequence", one, "ImagePositionPatient")
        group("PlaneOrientationSequence", one, "ImageOrientationPatient")
        group("PixelMeasuresSequence", one, "PixelSpacing", "SliceThickness")
        groups.append(holder)
    file = deepcopy(slices[0])
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = EnhancedMRImageStorage
    file.NumberOfFrames = len(slices)
    file.PixelData = b"".join(one.PixelData for one in slices)
    file["PixelData"].VR = "OW"
    file.PerFrameFunctionalGroupsSequence = Sequence(groups)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del file[keyword]
    slices[:] = [file]


def _cut(data: DataSet) -> None:
    data.series()
    data.write("flair/3.dcm", data.read("flair/3.dcm")[:-24])


def _two_series(data: DataSet) -> None:
    def other(slices: list) -> None:
        for one in slices:
            one.SeriesInstanceUID, one.SeriesNumber = "1.2.3.8", 8
            one.SeriesDescription = "T2 [fs]"

    data.series(folder="scans/a")
    data.series(other, folder="scans/b")
    data.table(flair="scans")


def _chosen(data: DataSet) -> None:
    _two_series(data)
    data.table(flair_series="T1*")


def _with_junk(data: DataSet) -> None:
    data.series()
    for name, content in (("empty.dcm", b""), ("notes.txt", b"no DICOM" * 99)):
        (data.folder / "flair" / name).write_bytes(content)


def _nothing_but_junk(data: DataSet) -> None:
    _with_junk(data)
    for path in (data.folder / "flair").glob("[0-9]*.dcm"):
        path.unlink()


def _one_slice(data: DataSet) -> None:
    def first(slices: list) -> None:
        del slices[1:]
        slices[0].SliceThickness = 2

    data.series(first)
    _first_of_all(data, "t1.nii", "label.nii")


def _first_of_all(data: DataSet, *names: str) -> None:
    """Keep the first slice of files."""
    arrays = {"flair.nii": FLAIR, "t1.nii": T1, "label.nii": LABEL}
    for name in names or arrays:
        data.nifti(name, arrays[name][..., :1])


ROWS = (
    Row("DICOM gap", "a slice is missing", _series(_drop_one), "?"),
    Row("DICOM duplicate", "two slices at one position", _series(_repeat), "?"),
    Row("DICOM copy", "a slice twice, the same in every byte", _series(_repeat_alike), "?",
        repaired="?"),
    Row("DICOM tilt", "a tilted gantry", _series(_tilt), "?"),
    Row("DICOM tilt a hair", "positions that lean by 0.0005 mm per mm", _series(_tilt_a_hair),
        said="?"),
    Row("DICOM beside", "a slice that lies beside the others", _series(_beside), "?"),
    Row("DICOM localizer", "a localizer among the slices", _series(_localizer), "?"),
    Row("DICOM order", "files in another order than slices", _series(_backwards)),
    Row("DICOM uneven", "slices at uneven distances", _series(_uneven), "?"),
    Row("DICOM truncated", "voxels of a file cut short", _cut, "?"),
    Row("DICOM same place", "all slices at the same position", _series(_same_place), "?"),
    Row("DICOM no place", "a slice without a position", _series(_no_place), "?"),
    Row("DICOM two echoes", "two volumes in one series", _series(_two_echoes), "?"),
    Row("DICOM two series", "two series in the folder", _two_series, "?"),
    Row("DICOM chosen", "the same, with `T1*` in the column `flair_series`", _chosen,
        result="read, the series that was named"),
    Row("DICOM one slice", "one slice", _one_slice, said="?", like=_first_of_all),
    Row("DICOM slopes", "slope and intercept that differ from slice to slice", _series(_slopes),
        result="read, each slice with its own"),
    Row("DICOM slope 0", "a slope of 0", _series(_slope_of_zero), "?"),
    Row("DICOM junk", "an empty file and a text among the slices", _with_junk, said="?"),
    Row("DICOM nothing", "a folder with nothing else", _nothing_but_junk, "?"),
    Row("DICOM other size", "a slice of another size", _series(_other_size), "?"),
    Row("DICOM other spacing", "a slice of another spacing", _series(_other_spacing), "?"),
    Row("DICOM lying", "60000 rows and columns, with 240 bytes of voxels", _series(_lying_rows),
        "?"),
    Row("DICOM colours", "colours", _series(_colours), "?"),
    Row("DICOM codec", "JPEG that no installed decoder reads", _series(_no_codec), "?"),
    Row("DICOM RLE", "voxels packed by run lengths", _packed("RLELossless")),
    Row("DICOM deflated", "deflated files", _packed("DeflatedExplicitVRLittleEndian")),
    Row("DICOM implicit", "implicit types", _packed("ImplicitVRLittleEndian")),
    Row("DICOM enhanced", "one file of several frames", _series(_enhanced)),
)  # fmt: skip
DICOM = Group("DICOM series", "", ROWS)
