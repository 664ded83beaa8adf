"""All that is wrong with a model, a prepared folder or a run, by the checks of who reads it."""

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vol3dseg.errors import MissingExtraError, ModelError, RunError, Vol3dSegError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.file_check import OpenedFile, file_faults, open_file
from vol3dseg.model.model_file import describe
from vol3dseg.model.onnx_bytes import read_bytes
from vol3dseg.model.signature_bundle import signature_path
from vol3dseg.model.signing_keys import Trusted, load_keys, trusted_by
from vol3dseg.preprocessing.case_check import case_faults
from vol3dseg.preprocessing.index import FILE_NAME, load_index
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.preprocessing.withdrawal import strays
from vol3dseg.training.finished_run import read_finished
from vol3dseg.training.held_out import fold_folder, fold_numbers
from vol3dseg.training.keras_archive import AGAIN, read_network
from vol3dseg.training.pooled_folds import is_cross_validation, read_folds_of
from vol3dseg.training.training_state import LAST, MANIFEST, read_state
from vol3dseg.written import LIST_NAME, is_ours

_MOST = 100  # findings; a file of megabytes can hold a million
_CHECKPOINTS = ("best.keras", LAST)
_OF_RUN = (*_CHECKPOINTS, MANIFEST, "config.yaml", "split.json", "environment.json")
Found = Iterator[Vol3dSegError | str]  # what is refused; or a note, as text


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit has found.

    Attributes
    ----------
    kind : str
        What was looked at, in words.
    findings : tuple of Vol3dSegError
        All that would be refused, a hundred at most.
    notes : tuple of str
        What may matter, and is not refused.
    """

    kind: str
    findings: tuple[Vol3dSegError, ...]
    notes: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        parts = ("where", "found", "expected", "remedy")
        said = [{part: getattr(each, part) for part in parts} for each in self.findings]
        return {"kind": self.kind, "findings": said, "notes": list(self.notes)}


def audit(path: str | Path, trusted: Trusted | None = None) -> Audit:
    """Look for all that would be refused in a model, a prepared folder or a run.

    Nothing is changed, and no checkpoint is loaded.

    Parameters
    ----------
    path : str or Path
        An ONNX model; a folder of `vol3dseg preprocess`; one of `train` or `cross-validate`,
        finished or not.
    trusted : str or Path, or a sequence of these, or None
        Public keys, one of which must have signed the model; see `load_predictor`.

    Returns
    -------
    Audit

    Raises
    ------
    ModelError
        There is no such thing; as a TrustError, a key cannot be read.
    MissingExtraError
        A signature is to be verified, and the extra [sign] is not installed.
    """
    path = Path(path)
    if trusted is not None or path.is_file():
        kind, found = "model", _of_model(path, trusted)
    elif (path / FILE_NAME).is_file():
        kind, found = "prepared folder", _of_prepared(path)
    elif is_cross_validation(path):
        kind, found = "cross-validation", _of_folds(path)
    elif any((path / name).is_file() for name in (*_CHECKPOINTS, MANIFEST, "training.log")):
        kind, found = "run", _of_run(path)
    else:
        describe(path)  # which says that it is nothing of ours
        kind, found = "", iter(())
    findings, notes = [], []
    for each in islice(found, _MOST):
        if isinstance(each, str):
            notes.append(each)
        else:
            findings.append(each)
    return Audit(kind, tuple(findings), tuple(notes))


def _of_model(path: Path, trusted: Trusted | None) -> Found:
    keys = None if trusted is None else load_keys(trusted)
    opened: OpenedFile | None = None
    try:
        content = read_bytes(path)
        if keys is not None:
            yield f"signed by the trusted key {trusted_by(keys, content, path)}"
        elif signature_path(path).exists():
            yield f"{signature_path(path)} is verified by --trusted alone"
        opened = open_file(content, path)
    except ModelError as fault:  # behind which nothing is to be parsed
        yield fault
        return
    sound = True
    for refusal in file_faults(opened, path, allow_standalone=True):
        sound = False
        yield refusal
    if sound and opened.standalone(path) is None:
        try:  # which runs it once, on the smallest input that it takes
            load_predictor(path, "cpu")
        except MissingExtraError as missing:
            yield f"its network was not run: {missing}"
        except Vol3dSegError as fault:
            yield fault


def _of_prepared(folder: Path) -> Found:
    try:
        index = load_index(folder)
    except Vol3dSegError as fault:
        yield fault
        return
    faults: dict[str, Vol3dSegError] = {**case_faults(folder, index, index.cases)}
    for entry in index.cases:
        try:
            if entry.id not in faults:
                StoredCase.open(folder, entry, index.recipe.modalities)
        except Vol3dSegError as fault:
            faults[entry.id] = fault
    yield from (faults[entry.id] for entry in index.cases if entry.id in faults)
    yield from index.unseen
    found = strays(folder, index)
    yield from (f"{path} is of no case of the index" for path in found.unknown)
    yield from (
        f"{path} is unfinished, of a killed or working process" for path in found.unfinished
    )


def _of_run(run: Path) -> Found:
    damaged = False
    for checkpoint in filter(Path.exists, (run / name for name in _CHECKPOINTS)):
        for fault in _checkpoint_faults(checkpoint):
            damaged = True
            yield fault
    yield from _changed(run, _OF_RUN)
    try:
        found = read_finished(run)
    except Vol3dSegError as fault:
        # That a checkpoint is damaged has been said.
        if not damaged or fault.where not in {str(run / name) for name in _CHECKPOINTS}:
            yield fault
        return
    try:
        changed = found.changed_in(found.prepared_in())
        yield from [str(changed)] if changed else []
    except Vol3dSegError as fault:  # of another folder, without which a run is whole
        yield str(fault)


def _checkpoint_faults(path: Path) -> Iterator[RunError]:
    """Give what is wrong with a checkpoint: its state, and members that are not as written."""
    try:
        read_state(path)
        read_network(path, lambda name: ">" in name)  # which whoever has registered it may load
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except RunError as fault:
        yield fault
        return
    except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        broken = "a member"
    if broken is not None:
        yield RunError(
            "is damaged: a member has another checksum",
            where=path,
            expected="a checkpoint of vol3dseg train",
            remedy=AGAIN,
        )


def _changed(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Give which files are not as they were written, where there is a list of them."""
    if (folder / LIST_NAME).is_file():
        paths = [folder / name for name in names]
        yield from (
            f"{path} was changed since it was written"
            for path in paths
            if path.is_file() and not is_ours(path)
        )


def _of_folds(folder: Path) -> Found:
    try:
        read_folds_of(folder)
    except Vol3dSegError as fault:
        yield fault
    for number in fold_numbers(folder):
        yield from _of_run(fold_folder(folder, number))
