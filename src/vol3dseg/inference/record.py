"""`predictions.json`: what became of each case, beside the label maps."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.signature import Signature, is_current
from vol3dseg.errors import EvaluationError, Vol3dSegError
from vol3dseg.inference.prediction import Origin
from vol3dseg.many_records import write_by_line
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.postprocessing import Change, Steps
from vol3dseg.model.provenance import installed_versions
from vol3dseg.model.tiling_rule import Axis
from vol3dseg.schema import Amount, Count, Frozen, Once, read_json
from vol3dseg.space.labels import LabelSet
from vol3dseg.written import adopt, list_again, sha256_file

RECORD_NAME = "predictions.json"
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino", "numpy", "nibabel", "SimpleITK")


class CaseRecord(Frozen):
    """What became of one case.

    Attributes
    ----------
    file : str
        The label map, relative to the record; empty for a case that failed.
    error : str
        Why it failed, one line per problem; empty if it did not.
    traceback : str
        Where it failed, if nobody foresaw the reason.
    seconds : mapping from stage to float
        Time of "read", "prepare", "infer", "restore", "postprocess" if there is any, and "write"
        [s].
    peak_mb : float or None
        Peak memory of the process during this case [MB]; under a limit, up to its end.
    plan : str
        How the network was run, as text.
    planned_mb : float or None
        Peak memory of the process that was expected before the network ran [MB].
    changes : tuple of Change
        What each step of post-processing has changed.
    volumes_ml : mapping from class to float
        Volume that was found [ml].
    warnings : tuple of str
        In which ways the scan differs from the training data.
    sha256 : str
        Of the file; what `--resume` checks.
    sources : Signature
        Of its images and how they were read; `--resume` checks it.
    part : str
        In which part of the split of the model's training this very scan was; empty where in none.
    deidentified : bool
        Whether patient and study are blank in a DICOM-SEG.
    missing : tuple of str
        Modalities of the model that the scan lacks; `warnings` say what that costs.
    replaced : mapping from modality to int
        Voxels that were NaN or infinite and were replaced, as the dataset table asks for.
    notes, repairs : tuple of str
        What was harmlessly put right in files, or makes labels differ from those of one pass; what
        was put right only because repairs were allowed.
    picture : str
        The picture, relative to the record; empty if there is none.
    picture_note : str
        What is wrong with it, or why there is none though it was asked for; a case does not fail.
    beside : mapping from file to SHA-256
        What was written besides the label map: probabilities, uncertainty and picture.
    """

    file: str = ""
    error: str = ""
    traceback: str = ""
    seconds: dict[str, Amount] = {}
    peak_mb: Amount | None = None
    plan: str = ""
    planned_mb: Amount | None = None
    changes: tuple[Change, ...] = ()
    volumes_ml: dict[str, Amount] = {}
    warnings: tuple[str, ...] = ()
    sha256: str = ""
    sources: Signature = Signature()
    part: str = ""
    deidentified: bool = False
    missing: tuple[str, ...] = ()
    replaced: dict[str, Count] = {}
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    picture: str = ""
    picture_note: str = ""
    beside: dict[str, str] = {}

    @classmethod
    def failed(cls, error: Vol3dSegError) -> Self:
        """Return what is recorded of a case that failed."""
        return cls(error=error.recorded, traceback=error.traceback)

    @property
    def written(self) -> dict[str, str]:
        """Every file of the case, with its SHA-256."""
        return {self.file: self.sha256, **self.beside} if self.file else {}


class Record(Frozen):
    """`predictions.json`: the model, its labels, and what became of each case.

    Attributes
    ----------
    model_sha256, fingerprint : str
    trusted_by : str
        SHA-256 of the public key by which the model was trusted; empty where none was asked for.
    provider : str
        Runtime, device and precision.
    mirror : tuple of "i", "j", "k"
        Axes that views were mirrored along, and averaged.
    postprocessing : tuple of steps
        What was done to labels after the network.
    labels : LabelSet
        Names, and the values that are written in the files.
    channels : tuple of str
        What the last axis of `<id>_probabilities` holds.
    versions : mapping from package to version
    parts : mapping from part to tuple of str
        The cases by part of the split that was given; empty without one.
    dataset : mapping from file to SHA-256
        What stands beside all cases, where they are written as BIDS has them; else empty.
    cases : mapping from case to CaseRecord
    """

    format: Literal["vol3dseg.predictions"] = "vol3dseg.predictions"
    version: Literal[10] = 10
    model_sha256: str
    fingerprint: str
    trusted_by: str = ""
    provider: str
    mirror: Annotated[tuple[Axis, ...], Once] = ()
    postprocessing: Steps = ()
    labels: LabelSet
    channels: tuple[str, ...]
    versions: dict[str, str]
    parts: dict[str, tuple[str, ...]] = {}
    dataset: dict[str, str] = {}
    cases: dict[str, CaseRecord] = {}

    def save(self, folder: str | Path, more: Mapping[str, str] | None = None) -> str:
        """Write `predictions.json` into `folder`, atomically; return its SHA-256.

        `more` has the JSON of further cases, which stand last and in place of its own.
        """
        path, more = Path(folder) / RECORD_NAME, more or {}
        own = ((n, made.model_dump_json()) for n, made in self.cases.items() if n not in more)
        lines = (f"{json.dumps(name)}: {said}" for name, said in chain(own, more.items()))
        write_by_line(path, self, "{}", lines)
        return sha256_file(path)

    def with_cases(self, cases: Mapping[str, CaseRecord]) -> "Record":
        """Return the record with these cases, over those that it has."""
        return self.model_copy(update={"cases": {**self.cases, **cases}})

    def with_parts(self, parts: Mapping[str, Sequence[str]]) -> "Record":
        """Return the record with these cases in these parts, and all others where they were."""
        moved = {case for cases in parts.values() for case in cases}
        names = dict.fromkeys([*self.parts, *parts])
        stay = {n: [c for c in self.parts.get(n, ()) if c not in moved] for n in names}
        return self.model_copy(update={"parts": {n: (*stay[n], *parts.get(n, ())) for n in names}})

    @property
    def postprocessing_in_words(self) -> str:
        """What was done to labels after the network."""
        return "; ".join(map(str, self.postprocessing)) or "none"

    @property
    def part_of(self) -> dict[str, str]:
        """The part of each case, as the model knows it, or else of the split that was given."""
        given = {case: part for part, cases in self.parts.items() for case in cases}
        return given | {name: case.part for name, case in self.cases.items() if case.part}

    @classmethod
    def of(cls, manifest: Manifest, origin: Origin) -> "Record":
        """Return the record of a model, without cases."""
        return cls(
            model_sha256=origin.sha256,
            fingerprint=manifest.fingerprint,
            trusted_by=origin.trusted_by,
            provider=origin.provider,
            mirror=manifest.tiling.mirror,
            postprocessing=manifest.postprocessing,
            labels=manifest.labels,
            channels=manifest.outputs.channels,
            versions=installed_versions(*_PACKAGES),
        )

    def require_same_model(self, other: "Record", folder: str | Path) -> None:
        """Refuse to go on with another model, on another provider, or in another way."""
        facts = [
            ("model", self.model_sha256, other.model_sha256),
            ("provider", self.provider, other.provider),
            ("views mirrored along", *(", ".join(r.mirror) or "no axis" for r in (self, other))),
            ("post-processing:", *(r.postprocessing_in_words for r in (self, other))),
        ]
        for fact, ours, theirs in facts:
            if ours != theirs:
                raise EvaluationError(
                    f"was made with {fact} {ours}, now it is {theirs}",
                    where=Path(folder) / RECORD_NAME,
                    remedy="resume with the same, or segment into another folder",
                )

    def is_there(self, case_id: str, folder: str | Path) -> bool:
        """Return whether the files of a case are there, byte for byte as they were written."""
        made = self.cases.get(case_id)
        if made is None or made.error:
            return False
        paths = {Path(folder) / name: digest for name, digest in made.written.items()}
        return all(path.is_file() and sha256_file(path) == paths[path] for path in paths)

    def is_complete(self, case: Case, folder: str | Path, modalities: Sequence[str]) -> bool:
        """Return whether the files of a case are there, as they were written, and up to date."""
        made = self.cases.get(case.id)
        return (
            made is not None
            and is_current(made.sources, bool(made.repairs), case, modalities, with_label=False)
            and self.is_there(case.id, folder)
        )


def load_record(folder: Path) -> Record:
    """Read `predictions.json` of a folder of predictions; what is wrong is an EvaluationError."""
    return read_json(
        Record,
        folder / RECORD_NAME,
        EvaluationError,
        expected="what vol3dseg predict writes beside its label maps",
        remedy="predict into another folder; where there is none, --config can name the labels",
    )


def earlier_record(folder: Path) -> Record | None:
    """Return the record of an earlier run in a folder, whose files are ours; None without one.

    What is no such record, or is damaged, is none: then it is nobody's to replace.
    """
    try:
        record = load_record(folder)
    except EvaluationError:
        return None
    own = {RECORD_NAME: sha256_file(folder / RECORD_NAME)}
    for place, files in _by_folder(record, folder).items():
        adopt(place, own | files if place == folder else files)
    return record


def list_predictions(record: Record, folder: Path) -> None:
    """Let the files of a record be listed as ours, by whichever machine they were written."""
    for place, files in _by_folder(record, folder).items():
        list_again(place, files)


def _by_folder(record: Record, folder: Path) -> dict[Path, dict[str, str]]:
    """Return the files of a record with their SHA-256, by the folder they lie in."""
    files = dict(record.dataset)
    for case in record.cases.values():
        files |= case.written
    found: dict[Path, dict[str, str]] = {folder: {}}
    for name, digest in files.items():
        below = PurePosixPath(name)
        if not below.is_absolute() and ".." not in below.parts:
            found.setdefault(folder / below.parent, {})[below.name] = digest
    return found
