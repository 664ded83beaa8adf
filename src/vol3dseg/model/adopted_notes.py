"""What users of an adopted model are told: that nobody has proven it, or that a scan lies oddly."""

from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.manifest import Manifest

_USUAL = ({"L", "R"}, {"A", "P"}, {"I", "S"})  # what i, j and k of most files are along


def unproven(manifest: Manifest) -> tuple[str, ...]:
    """Say that the labels of an adopted model were never compared; nothing of others."""
    adopted = [facts for facts in manifest.members if isinstance(facts, AdoptedFacts)]
    if not adopted or manifest.proof is not None:
        return ()
    return (
        f"its labels were never compared with those of {adopted[0].framework}: adopt the model "
        "again with --verify or --against",
    )


def axes_warnings(manifest: Manifest, axes: str) -> tuple[str, ...]:
    """Say that a scan is stored in other axes than those that the network has learned from.

    Only of networks that see axes as files store them. Where nobody has said how the training
    scans are stored, the usual is supposed: left-right, front-back, up-down, in either direction.
    """
    if manifest.recipe.orientation == "RAS":
        return ()
    known = manifest.training_axes
    said = f"its axes are stored as {axes}, and this network sees a scan as it is stored"
    if known is not None:
        advice = f"the training scans were stored as {known}: bring it into those axes first"
        return () if axes == known else (f"{said}; {advice}",)
    if all(axis in ends for axis, ends in zip(axes, _USUAL, strict=True)):
        return ()
    return (
        f"{said}; most are stored left-right, front-back, up-down (LPS, RAS): unless the training "
        f"scans were stored as {axes} too, bring it into their axes first",
    )
