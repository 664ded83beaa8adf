"""Whether volumes and label maps fit each other, and how to say that they do not."""

from collections.abc import Mapping

from vol3dseg.errors import EvaluationError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet


def require_one_grid(case_id: str, remedy: str, grids: Mapping[str, Geometry]) -> None:
    """Check that all lie on the grid of the first.

    Parameters
    ----------
    case_id : str
    remedy : str
        The end of the message: what to do about it.
    grids : mapping from what lies there to Geometry

    Raises
    ------
    EvaluationError
        One does not; the message names both, with the places of their first voxels.
    """
    (first, geometry), *others = grids.items()
    for name, other in others:
        if not other.fits(geometry):
            raise EvaluationError(
                f"case {case_id}: {first} and {name} lie on different grids: {_placed(geometry)} "
                f"and {_placed(other)}; {remedy}"
            )


def require_same_classes(case_id: str, prediction: LabelSet, reference: LabelSet) -> None:
    """Check that two label maps mean the same by their indices.

    Raises
    ------
    EvaluationError
        The names or the order of classes differ.
    """
    if reference.names != prediction.names:
        raise EvaluationError(
            f"case {case_id}: the prediction's classes are {list(prediction.names)}, the "
            f"reference's {list(reference.names)}; read both with one label set"
        )


def _placed(geometry: Geometry) -> str:
    return "{} at ({:.4g}, {:.4g}, {:.4g}) mm".format(geometry, *geometry.affine[:3, 3])
