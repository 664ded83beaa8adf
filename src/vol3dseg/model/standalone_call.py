"""What a standalone graph says of itself, beside the manifest: how to call it without vol3dseg.

Such a graph takes raw intensities and gives labels; `vol3dseg.export.standalone` makes it.
"""

from typing import Literal

from pydantic import ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.schema import Frozen

STANDALONE_KEY = "vol3dseg.standalone"


class Standalone(Frozen):
    """How a standalone graph is called.

    Attributes
    ----------
    inputs : tuple of str
        One (i, j, k) float32 input for each modality, with its raw intensities, all on one grid.
    axes : "RAS"
        What i, j and k must be closest to: to the right, to the front, up.
    output : str
        (i, j, k) uint8, on the grid of the inputs.
    values : mapping from class to int
        What stands for each class in the output: the values that `vol3dseg predict` writes.
    """

    version: Literal[1] = 1
    inputs: tuple[str, ...]
    axes: Literal["RAS"]
    output: str
    values: dict[str, int]


def parse_standalone(text: str, source: str) -> Standalone:
    """Read from JSON how a standalone graph is called.

    Parameters
    ----------
    text : str
    source : str
        The file it comes from, for the message.

    Raises
    ------
    ModelError
        It is damaged, or of another version.
    """
    try:
        return Standalone.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(
            f"{source}: damaged metadata {STANDALONE_KEY!r}, or of another version of vol3dseg; "
            "expected a file of vol3dseg export-onnx --standalone; export it again"
        ) from error
