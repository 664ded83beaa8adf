"""What a class is, in the words of a terminology."""

from typing import Annotated, NamedTuple

from pydantic import Field

from vol3dseg.schema import Frozen


class Code(NamedTuple):
    """A concept of a terminology, such as SNOMED CT (scheme SCT), in DICOM's lengths."""

    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    value: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


class Codes(Frozen):
    """What a class is, for DICOM-SEG.

    Attributes
    ----------
    category : Code
        Such as a morphologically altered structure.
    type : Code
        Such as an edema.
    """

    category: Code
    type: Code
