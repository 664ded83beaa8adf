"""What the columns of a dataset table mean.

::

    id                    names the case in every output
    subject               who was scanned; the id where it is empty or there is no such column
    label                 the label map; empty where there is none
    <modality>            the image; every name that is none of the others
    <modality>_volume     which volume of a 4-D file, from 0
    <modality>_nan        the number that replaces NaN and infinity
    <modality>_series     which series of a DICOM folder
    <modality>_resample   yes: bring the image onto the grid of the first modality
    label_series          which series of a DICOM folder is the label map
    label_resample        yes: bring the label map onto the grid of the images
"""

import difflib
from collections import Counter
from collections.abc import Sequence

ID, SUBJECT, LABEL = "id", "subject", "label"
VOLUME, NAN, SERIES, RESAMPLE = "_volume", "_nan", "_series", "_resample"
LABEL_SERIES, LABEL_RESAMPLE = LABEL + SERIES, LABEL + RESAMPLE
_CHOICES = (VOLUME, NAN, SERIES, RESAMPLE)
_FIXED = (ID, SUBJECT, LABEL, LABEL_SERIES, LABEL_RESAMPLE)
_CLOSE = 0.8  # of difflib: one letter of five is wrong


def read_header(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Tell which columns are modalities, and which cannot be understood.

    Parameters
    ----------
    names : sequence of str
        Of all columns.

    Returns
    -------
    modalities : tuple of str
        In the order of their columns.
    problems : list of str
        In words; empty if all is well.
    """
    times = Counter(filter(None, names))
    problems = [f"column {name!r} is there twice" for name, n in times.items() if n > 1]
    problems += [f"column {n} has no name" for n, name in enumerate(names, start=1) if not name]
    if ID not in names:
        problems.append(f"there is no column {ID!r}")
    images = tuple(name for name in times if name not in _FIXED and not name.endswith(_CHOICES))
    for name in times:
        if name in images:
            meant = _meant(name, names, images)
            if meant:
                problems.append(f"unknown column {name!r}, did you mean {meant!r}?")
        elif name not in _FIXED:
            problems += _without_image(name, images)
    if not images:
        problems.append("there is no column of a modality")
    return images, problems


def _meant(name: str, names: Sequence[str], images: Sequence[str]) -> str | None:
    """Return the column that was probably meant by one that is taken for a modality."""
    of_others = [image + choice for image in images if image != name for choice in _CHOICES]
    known = [k for k in (*_FIXED, *of_others) if k not in names]
    return next(iter(difflib.get_close_matches(name.lower(), known, 1, _CLOSE)), None)


def _without_image(name: str, images: Sequence[str]) -> list[str]:
    """Return what is wrong with a column that says something of an image, if it is not there."""
    choice = next(choice for choice in _CHOICES if name.endswith(choice))
    image = name.removesuffix(choice)
    if image in images:
        return []
    close = difflib.get_close_matches(image, images, 1)
    guess = f", did you mean {close[0] + choice!r}?" if close else ""
    return [f"unknown column {name!r}: there is no modality {image!r}{guess}"]
