"""Read and write `model.onnx`: a graph with its manifest inside, and nothing reaching outside."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.file_check import OpenedFile, Standalone, file_faults, open_file
from vol3dseg.model.locating import put_locator
from vol3dseg.model.manifest import METADATA_KEY, Manifest, read_run_manifest
from vol3dseg.model.onnx_bytes import read_bytes
from vol3dseg.model.replay_case import METADATA_KEY as REPLAY_KEY
from vol3dseg.model.replay_case import ReplayCase
from vol3dseg.model.signing_keys import Key, Trusted, load_keys, trusted_by
from vol3dseg.preprocessing.index import FILE_NAME, Index, load_index
from vol3dseg.preprocessing.withdrawal import strays
from vol3dseg.written import usable_path


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A checked model."""

    content: bytes  # that was checked; sessions are made from it, not from the path again
    manifest: Manifest
    sha256: str  # of the content
    standalone: Standalone | None = None  # how it is called, if it is not a network alone
    replay: str | None = None  # the small case that it carries, as JSON
    locator: "ModelFile | None" = None  # the first network of a pair
    trusted_by: str = ""  # the SHA-256 of the key that signed it, where that was asked for

    @classmethod
    def of(cls, content: bytes, manifest: Manifest) -> "ModelFile":
        """Return a network alone, as it would be read from a file of these bytes."""
        return cls(content, manifest, hashlib.sha256(content).hexdigest())


def read_model(
    path: Path, allow_standalone: bool = False, keys: Sequence[Key] | None = None
) -> ModelFile:
    """Read an ONNX file that vol3dseg exported, a network alone unless standalones are allowed.

    A ModelError is raised for any other, and for one that refers to other files or to operators
    outside the ONNX standard. With keys, nothing of it is parsed unless one of them has signed it.
    """
    content = read_bytes(path)
    key = "" if keys is None else trusted_by(keys, content, path)
    opened = open_file(content, path)
    for fault in file_faults(opened, path, allow_standalone):
        raise fault
    return replace(model_of(opened, path), trusted_by=key)


def require_trusted(path: str | Path, trusted: Trusted) -> None:
    """Refuse a model, before anything of it is parsed, unless a trusted key has signed it.

    Raises
    ------
    ModelError
        It is no file, which is what can be signed; as a TrustError, it is not signed by such a key.
    MissingExtraError
        The extra [sign] is not installed.
    """
    trusted_by(load_keys(trusted), read_bytes(Path(path)), Path(path))


def model_of(opened: OpenedFile, path: Path) -> ModelFile:
    """Return what is in a file that has no faults."""
    content, manifest, sha256 = opened.content, opened.manifest(path), opened.sha256
    if call := opened.standalone(path):
        return ModelFile(content, manifest, sha256, call)
    locator = model_of(opened.locator, path) if opened.locator else None
    return ModelFile(content, manifest, sha256, None, opened.properties.get(REPLAY_KEY), locator)


class Described(NamedTuple):
    """What something of ours says of itself."""

    kind: str  # in words
    content: Manifest | Index
    facts: dict[str, Any]  # of the file itself

    @property
    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**self.facts, **self.content.model_dump(mode="json")}


def describe(path: str | Path, trusted: Trusted | None = None) -> Described:
    """Return what an ONNX model, a run, a cross-validation or a prepared folder says of itself.

    Parameters
    ----------
    path : str or Path
    trusted : str or Path, or a sequence of these, or None
        Public keys, one of which must have signed the model; see `load_predictor`.

    Returns
    -------
    Described
        `kind` in words, `content` (a Manifest or an Index), `document` of all. `facts` are of the
        file; of a prepared folder its `strays`, of a run its `split`.

    Raises
    ------
    ModelError, RunError, StoreError
        It is none of these, or damaged; or it is not signed, where that is asked for.
    """
    path, keys = usable_path(path, ModelError), None if trusted is None else load_keys(trusted)
    if path.is_file() or keys is not None:
        return _describe_file(read_model(path, allow_standalone=True, keys=keys))
    if (path / FILE_NAME).is_file():
        index = load_index(path)
        return Described("prepared folder", index, {"strays": strays(path, index).document})
    if (path / "manifest.json").is_file():
        manifest = read_run_manifest(path)
        several = f"cross-validation of {len(manifest.members)} networks"
        kind = "run" if len(manifest.members) == 1 else several
        return Described(kind, manifest, _learned_from(path))
    if (path / "training.log").is_file():
        raise RunError(
            "an unfinished run", where=path, remedy="finish it with vol3dseg train --resume"
        )
    raise ModelError(
        "nothing of vol3dseg's", where=path, expected="an ONNX model, a run or a prepared folder"
    )


def _learned_from(run: Path) -> dict[str, Any]:
    """Return the cases in each part of the split of a run; of folds, all that one learned from."""
    if (run / "split.json").is_file():
        return {"split": read_split(run / "split.json").model_dump(mode="json")}
    folds = [read_split(path) for path in run.glob("fold-*/split.json")]
    return {"split": {"train": sorted({name for fold in folds for name in fold.train})}}


def _describe_file(model: ModelFile) -> Described:
    size = len(model.content) + (len(model.locator.content) if model.locator else 0)
    facts: dict[str, Any] = {"sha256": model.sha256, "bytes": size}
    facts |= {"trusted_by": model.trusted_by} if model.trusted_by else {}
    quantised, members = model.manifest.quantisation, len(model.manifest.members)
    kind = "model" if quantised is None else f"{quantised.precision} model"
    adopted = [facts for facts in model.manifest.members if isinstance(facts, AdoptedFacts)]
    if adopted:
        kind += f", adopted from {adopted[0].framework}"
    if members > 1:
        kind += f", the average of {members} networks"
    if model.locator is not None:
        kind += ", with one that finds where to look"
    if model.standalone is not None:
        kind = "standalone model, from raw intensities to labels"
        facts["standalone"] = model.standalone.model_dump(mode="json")
    return Described(kind, model.manifest, facts)


def with_manifest(
    model: onnx.ModelProto,
    manifest: Manifest,
    replay: ReplayCase | None = None,
    locator: bytes | None = None,
) -> bytes:
    """Return the bytes of `model` with `manifest`, and a case to replay, as its only metadata.

    `locator` is the file of the first network of a pair.
    """
    del model.metadata_props[:]
    said = {METADATA_KEY: manifest.model_dump_json()}
    if replay is not None:
        said[REPLAY_KEY] = replay.model_dump_json()
    onnx.helper.set_model_props(model, said)
    if locator is not None:
        put_locator(model, locator)
    return bytes(model.SerializeToString())
