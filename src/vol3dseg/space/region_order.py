"""Regions as targets of a network: the order they are painted in, and the class that each paints.

A network with regions has an independent output for each, so a voxel may be in several at once, as
one of the enhancing tumour is in the core and in the whole tumour. Its class follows: regions are
painted over each other, the largest first, each with the one class that is in it and otherwise only
in the regions round it. For BraTS, the whole tumour paints edema, the core over it necrosis, the
enhancing tumour over both itself.
"""

from vol3dseg.errors import LabelError, some_of
from vol3dseg.space.labels import LabelSet


def painted_classes(labels: LabelSet) -> dict[str, str]:
    """Return the class that each region paints, in the order of painting.

    LabelError: the regions do not tell all classes apart.
    """
    regions = {name: set(members) for name, members in labels.regions.items()}
    order = sorted(regions, key=lambda name: -len(regions[name]))  # of equals the first
    left = {name: _left_to(name, regions) for name in order}
    problems = [
        *(["there are none"] if not regions else []),
        *_of_classes(labels, regions, left),
        *_of_regions(regions, left),
    ]
    if problems:
        raise LabelError(
            f"cannot be targets: {'; '.join(problems)}",
            where="labels.regions",
            expected="regions inside each other or side by side, each with one class of its own",
            remedy="change labels.regions, or say training.targets: classes",
        )
    return {name: classes[0] for name, classes in left.items()}


def _left_to(name: str, regions: dict[str, set[str]]) -> list[str]:
    """Return the classes of a region that are in no other one but those that contain it."""
    others = [of for other, of in regions.items() if other != name and not of >= regions[name]]
    return sorted(regions[name].difference(*others))


def _of_classes(
    labels: LabelSet, regions: dict[str, set[str]], left: dict[str, list[str]]
) -> list[str]:
    painted = {name for classes in left.values() for name in classes}
    problems = []
    if background := [n for n, of in regions.items() if labels.names[0] in of]:
        problems.append(f"{some_of(background)} has the background in it")
    for name in labels.foreground:
        inside = [region for region, members in regions.items() if name in members]
        if regions and not inside:
            problems.append(f"{name!r} is in no region")
        elif regions and name not in painted:
            problems.append(f"{name!r} is where {some_of(inside)} overlap, none inside the other")
    return problems


def _of_regions(regions: dict[str, set[str]], left: dict[str, list[str]]) -> list[str]:
    """Say which regions paint nothing or several classes, or are the same as another."""
    problems = []
    for name, classes in left.items():
        alike = [other for other, of in regions.items() if of == regions[name]]
        if name == alike[-1] and len(alike) > 1:
            problems.append(f"{some_of(alike)} are the same")
        elif not classes:
            problems.append(f"{name!r} has no class but those of smaller regions")
        elif len(classes) > 1 and len(alike) == 1:
            problems.append(f"{some_of(classes)} are in the same regions")
    return problems
