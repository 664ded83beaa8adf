"""What is done to a label map after the network: steps, as a manifest says them.

A component is what hangs together by faces, edges or corners of its voxels (26 neighbours). A hole
is what does not, by faces alone (6 neighbours), hang together with the faces of the volume; the one
is the complement of the other. `components.py` does the steps.
"""

from typing import Annotated, Literal

from pydantic import Field

from vol3dseg.schema import Count, Frozen, Name, Positive
from vol3dseg.space.labels import LabelSet

_MOST_STEPS = 64
Millilitres = Annotated[float, Field(strict=True, ge=1e-9, le=1e9)]


class KeepLargest(Frozen):
    """Keep the largest component of a class or region; of equals, the first in memory.

    Attributes
    ----------
    of : str
        A class or a region.
    becomes : str
        The class that voxels of all other components get; most often the background.
    """

    kind: Literal["keep_largest"] = "keep_largest"
    of: Name
    becomes: Name

    def __str__(self) -> str:
        return f"only the largest component of {self.of} is kept, others become {self.becomes}"


class RemoveSmall(Frozen):
    """Remove the components of a class or region that are smaller than a volume.

    Attributes
    ----------
    of : str
        A class or a region.
    volume_ml : float
        The smallest volume that stays [ml].
    becomes : str
        The class that voxels of smaller components get; most often the background.
    """

    kind: Literal["remove_small"] = "remove_small"
    of: Name
    volume_ml: Millilitres
    becomes: Name

    def __str__(self) -> str:
        return f"components of {self.of} below {self.volume_ml:.4g} ml become {self.becomes}"


class FillHoles(Frozen):
    """Fill the background that a class or region encloses; other classes in a hole stay.

    Attributes
    ----------
    of : str
        A class or a region.
    becomes : str
        The class that such voxels get: the class itself, or one of the region.
    """

    kind: Literal["fill_holes"] = "fill_holes"
    of: Name
    becomes: Name

    def __str__(self) -> str:
        return f"background that {self.of} encloses becomes {self.becomes}"


Step = Annotated[KeepLargest | RemoveSmall | FillHoles, Field(discriminator="kind")]
Steps = Annotated[tuple[Step, ...], Field(max_length=_MOST_STEPS)]


class Change(Frozen):
    """What a step has changed in a label map.

    Attributes
    ----------
    step : int
        Its number, from 1.
    what : str
        The step in words.
    pieces : int
        Components that were removed, or holes that were filled.
    voxels : int
        That became another class.
    """

    step: Positive
    what: str
    pieces: Count
    voxels: Count


def members_of(name: str, labels: LabelSet) -> tuple[int, ...]:
    """Return the class indices of a foreground class or a region; none of what is neither."""
    if name in labels.regions:
        return labels.indices(labels.regions[name])
    return labels.indices([name]) if name in labels.foreground else ()


def step_problems(steps: Steps, labels: LabelSet) -> list[str]:
    """Say in which ways steps do not fit the labels."""
    problems = []
    for number, step in enumerate(steps, start=1):
        members = members_of(step.of, labels)
        inside = [labels.names[index] for index in members]
        wanted = (
            inside if step.kind == "fill_holes" else [n for n in labels.names if n not in inside]
        )
        where = f"step {number} of postprocessing ({step.kind})"
        if not members:
            known = [*labels.foreground, *labels.regions]
            problems.append(f"{where} is of {step.of!r}, classes and regions are {known}")
        elif step.becomes not in wanted:
            problems.append(f"{where}: voxels become {step.becomes!r}, possible are {wanted}")
    return problems
