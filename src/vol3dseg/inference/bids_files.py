"""Predictions as derivatives of the Brain Imaging Data Structure: names, and what stands beside.

::

    dataset_description.json   what made it
    .bidsignore                what has no name in the standard: predictions.json, uncertainty
    desc-vol3dseg_dseg.tsv     the values of label maps and their classes
    desc-vol3dseg_dseg.json    what holds of all label maps
    sub-<label>/[ses-<label>/]anat/sub-<label>[_ses-<label>][_<key>-<value>...]_desc-vol3dseg_dseg.nii.gz

Tables and sidecars stand at the top once: by the inheritance principle they hold for all files
below that have their entities.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vol3dseg import __version__
from vol3dseg.datasets.case import Case
from vol3dseg.errors import OutputError, some_of
from vol3dseg.files import remove_ours, write_text
from vol3dseg.formats import stem
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.record import RECORD_NAME, Record
from vol3dseg.inference.uncertainty import ENTROPY, MUTUAL_INFORMATION
from vol3dseg.written import LIST_NAME, sha256_file

DESCRIPTION, IGNORE = "dataset_description.json", ".bidsignore"
_VERSION = "1.10.0"  # of the standard
_DESC = "desc-vol3dseg"
_TABLE, _LABELS, _SHARES = f"{_DESC}_dseg.tsv", f"{_DESC}_dseg.json", f"{_DESC}_probseg.json"
# What each file of a case ends in; the last three are no names of the standard.
_ENDS = {
    "labels": "dseg.nii.gz",
    "probabilities": "probseg.nii.gz",
    ENTROPY: "entropy.nii.gz",
    MUTUAL_INFORMATION: "mutualinformation.nii.gz",
    "picture": "dseg.png",
}
_IGNORED = (RECORD_NAME, LIST_NAME, *(f"*_{end}" for end in list(_ENDS.values())[2:]))
# That a segmentation of anatomy may have, in the order of the standard.
_KEPT = ("task", "acq", "ce", "rec", "run", "echo", "part", "space", "chunk")
_ID = re.compile(r"sub-[a-zA-Z0-9]+(_ses-[a-zA-Z0-9]+)?")
_ENTITY = re.compile(r"([a-z]+)-([a-zA-Z0-9+]+)")


def bids_file(case: Case, kind: str) -> str:
    """Return the name of a file of a case, with its folders."""
    place = _place(case)
    entities = "".join(f"_{key}-{value}" for key, value in _entities(case).items())
    name = f"{'_'.join(place)}{entities}_{_DESC}_{_ENDS[kind]}"
    return "/".join([*place, "anat", name])


def require_labels(cases: Iterable[Case]) -> None:
    """Refuse cases of which no names, or the same ones, can be made."""
    found: dict[str, list[str]] = {}
    for case in cases:
        found.setdefault("_".join(_place(case)).casefold(), []).append(case.id)
    if nameless := found.get("sub-"):
        raise OutputError(
            f"no name can be made of {some_of(nameless)}",
            where="--layout bids",
            expected="ids with letters from A to Z or digits, which is all that BIDS allows",
            remedy="rename these cases, or leave out --layout",
        )
    same = [ids for ids in found.values() if len(ids) > 1]
    if same:
        raise OutputError(
            f"one name would be made of {'; and of '.join(' and '.join(ids) for ids in same)}",
            where="--layout bids",
            expected="ids that differ in letters or digits, which is all that BIDS allows",
            remedy="rename one of them, or leave out --layout",
        )


def _place(case: Case) -> list[str]:
    """Return the folders of a case: of subject and session, if its id says them as BIDS does."""
    if _ID.fullmatch(case.id):
        return case.id.split("_")
    return [f"sub-{re.sub('[^a-zA-Z0-9]', '', case.id)}"]


def _entities(case: Case) -> dict[str, str]:
    """Return what the names of all images of a case say alike, beside whose they are."""
    names = [stem(path) or "" for source in case.images.values() for path in [source.path]]
    if not _ID.fullmatch(case.id) or not all(name.startswith(f"{case.id}_") for name in names):
        return {}
    said = [dict(_ENTITY.findall(name.removeprefix(case.id))) for name in names]
    alike = set[tuple[str, str]].intersection(*(set(each.items()) for each in said))
    return {key: value for key in _KEPT for each, value in alike if each == key}


def dataset_files(probabilities: bool) -> list[str]:
    """Return the names of what stands beside all cases."""
    return [DESCRIPTION, IGNORE, _TABLE, _LABELS, *[_SHARES] * probabilities]


def write_dataset(
    folder: Path, cases: Sequence[Case], record: Record, origin: Origin, probabilities: bool
) -> dict[str, str]:
    """Write what stands beside all cases; returns the names with their SHA-256."""
    made_by = {"Name": "vol3dseg", "Version": __version__}
    if origin.sha256:
        made_by["Description"] = f"vol3dseg predict, with the model of SHA-256 {origin.sha256}"
    description: dict[str, object] = {
        "Name": "Segmentations by vol3dseg",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
    }
    if sources := [{"DOI": doi} for doi in _dois(cases)]:
        description["SourceDatasets"] = sources
    rows = [("index", "name"), *((str(c.write), c.name) for c in record.labels.classes)]
    on_grid = {"SpatialReference": "orig", "Manual": False}
    contents = {
        DESCRIPTION: description,
        IGNORE: "".join(f"{name}\n" for name in _IGNORED),
        _TABLE: "".join("\t".join(row) + "\n" for row in rows),
        _LABELS: {"Description": "Classes of voxels, on the grid of the scan", **on_grid},
        _SHARES: {
            "Description": "Probabilities of classes or regions, on the grid of the scan",
            "LabelMap": list(record.channels),
            **on_grid,
        },
    }
    names = dataset_files(probabilities)
    for name in names:
        content = contents[name]
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        write_text(folder / name, text)
    kept = {name for case in record.cases.values() for name in case.beside}
    if not probabilities and not any(name.endswith(_ENDS["probabilities"]) for name in kept):
        remove_ours(folder / _SHARES)
    return {
        name: sha256_file(folder / name)
        for name in dataset_files(True)
        if (folder / name).is_file()
    }


def _dois(cases: Sequence[Case]) -> list[str]:
    """Return what the data sets of BIDS that cases come from are published as."""
    found = dict.fromkeys(
        path.parents[len(_place(case)) + 1]
        for case in cases
        for source in case.images.values()
        for path in [source.path.absolute()]
        if _ID.fullmatch(case.id)
        and path.parts[-len(_place(case)) - 2 : -1] == (*_place(case), "anat")
    )
    stated = (_stated(folder / DESCRIPTION) for folder in found)
    dois = (each.get("DatasetDOI") for each in stated)
    return list(dict.fromkeys(doi for doi in dois if isinstance(doi, str) and doi))


def _stated(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # what is wrong with it is not for us to say
        return {}
    return found if isinstance(found, dict) else {}
