"""What tells one acquisition from another: all of it must agree over the slices of a volume.

Position and size of slices say nothing of that: T1 and T2 under one series UID, the slices of one
between those of the other, lie on as good a grid as any.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vol3dseg.errors import GridError, some_of
from vol3dseg.formats.dicom.dicom_file import printable

Mark = float | str | None  # a value of an attribute; None where a slice has none
Find = Callable[[str], Any]  # from the name of a functional group to what holds its attributes

_ROUNDED = 1e-3  # of a number: what programs round to
_CONVERTED = (  # where enhanced files keep what they have taken over from single slices
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of the header, or of functional groups of enhanced files."""

    name: str  # in messages
    keywords: tuple[str, ...]  # the first that a slice has counts
    groups: tuple[str, ...] = ()  # that are looked at before the header itself
    within: float | None = None  # its numbers agree within this share; None: it is text
    agrees: bool = True  # over a volume; else it only tells volumes at the same places apart
    told: bool = True  # its text may be shown on the screen


def _text(name: str, *keywords: str, groups: tuple[str, ...] = (), told: bool = True) -> Attribute:
    return Attribute(name, keywords, groups, told=told)


def _number(name: str, group: str, *keywords: str, within: float = _ROUNDED) -> Attribute:
    return Attribute(name, keywords, (group,) if group else (), within)


def _loose(name: str, group: str, *keywords: str) -> Attribute:
    return Attribute(name, keywords, (group,), _ROUNDED, agrees=False)


_TIMING = "MRTimingAndRelatedParametersSequence"
_TIME = "CardiacSynchronizationSequence"
_CONTENT = "FrameContentSequence"
_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
ATTRIBUTES = (
    # whose and what
    _text("patient", "PatientID", told=False),
    _text("study", "StudyInstanceUID", told=False),
    _text("date of the study", "StudyDate", told=False),
    _text("maker", "Manufacturer"),
    _text("scanner", "ManufacturerModelName"),
    _text("position of the patient", "PatientPosition"),
    _text("modality", "Modality"),
    _text("kind of image", "SOPClassUID", told=False),
    _number("series number", "", "SeriesNumber"),
    _text("series description", "SeriesDescription"),
    _text("protocol", "ProtocolName"),
    _text("image type", "FrameType", "ImageType", groups=_TYPES),
    _number("slice thickness", "PixelMeasuresSequence", "SliceThickness", within=0.1),
    _text("contrast agent", "ContrastBolusAgent"),
    # MR
    _text("complex component", "ComplexImageComponent", groups=_TYPES[:1]),
    _text("sequence", "SequenceName", "PulseSequenceName"),
    _text("scanning sequence", "ScanningSequence"),
    _text("sequence variant", "SequenceVariant"),
    _text("scan options", "ScanOptions"),
    _text("slices or slab", "MRAcquisitionType"),
    _text("phase encoding", "InPlanePhaseEncodingDirection"),
    _number("bandwidth", "", "PixelBandwidth", within=0.1),
    _number("echo time", "MREchoSequence", "EffectiveEchoTime", "EchoTime", within=0.02),
    _number("echo number", "", "EchoNumbers"),
    _number("echo train length", _TIMING, "EchoTrainLength"),
    # A gated scan waits for the heart or the breath: the time varies from slice to slice.
    _number("repetition time", _TIMING, "RepetitionTime", within=0.5),
    _number("inversion time", "MRModifierSequence", "InversionTimes", "InversionTime", within=0.1),
    _number("flip angle", _TIMING, "FlipAngle", within=0.1),
    _number("field strength", "", "MagneticFieldStrength", within=0.1),
    _number("b-value", "MRDiffusionSequence", "DiffusionBValue", within=0.05),
    _number("temporal position", _CONTENT, "TemporalPositionIndex", "TemporalPositionIdentifier"),
    # CT
    _number("tube voltage", "CTXRayDetailsSequence", "KVP", within=0.05),
    _text("kernel", "ConvolutionKernel", groups=("CTReconstructionSequence",)),
    # PET, and what numbers mean
    _text("corrections", "CorrectedImage"),
    _text("attenuation correction", "AttenuationCorrectionMethod"),
    _text("decay correction", "DecayCorrection"),
    _text("unit", "Units"),
    _text("kind of SUV", "SUVType"),
    _text("rescale type", "RescaleType", groups=("PixelValueTransformationSequence",)),
    _text("photometric interpretation", "PhotometricInterpretation"),
    # Slices of one volume may be taken one after the other.
    _loose("trigger time", _TIME, "NominalCardiacTriggerDelayTime", "TriggerTime"),
    _loose("acquisition number", _CONTENT, "FrameAcquisitionNumber", "AcquisitionNumber"),
)
_PRIVATE = {  # of makers who had them before the standard: creator, group and element
    "b-value": (
        ("SIEMENS MR HEADER", 0x0019, 0x0C),
        ("GEMS_PARM_01", 0x0043, 0x39),
        ("Philips Imaging DD 001", 0x2001, 0x03),
    ),
    "complex component": (("GEMS_PARM_01", 0x0043, 0x2F),),
}
_GE_OFFSET = 100_000  # of GE's b-values, which newer scanners add multiples of it to


def marks_of(header: Any, find: Find | None) -> tuple[Mark, ...]:
    """Return what a slice says of each of `ATTRIBUTES`; `find` is for frames of enhanced files."""
    return tuple(_mark(attribute, header, find) for attribute in ATTRIBUTES)


def _mark(attribute: Attribute, header: Any, find: Find | None) -> Mark:
    groups = (*attribute.groups, *_CONVERTED) if find and attribute.groups else ()
    for holder in (*map(find or header.get, groups), header):
        for keyword in attribute.keywords:
            value = holder.get(keyword) if keyword in holder else None
            mark = _as_text(value) if attribute.within is None else as_number(value)
            if mark is not None:
                return mark
    return _private(header, attribute)


def as_number(value: Any) -> float | None:
    """Return a number that can be done without: None where it is absent or unreadable."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        value = value[0] if value else None
    with suppress(ValueError, TypeError, OverflowError):
        return float(value)
    return None


def _as_text(value: Any) -> str | None:
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    text = "\\".join(map(str, value)) if several else str("" if value is None else value)
    return text.strip() or None


def _private(header: Any, attribute: Attribute) -> Mark:
    """Return what a maker's own elements say, where a header has no other."""
    for creator, group, element in _PRIVATE.get(attribute.name, ()):
        with suppress(KeyError):
            value = header.private_block(group, creator)[element].value
            if isinstance(value, bytes):
                value = value.decode("ascii", "replace").split("\\")
            number = as_number(value)
            number = number if number is None else number % _GE_OFFSET
            return number if attribute.within is not None else _as_text(number)
    return None


def require_one_acquisition(
    names: Sequence[str], marks: Sequence[tuple[Mark, ...]], where: str
) -> None:
    """Refuse (GridError) slices, each with its marks, that several acquisitions have made."""
    usual = Counter(marks).most_common(1)[0][0]
    odd: set[int] = set()
    differing: list[str] = []
    texts: list[str] = []
    for number, attribute in enumerate(ATTRIBUTES):
        values = [mark[number] for mark in marks] if attribute.agrees else []
        apart = {n for n, value in enumerate(values) if not _agree(value, usual[number], attribute)}
        if apart:
            odd |= apart
            differing.append(attribute.name + told_values(values))
            texts += _texts(attribute, values)
    if odd:
        found = ", ".join(differing)
        like = f"{len(names) - len(odd)} like {names[marks.index(usual)]}"
        raise GridError(
            f"holds several acquisitions, which differ in {found}: {like}, but not "
            f"{some_of([names[n] for n in sorted(odd)])}",
            where=where,
            expected="one",
            remedy="put the files of one of them into a folder of their own",
            listed="; ".join(texts),
        )


def _agree(value: Mark, usual: Mark, attribute: Attribute) -> bool:
    if isinstance(value, float) and isinstance(usual, float) and attribute.within is not None:
        return abs(value - usual) <= attribute.within * max(abs(value), abs(usual))
    return value == usual


def told_values(values: Sequence[Mark]) -> str:
    """Return the numbers of an attribute for a message, which holds no text of headers."""
    numbers = sorted({value for value in values if isinstance(value, float)})
    listed = [f"{number:g}" for number in numbers] + ["none"] * (None in values and bool(numbers))
    return f" ({some_of(listed)})" if listed else ""


def _texts(attribute: Attribute, values: Sequence[Mark]) -> Iterator[str]:
    if attribute.within is None and attribute.told:
        found = sorted({printable(value) if value else "none" for value in values})
        yield f"{attribute.name}: {some_of([*map(repr, found)])}"
