"""Rules for classes and intensities: labels, crop and normalisation."""

from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts.label_names import named_labels
from vol3dseg.planning.choices import Choice
from vol3dseg.planning.fingerprint import Fingerprint
from vol3dseg.space.labels import LabelSet

_IGNORE = "ignore"  # what nnU-Net calls the label of voxels that do not count
_LARGEST_WRITTEN = 255
# A crop that saves less is not worth what may go wrong with it.
_CROPS = 0.9
# nnU-Net's threshold for statistics of what is not zero alone: 3/4 of the voxels are left.
_MASKED = 0.75
# How far the largest intensity may lie above percentile 99.5, over the distance of that from the
# median; beyond it a few voxels would set the scale of all.
_FAR = 5.0
_CLIPPED = (0.5, 99.5)  # percent: nnU-Net's for CT


def stated_names(dataset: Path | None, cases: list[Case]) -> LabelSet | None:
    """Return the classes that a data set states in a dataset.json in it or above a label map."""
    labels = [case.label for case in cases if case.label is not None]
    around = labels[0].parents if labels else ()
    return named_labels(*([dataset] if dataset else []), *list(around)[:2])


def choose_labels(found: Fingerprint, stated: LabelSet | None) -> list[Choice]:
    """Return the classes: the values that label maps hold, by their stated names if there are."""
    names = {c.values[0]: c.name for c in stated.classes} if stated else {}
    ignored = [value for value, name in names.items() if value and name.lower() == _IGNORE]
    values = sorted({*found.values, *names} - {0, *ignored})
    write = {value: value for value in values}
    if not all(0 < value <= _LARGEST_WRITTEN for value in values):
        write = {value: number for number, value in enumerate(values, start=1)}
    background = names.get(0, "background")
    classes: list[dict[str, Any]] = [{"name": background, "read": [0], "write": 0}]
    classes += [
        {"name": names.get(v, f"class {v}"), "read": [v], "write": write[v]} for v in values
    ]
    choices = [Choice("labels.classes", classes, _why_classes(found, values, names))]
    if ignored:
        why = "what dataset.json calls ignore counts in no loss and no score"
        choices.append(Choice("labels.ignore", ignored, why))
    return choices


def _why_classes(found: Fingerprint, values: list[int], names: dict[int, str]) -> str:
    where = "named by dataset.json" if names else "named by their values; rename them as you like"
    seen = dict.fromkeys(values, 0)
    total = 0
    for case in found.cases:
        for value, measure in case.classes.items():
            if value in seen:
                seen[value] += measure.voxels
                total += measure.voxels
    parts = [f"{value}: {100 * count / max(total, 1):.1f} %" for value, count in seen.items()]
    absent = [str(value) for value, count in seen.items() if not count]
    lacking = f"; no label map holds {', '.join(absent)}" if absent else ""
    return (
        f"the values in {len(found.cases)} label maps, {where}. Of the labelled voxels, which are "
        f"{100 * found.foreground:.2g} % of all, {', '.join(parts)}{lacking}"
    )


def choose_crop(found: Fingerprint) -> Choice:
    """Cut off zeros where that saves a tenth and no labelled voxel is lost."""
    kept = float(
        np.median([np.prod(case.box or case.shape) / np.prod(case.shape) for case in found.imaged])
    )
    lost = sum(case.outside for case in found.imaged)
    said = f"the box of what is not zero has {100 * kept:.0f} % of a scan's voxels in the median"
    if lost:
        why = f"{said}, but {lost} labelled voxels lie outside of it"
    else:
        why = f"{said}; zeros are cut off where that leaves at most {100 * _CROPS:.0f} %"
    return Choice("recipe.crop", "none" if lost or kept > _CROPS else "nonzero", why)


def choose_normalisation(found: Fingerprint) -> Choice:
    """Return the normalisation of each modality, or the one that all have."""
    steps, said = {}, []
    for name in found.modalities:
        steps[name], facts = _of_modality(found, name)
        said.append(f"{name} {facts}")
    rule = (
        f"in Hounsfield units a fixed window, percentiles {_CLIPPED[0]:g} and {_CLIPPED[1]:g} "
        "inside the foreground (nnU-Net's for CT); else z-scores of each scan by itself, over "
        f"what is not zero where that is below {100 * _MASKED:.0f} % of it (nnU-Net's rule), and "
        f"clipped where the largest intensity lies more than {_FAR:g} times as far above "
        "percentile 99.5 as that above the median"
    )
    why = f"{'; '.join(said)}. The rule: {rule}"
    first, *others = steps.values()
    if all(step == first for step in others):
        return Choice("recipe.normalisation", first, why)
    return Choice("recipe.normalisation", steps, why)


def _of_modality(found: Fingerprint, name: str) -> tuple[dict[str, Any], str]:
    images = found.images(name)
    if 2 * sum(image.hounsfield for image in images) > len(images):
        inside = np.concatenate([image.foreground for image in images])
        low, high = np.percentile(inside, _CLIPPED).tolist()
        low, high = float(np.floor(low)), float(np.ceil(max(high, low + 1)))
        window = {"method": "window", "low": low, "high": high}
        return window, f"is in Hounsfield units, {low:g} to {high:g} in {inside.size} voxels"
    share = float(np.median([image.nonzero for image in images]))
    tail = float(np.median([_tail(i.median, i.high, i.maximum) for i in images]))
    step: dict[str, Any] = {"method": "zscore", "mask": "nonzero" if share < _MASKED else "all"}
    if tail > _FAR:
        step["clip_percentiles"] = list(_CLIPPED)
    facts = f"{100 * share:.0f} % of it are not zero, and its largest lies {tail:.1f} times as far"
    return step, f"has no unit, {facts}"


def _tail(median: float, high: float, maximum: float) -> float:
    return (maximum - high) / (high - median) if high > median else 0.0
