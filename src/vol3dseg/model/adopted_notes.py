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
    known, advice = manifest.training_axes, "store it as they are, and it is segmented as they were"
    if known is not None:
        if axes == known:
            return ()
        return (
            f"its axes are stored as {axes}, those of the training scans as {known}, and this "
            f"network sees them as they are stored; {advice}",
        )
    if all(axis in ends for axis, ends in zip(axes, _USUAL, strict=True)):
        return ()
    return (
        f"its axes are stored as {axes}; most scans are stored left-right, front-back, up-down, "
        f"such as LPS or RAS, and this network sees them as they are stored: if the training scans "
        f"were not {axes}, {advice}",
    )
