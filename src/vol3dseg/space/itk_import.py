"""SimpleITK, an extra of 264 MB: imported where it is needed, and nowhere else."""

from typing import Any

from vol3dseg.errors import MissingExtraError


def simpleitk() -> Any:
    """Return the module SimpleITK, which prints no warnings: what it warns of is checked here.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingExtraError("SimpleITK", "itk") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
