"""What a header says of the meaning of its values: used, refused, or told in a note.

docs/dicom.md has the table of all such attributes, those that are of no matter among them.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.acquisition import Find, as_number

Remark = tuple[str, str]  # what was found, and what was done

_AS_STORED = "read as stored"
_SIEMENS = ("SIEMENS MR HEADER", 0x0019, 0x0A)  # how many tiles a mosaic has
_UNITED = (0x0065, 0x1050)  # the same of United Imaging
_HOUNSFIELD = ("", "HU", "US")  # the latter: unspecified, as anonymising programs write
_UPTAKE = ("GML", "CM2ML")  # grams or square centimetres per millilitre: SUV
_PET_UNITS = ("BQML", "CNTS", "PROPCPS", "PROPCNTS", "NONE", "CPS")


def check_meaning(header: Any, path: Path) -> None:
    """Refuse (FileFormatError) a file whose values are not those of one slice, or of its frames."""
    if "ModalityLUTSequence" in header:
        raise FileFormatError(
            "its values go through a lookup table",
            where=path,
            expected="a slope and an intercept",
            remedy="export it with the table applied",
        )
    # An enhanced file may have the word left over from the mosaic that it was made of.
    if "PerFrameFunctionalGroupsSequence" not in header and _is_mosaic(header):
        raise FileFormatError(
            "is a mosaic: the tiles of one image are the slices of a volume",
            where=path,
            expected="a file for each slice, or an enhanced one",
            remedy="convert it to NIfTI, as dcm2niix does, or export it as enhanced DICOM",
        )


def _is_mosaic(header: Any) -> bool:
    creator, group, element = _SIEMENS
    tiles = None
    with suppress(KeyError):
        tiles = as_number(header.private_block(group, creator)[element].value)
    if header.get("Manufacturer") == "UIH" and _UNITED in header:
        tiles = as_number(header[_UNITED].value)
    kinds = [str(kind).upper() for kind in header.get("ImageType") or ()]
    return "MOSAIC" in kinds or (tiles or 0) > 1


def remarks_of(header: Any, find: Find) -> tuple[Remark, ...]:
    """Return what is to be said of a slice before it is read."""
    return tuple(remark for of in _REMARKS for remark in of(header, find))


def _grey_scale(header: Any, _: Find) -> Iterator[Remark]:
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        yield "small values are meant to be bright (MONOCHROME1)", _AS_STORED
    elif header.get("PresentationLUTShape") == "INVERSE":
        yield "small values are meant to be bright (PresentationLUTShape is INVERSE)", _AS_STORED


def _unit(header: Any, find: Find) -> Iterator[Remark]:
    modality, unit = header.get("Modality"), str(header.get("Units") or "")
    transform = find("PixelValueTransformationSequence")
    if modality == "PT" and unit not in _UPTAKE:
        known = f"in {unit}" if unit in _PET_UNITS else "of a unit that is not known here"
        yield f"values are {known}, not SUV", _AS_STORED
    if modality == "CT" and str(transform.get("RescaleType") or "") not in _HOUNSFIELD:
        yield "values are not in HU, as RescaleType says", "read with slope and intercept"
    if modality == "CT" and transform.get("RescaleSlope") is None:
        yield "CT has no slope and no intercept, without which values may not be HU", _AS_STORED


def _real_world(header: Any, find: Find) -> Iterator[Remark]:
    """Tell of a mapping that differs from slope and intercept; most say the same twice."""
    name = "RealWorldValueMappingSequence"
    frame = find(name)
    mapping = (header.get(name) or [{}])[0] if frame is header else frame
    if not mapping:
        return
    transform = find("PixelValueTransformationSequence")
    applied = transform.get("RescaleSlope", 1), transform.get("RescaleIntercept", 0)
    meant = mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")
    if [*map(as_number, applied)] != [*map(as_number, meant)]:
        yield "RealWorldValueMapping says other values than slope and intercept", "not applied"


def _padding(header: Any, _: Find) -> Iterator[Remark]:
    value = as_number(header.get("PixelPaddingValue"))
    if value:  # 0 is background like any other
        yield f"{value:g} is stored where nothing was measured (PixelPaddingValue)", _AS_STORED


def _history(header: Any, _: Find) -> Iterator[Remark]:
    from pydicom import uid

    lossy = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)
    if header.get("LossyImageCompression") == "01" or header.file_meta.TransferSyntaxUID in lossy:
        yield "was compressed with loss", "read as it is"
    if header.get("BurnedInAnnotation") == "YES":
        yield "text is burnt into the image (BurnedInAnnotation)", "read; look before you share it"
    if header.get("QualityControlImage") == "YES":
        yield "shows a phantom or the like (QualityControlImage)", "read as a scan"
    if header.get("AnatomicalOrientationType") == "QUADRUPED":
        yield "shows an animal on four legs", "directions are those that DICOM has for it"


_REMARKS: tuple[Callable[[Any, Find], Iterator[Remark]], ...] = (
    _grey_scale,
    _unit,
    _real_world,
    _padding,
    _history,
)
