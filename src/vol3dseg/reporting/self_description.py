"""What a model, a run or a prepared folder says of itself, as tables that people read."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import Described
from vol3dseg.preprocessing.index import CaseEntry, Index
from vol3dseg.quality.appearance import AXES, PERCENTS
from vol3dseg.quality.training_data import TrainingData
from vol3dseg.reporting.document import UNDEFINED, Table, number
from vol3dseg.reporting.fold_scores import CLASS_MEAN
from vol3dseg.reporting.network_description import member_table, network_facts, proof_table
from vol3dseg.reporting.recipe_description import recipe_steps
from vol3dseg.reporting.wording import facts_table, listed, worded
from vol3dseg.space.labels import LabelSet

Tables = dict[str, Table]  # by their titles
_LISTED = 20  # rows of what may be as long as the data set

Range = tuple[float, float, float]
_ASTRAY = {
    "unknown": "of no case of the index",
    "unfinished": "unfinished, of a killed or working process",
    "lost": "cases whose file is not there",
}
_RANGE = ("lowest", "median", "highest")
_VOLUME = "volume [ml]: median (lowest to highest)"


def tables_of(found: Described) -> Tables:
    """Return what is to be known of a model, a run or a prepared folder."""
    if isinstance(found.content, Index):
        return describe_prepared(found.content, found.facts["strays"])
    facts = {}
    if "sha256" in found.facts:
        facts = {"size": f"{found.facts['bytes'] / 1e6:.1f} MB", "SHA-256": found.facts["sha256"]}
    if key := found.facts.get("trusted_by"):
        facts["signed by"] = key
    if call := found.facts.get("standalone"):
        facts["called with"] = f"{', '.join(call['inputs'])}; axes closest to {call['axes']}"
        facts["gives"] = f"{call['output']}: {worded(call['values'])}"
    tables = describe_model(found.content, facts)
    if split := found.facts.get("split"):
        rows = tuple((part, f"{len(ids)}: {_named(ids)}") for part, ids in split.items() if ids)
        if rows:
            tables["Cases that it was made with"] = Table(("part", "cases"), rows, text_columns=2)
    return tables


def describe_model(manifest: Manifest, facts: Mapping[str, str]) -> Tables:
    """Return what is to be known of a model or a run; `facts` are of its file."""
    data = manifest.training_data
    tables = {
        "": facts_table({**facts, **network_facts(manifest), **_how_used(manifest)}),
        "What is done to a scan": facts_table(recipe_steps(manifest.recipe)),
        "Classes": _class_table(manifest.labels),
    }
    if columns := _class_columns(manifest):
        tables["What is known of them"] = _by_class(manifest.labels, columns)
    if manifest.without:
        tables["Dice of validation cases without some modalities"] = _without(manifest)
    if manifest.postprocessing:
        steps = tuple((str(n), str(step)) for n, step in enumerate(manifest.postprocessing, 1))
        tables["What is done to labels"] = Table(("", ""), steps, text_columns=2)
    if manifest.members:
        tables["Where the weights come from"] = member_table(manifest)
    if manifest.proof is not None:
        tables[f"Agreement with {manifest.proof.framework}"] = proof_table(manifest.proof)
    if data is not None:
        tables |= _training_scans(data)
    return tables


def describe_prepared(index: Index, strays: Mapping[str, Sequence[str]]) -> Tables:
    """Return what is to be known of a prepared folder; `strays` as `Strays.document` has them."""
    cases, looked = index.cases, dict(_to_look_at(index))
    labelled = sum(case.class_voxels is not None for case in cases)
    volumes = {n: [v for c in cases if (v := c.volumes_ml.get(n))] for n in index.labels.foreground}
    columns = {
        "cases": {name: f"{len(each)} of {len(cases)}" for name, each in volumes.items()},
        _VOLUME: _volumes({name: _range(each) for name, each in volumes.items() if each}),
    }
    facts = {
        "cases": f"{len(cases)} of {len({case.subject for case in cases})} subjects, {labelled} "
        "with a label map",
        "left out, failed": f"{len(index.left_out)}, {len(index.failed)}",
        "missing": ", ".join(f"{name} of {n} cases" for name, n in index.missing.items()),
        "size": f"{sum(case.bytes for case in cases) / 1e6:,.0f} MB",
        "fingerprint": index.fingerprint[:12],
    }
    tables = {
        "": facts_table(facts),
        "What was done to the scans": facts_table(recipe_steps(index.recipe)),
        "Classes": _class_table(index.labels),
        "What is known of them": _by_class(index.labels, columns),
    }
    if cases:
        tables["Scans as read"] = _scan_table(cases)
    if looked:
        rows = tuple(looked.items())[:_LISTED]
        first = f"the first {_LISTED} of " if len(looked) > _LISTED else ""
        title = f"To be looked at: {first}{len(looked)} cases"
        tables[title] = Table(("case", "what"), rows, text_columns=2)
    if astray := {what: names for what, names in strays.items() if names}:
        rows = tuple((what, _named(astray[key])) for key, what in _ASTRAY.items() if key in astray)
        tables["Strays"] = Table(("what", "which"), rows, text_columns=2)
    return tables


def _named(names: Sequence[str]) -> str:
    """Return names in a line; of many the first."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more, which --json names" * (more > 0))


def _class_columns(manifest: Manifest) -> dict[str, dict[str, str]]:
    columns: dict[str, dict[str, str]] = {}
    if (scores := manifest.validation) is not None:
        columns["Dice, validation"] = {n: _dice(v) for n, v in scores.dice.items()}
    if (data := manifest.training_data) is not None:
        columns[_VOLUME] = _volumes(data.volumes_ml)
    return columns


def _how_used(manifest: Manifest) -> dict[str, str]:
    """Return what a scan may lack, and where is looked; empty words where that is as usual."""
    some, looks = " and ".join(manifest.optional), ""
    every = len(manifest.optional) == len(manifest.recipe.modalities)
    if (locating := manifest.locating) is not None:
        found, then = locating.found, {"whole": "the whole scan", "empty": "nowhere"}
        looks = (
            f"in the box that another network finds, and {found.margin_mm:g} mm around it; where "
            f"it finds nothing ({found.missed} of {found.cases} cases), {then[locating.nothing]}"
        )
    return {"a scan may lack": f"{some}, but not all at once" if every else some, "looks": looks}


def _without(manifest: Manifest) -> Table:
    """Return a row for each choice of modalities that may be missing, the complete scan first."""
    names = list(manifest.without[0].scores.dice)
    rows = (
        (
            " and ".join(each.missing) or "nothing",
            str(each.scores.cases),
            *(_dice(each.scores.dice.get(name)) for name in names),
            _dice(each.scores.mean_dice),
        )
        for each in manifest.without
    )
    return Table(("missing", "cases", *names, CLASS_MEAN), tuple(rows))


def _dice(value: float | None) -> str:
    return UNDEFINED if value is None else number(value)


def _volumes(volumes_ml: Mapping[str, Range]) -> dict[str, str]:
    """Return the median volume of each class, and between which ends they lie."""
    return {
        name: f"{median:.4g} ({low:.4g} to {high:.4g})"
        for name, (low, median, high) in volumes_ml.items()
    }


def _class_table(labels: LabelSet) -> Table:
    """Return the classes with their values in files, and regions as unions of them."""
    coded = any(label.codes for label in labels.classes)
    rows = [
        (c.name, c.values_in_words, str(c.write), c.codes.type.meaning if c.codes else "")
        for c in labels.classes
    ]
    rows += [("not judged", listed(labels.ignore), "", "")] if labels.ignore else []
    rows += [(name, " + ".join(of), "", "") for name, of in labels.regions.items()]
    head = ("class or region", "read, or made of", "written", "in DICOM")[: 3 + coded]
    return Table(head, tuple(row[: len(head)] for row in rows), text_columns=len(head))


def _by_class(labels: LabelSet, columns: Mapping[str, Mapping[str, str]]) -> Table:
    """Return the foreground classes and regions with what is known of each."""
    names = dict.fromkeys((*labels.foreground, *labels.regions))
    rows = ((name, *(each.get(name, "") for each in columns.values())) for name in names)
    return Table(("class or region", *columns), tuple(rows))


def _training_scans(data: TrainingData) -> Tables:
    """Return what the training scans were like, and how well others are told from them."""
    rows = [
        (f"{what}, {axis} [mm]", *(f"{v:.4g}" for v in each))
        for what, ranges in (("spacing", data.spacing_mm), ("field of view", data.size_mm))
        for axis, each in zip(AXES, ranges, strict=True)
    ]
    stored = ", ".join(f"{axes} {count}" for axes, count in data.axes.items())
    tables = {
        f"The {data.cases} training scans; axes as stored: {stored}": Table(
            ("", *_RANGE), tuple(rows)
        ),
        "Their intensities: percentiles of what is not background": Table(
            ("modality", *(f"{p} %" for p in PERCENTS)),
            tuple((name, *(f"{v:.4g}" for v in each)) for name, each in data.quantiles.items()),
        ),
    }
    if data.guard is not None:
        title = f"Mishaps that would be noticed, of {data.guard.calibrated_on} scans each"
        shares = tuple((what, f"{share:.0%}") for what, share in data.guard.noticed.items())
        tables[title] = Table(("mishap", "noticed"), shares)
    if data.notes:
        tables["Notes"] = Table(("", ""), tuple(("", note) for note in data.notes), text_columns=2)
    return tables


def _scan_table(cases: Sequence[CaseEntry]) -> Table:
    rows = []
    for place, axis in enumerate("ijk"):
        rows.append((f"voxels, {axis}", *_texts(case.source_shape[place] for case in cases)))
    for place, axis in enumerate("ijk"):
        lengths = (case.source_spacing_mm[place] for case in cases)
        rows.append((f"spacing, {axis} [mm]", *_texts(lengths)))
    return Table(("", *_RANGE), tuple(rows))


def _to_look_at(index: Index) -> Iterable[tuple[str, str]]:
    """Give the cases that something is said of."""
    for case in index.cases:
        said = [*case.warnings, *(f"repaired: {each}" for each in case.repairs)]
        said += [f"{n} voxels of {name} were replaced" for name, n in case.replaced.items()]
        if said:
            yield case.id, "; ".join(said)
    yield from ((name, f"left out: {why}") for name, why in index.left_out.items())
    yield from ((name, f"failed: {why}") for name, why in index.failed.items())


def _texts(values: Iterable[float]) -> tuple[str, ...]:
    return tuple(f"{value:.4g}" for value in _range(list(values)))


def _range(values: Sequence[float]) -> Range:
    low, median, high = np.percentile(values, (0, 50, 100)).tolist()
    return low, median, high
