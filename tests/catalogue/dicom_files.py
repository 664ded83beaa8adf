"""DICOM files that hold something else than plain voxels."""

from copy import deepcopy

import numpy as np

from tests.catalogue.data import FLAIR, DataSet
from tests.catalogue.dicom import series


def lying_rows(slices: list) -> None:
    slices[0].Rows = slices[0].Columns = 60000


def colours(slices: list) -> None:
    slices[0].SamplesPerPixel, slices[0].PhotometricInterpretation = 3, "RGB"
    slices[0].PlanarConfiguration = 0


def no_codec(slices: list) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    for one in slices:
        one.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        one.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])


def a_film(slices: list) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import MPEG2MPML

    slices[0].file_meta.TransferSyntaxUID = MPEG2MPML
    slices[0].PixelData = encapsulate([bytes(2)])


def slope_of_zero(slices: list) -> None:
    slices[0].RescaleSlope = 0


def slopes(slices: list) -> None:
    """Store each slice with a slope and an intercept of its own; the intensities stay."""
    for k, one in enumerate(slices):
        intensities = np.frombuffer(one.PixelData, np.int16).astype(np.int32)
        one.RescaleSlope, one.RescaleIntercept = 0.5, -k
        one.PixelData = ((intensities + k) * 2).astype(np.int16).tobytes()


def packed(keyword: str):
    """Store the series in another transfer syntax."""

    def pack(slices: list) -> None:
        import pydicom.uid

        syntax = getattr(pydicom.uid, keyword)
        for one in slices:
            if syntax.is_encapsulated:
                one.compress(syntax, generate_instance_uid=False)
            one.file_meta.TransferSyntaxUID = syntax

    return series(pack)


def enhanced(slices: list) -> None:
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


def cut(data: DataSet) -> None:
    data.series()
    data.write("flair/3.dcm", data.read("flair/3.dcm")[:-24])


def with_junk(data: DataSet) -> None:
    data.series()
    for name, content in (("empty.dcm", b""), ("notes.txt", b"no DICOM" * 99)):
        (data.folder / "flair" / name).write_bytes(content)


def without_preamble(*names: str):
    """Cut 128 bytes and the letters DICM off slices."""

    def make(data: DataSet) -> None:
        data.series()
        for name in names:
            data.write(f"flair/{name}", data.read(f"flair/{name}")[132:])

    return make


def lost_slice(data: DataSet) -> None:
    data.series()
    data.write("flair/8.dcm", b"")


def contours(data: DataSet) -> None:
    """Give an RTSTRUCT as the label."""
    from pydicom.uid import RTStructureSetStorage

    data.series()
    drawn = data.slices(FLAIR[..., :1])[0]
    drawn.file_meta.MediaStorageSOPClassUID = drawn.SOPClassUID = RTStructureSetStorage
    for keyword in ("Rows", "Columns", "PixelData"):
        del drawn[keyword]
    drawn.save_as(data.folder / "contours.dcm", enforce_file_format=True)
    data.table(label="contours.dcm")


def nothing_but_junk(data: DataSet) -> None:
    with_junk(data)
    for path in (data.folder / "flair").glob("[0-9]*.dcm"):
        path.unlink()


def no_rows(slices: list) -> None:
    slices[0].Rows = 0


def palette(slices: list) -> None:
    slices[0].PhotometricInterpretation = "PALETTE COLOR"


def lookup_table(slices: list) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    slices[0].ModalityLUTSequence = Sequence([Dataset()])


def mosaic(slices: list) -> None:
    for one in slices:
        one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


def inverted(slices: list) -> None:
    for one in slices:
        one.PhotometricInterpretation = "MONOCHROME1"


def unknown_syntax(data: DataSet) -> None:
    data.series()
    content = data.read("flair/1.dcm")
    data.write("flair/1.dcm", content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.3.4.5.6.7.8.9.10"))


def slope_of_nan(slices: list) -> None:
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        slices[0].RescaleSlope = "nan"


def large_slope(slices: list) -> None:
    slices[0].RescaleSlope = "1e38"


def several_frames(slices: list) -> None:
    slices[0].NumberOfFrames = 2
    slices[0].PixelData = slices[0].PixelData * 2


def reports(slices: list) -> None:
    from pydicom.uid import EnhancedSRStorage

    for one in slices:
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = EnhancedSRStorage
        del one.Rows
