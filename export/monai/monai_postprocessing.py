"""A bundle's postprocessing, and its names of channels, as outputs and labels of a manifest.

MONAI's result of independent channels is one mask each. Here it is a label map: regions are painted
one after the other, so that each must lie within those before it, as those of BraTS do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from vol3dseg.export.monai.arguments import parsed
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.export.monai.transforms import Transform, listed, of_key, plain_name
from vol3dseg.model.outputs import Brought, Outputs, Region, Sigmoid, Softmax
from vol3dseg.recipe.monai_steps import MonaiStep
from vol3dseg.schema import Frozen, Share, quoted
from vol3dseg.space.labels import Label, LabelSet

_PRED = "pred"
_WHOLE = ("@preprocessing", "$@preprocessing")
_BACKGROUND = "background"


class _Activations(Frozen):
    softmax: bool = False
    sigmoid: bool = False
    other: None = None


class _AsDiscrete(Frozen):
    argmax: bool = False
    threshold: Share | None = None
    to_onehot: None = None
    rounding: None = None


class _Invert(Frozen):
    orig_keys: Literal["image"] | None = None
    nearest_interp: bool = True
    to_tensor: bool = True
    orig_meta_keys: str | None = None


_KNOWN: Mapping[str, type[Frozen]] = {
    "Activations": _Activations,
    "AsDiscrete": _AsDiscrete,
    "Invert": _Invert,
}
_IDLE = ("SaveImage", "EnsureType", "ToTensor")


class Postprocessing(NamedTuple):
    """What becomes of the network's outputs."""

    threshold: float | None  # of a probability; None where the largest output decides
    brought: Brought
    transforms: tuple[Transform, ...]


def read_postprocessing(config: BundleConfig, steps: Sequence[MonaiStep]) -> Postprocessing:
    """Return what is done to outputs; ModelError says what of it cannot be carried."""
    done, run = [], []
    for found in listed(config, "postprocessing"):
        name = plain_name(found.name, {**_KNOWN, **dict.fromkeys(_IDLE)})
        if name in _IDLE:
            continue
        if name not in _KNOWN:
            wanted = f"transforms of a closed list: {', '.join([*_KNOWN, *_IDLE])}"
            raise config.refuse(f"postprocessing has {quoted(found.name)}", expected=wanted)
        given = of_key(config, found, _PRED)
        if given is None:
            continue
        if name == "Invert" and given.pop("transform", None) not in _WHOLE:
            wanted = "transform: @preprocessing"
            raise config.refuse(f"{found.name} inverts something else", expected=wanted)
        said = parsed(config, _KNOWN[name], found.name, given)
        done.append(said)
        run.append(Transform(name, said.model_dump(exclude_unset=True)))
    threshold = _decision(config, done)
    return Postprocessing(threshold, _way_home(config, done, steps), tuple(run))


def _decision(config: BundleConfig, done: Sequence[Any]) -> float | None:
    """Return the threshold, or None for the largest; they fit what was made of outputs before."""
    made = [type(said) for said in done]
    if made.count(_AsDiscrete) != 1 or any(made.count(kind) > 1 for kind in made):
        wanted = "one AsDiscreted, and at most one Activationsd and Invertd"
        raise config.refuse("its postprocessing makes no labels, or twice", expected=wanted)
    decision = done[made.index(_AsDiscrete)]
    before = done[: made.index(_AsDiscrete)]
    activation = next((s for s in before if isinstance(s, _Activations)), _Activations())
    if _Activations in made and activation not in before:
        raise config.refuse("Activationsd comes after AsDiscreted", expected="before it")
    fits = decision.argmax and decision.threshold is None and not activation.sigmoid
    if fits:
        return None
    if decision.argmax or not activation.sigmoid or activation.softmax or not decision.threshold:
        raise config.refuse(
            "its Activationsd and AsDiscreted make no labels that are known",
            expected="softmax, or nothing, and argmax; or sigmoid and a threshold above 0",
        )
    return float(decision.threshold)


def _way_home(config: BundleConfig, done: Sequence[Any], steps: Sequence[MonaiStep]) -> Brought:
    kinds, made = {step.step for step in steps}, [type(said) for said in done]
    resampled, moved = "spacing" in kinds, bool(kinds & {"orientation", "spacing", "crop"})
    active = _Activations in made
    if _Invert not in made:
        if moved:
            found = "its postprocessing has no Invertd, so labels stay on the prepared grid"
            raise config.refuse(found, expected="Invertd, which brings them to that of the scan")
        return "probabilities" if active else "values"
    place = made.index(_Invert)
    late = place > made.index(_AsDiscrete)
    if resampled and (late or done[place].nearest_interp):
        raise config.refuse(
            "Invertd takes the nearest voxel, which between two is a matter of rounding",
            expected="Invertd before AsDiscreted, with nearest_interp: false",
        )
    if active and made.index(_Activations) < place:
        return "probabilities"
    if active and "crop" in kinds and done[made.index(_Activations)].sigmoid:
        wanted = "Activationsd before Invertd"
        raise config.refuse("the sigmoid of what was cropped is 0.5, not background", wanted)
    return "values"


class Described(NamedTuple):
    """Labels and outputs, and which channel of the network each of ours is."""

    labels: LabelSet
    outputs: Outputs
    order: tuple[int, ...]


def describe(
    config: BundleConfig, found: Postprocessing, names: Sequence[str], paint: Sequence[str]
) -> Described:
    """Return what the channels of these names become; `paint` is an order of regions."""
    if found.threshold is None:
        if paint:
            raise config.refuse("its labels are the largest of its outputs", remedy="no --paint")
        return _classes(names, found.brought)
    if not paint and len(names) > 1:
        raise config.refuse(
            f"its channels are independent: {', '.join(names)}",
            expected="an order in which they become one label map",
            remedy=f"say it, the widest first: --paint {','.join(map(str, names))!r}",
        )
    paint = paint or names
    if sorted(paint) != sorted(names):
        wanted = f"each of {', '.join(names)} once"
        raise config.refuse(f"--paint names {', '.join(paint)}", expected=wanted, remedy="name all")
    return _regions(names, paint, found)


def _classes(names: Sequence[str], brought: Brought) -> Described:
    classes = tuple(Label(name=n, read=(value,), write=value) for value, n in enumerate(names))
    labels = LabelSet(classes=classes)
    outputs = Softmax(values="logits", brought=brought, classes=labels.names)
    return Described(labels, outputs, tuple(range(len(names))))


def _regions(names: Sequence[str], paint: Sequence[str], found: Postprocessing) -> Described:
    """Return a class for what each region has alone, and unions for those that hold others."""
    alone = [f"{name} only" for name in paint[:-1]] + [paint[-1]]
    classes = [Label(name=n, read=(value,), write=value) for value, n in enumerate(alone, 1)]
    background = Label(name=_BACKGROUND, read=(0,), write=0)
    unions = {name: tuple(alone[n:]) for n, name in enumerate(paint[:-1])}
    regions = tuple(
        Region(name=name, members=tuple(alone[n:]), paints=alone[n]) for n, name in enumerate(paint)
    )
    outputs = Sigmoid(
        values="logits",
        brought=found.brought,
        threshold=found.threshold if found.threshold is not None else 0.5,
        regions=regions,
    )
    labels = LabelSet(classes=(background, *classes), regions=unions)
    return Described(labels, outputs, tuple(names.index(name) for name in paint))
