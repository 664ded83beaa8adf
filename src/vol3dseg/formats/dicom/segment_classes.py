"""Which class each segment of a DICOM-SEG is.

Segments are numbered without gaps, so their numbers are seldom the values of label maps; names come
first. Numbers count only where no segment is called as a class is, which is how programs write that
do not know our names: then a segment is read as its number would be in another label map.
"""

from collections.abc import Mapping

from vol3dseg.errors import LabelError, some_of
from vol3dseg.formats.dicom.dicom_file import long_string, printable
from vol3dseg.space.labels import Label, LabelSet

_MOST = 254  # classes besides the background


def classes_by_name(segments: Mapping[int, str], labels: LabelSet) -> dict[int, int] | None:
    """Return the class index of each segment by its name; None if no name is that of a class.

    Parameters
    ----------
    segments : mapping from number to name
        A class may have several segments.
    labels : LabelSet
        Case does not count, but where classes differ in nothing else.

    Raises
    ------
    LabelError
        Some names are those of classes, and some are not.
    """
    found = {number: _index(name, labels) for number, name in segments.items()}
    unknown = [number for number, index in found.items() if index is None]
    if len(unknown) == len(found):
        return None
    if unknown:
        raise _no_class({number: segments[number] for number in unknown}, labels, "")
    return {number: index for number, index in found.items() if index is not None}


def classes_by_number(segments: Mapping[int, str], labels: LabelSet) -> dict[int, int]:
    """Return the class index of each segment by its number, taken for a value to read.

    Raises
    ------
    LabelError
        A number is no value to read of a class, or two are of one class: such values are
        alternatives between files.
    """
    table = {value: index for index, label in enumerate(labels.classes) for value in label.read}
    unknown = {number: name for number, name in segments.items() if number not in table}
    if unknown:
        read = sorted(value for value in table if value != 0)
        raise _no_class(unknown, labels, f", nor their numbers among the values to read {read}")
    found = {number: table[number] for number in segments}
    twice = [number for number, index in found.items() if list(found.values()).count(index) > 1]
    if twice:
        raise LabelError(
            f"segments {some_of([str(number) for number in twice])} would be one class",
            expected="numbers that stand for one class each, where names are not those of classes",
            remedy="name segments and classes alike",
        )
    return found


def labels_by_number(segments: Mapping[int, str]) -> LabelSet:
    """Return a class "segment n" for each segment; names in headers are nobody's business.

    Raises
    ------
    LabelError
        There are more segments than a label map can hold.
    """
    if not 0 < len(segments) <= _MOST:
        raise LabelError(
            f"holds {len(segments)} segments",
            expected=f"1 to {_MOST}",
            remedy="export those that are needed",
        )
    own = [
        Label(name=f"segment {number}", read=(number,), write=index)
        for index, number in enumerate(sorted(segments), start=1)
    ]
    return LabelSet(classes=(Label(name="background", read=(0,), write=0), *own))


def _index(name: str, labels: LabelSet) -> int | None:
    for key in (long_string, _without_case):
        fitting = [n for n, known in enumerate(labels.names) if key(known) == key(name)]
        if len(fitting) == 1:
            return fitting[0]
    return None


def _without_case(name: str) -> str:
    return long_string(name).strip().casefold()


def _no_class(segments: Mapping[int, str], labels: LabelSet, besides: str) -> LabelError:
    named = [f"{number} {printable(name)!r}" for number, name in segments.items()]
    return LabelError(
        f"segments {some_of([str(number) for number in segments])} are not among the classes "
        f"{some_of(labels.foreground)}{besides}",
        expected="each to be called as a class is, whatever its case",
        remedy="name segments and classes alike",
        listed=f"they are called {some_of(named)}",
    )
