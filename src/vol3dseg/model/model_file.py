"""Read and write `model.onnx`: a graph with its manifest inside, and nothing reaching outside."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import onnx
from google.protobuf.message import Message
from pydantic import Field

from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.locating import LABELS, put_locator, take_locator
from vol3dseg.model.manifest import METADATA_KEY, Manifest, parse_manifest, read_run_manifest
from vol3dseg.model.network_check import require_known_steps, require_sound_network
from vol3dseg.model.onnx_bytes import parse_onnx, read_onnx
from vol3dseg.model.replay_case import METADATA_KEY as REPLAY_KEY
from vol3dseg.model.replay_case import ReplayCase
from vol3dseg.preprocessing.index import FILE_NAME, Index, load_index
from vol3dseg.schema import Count, Frozen, parse_json

STANDALONE_KEY = "vol3dseg.standalone"
Byte = Annotated[Count, Field(le=255)]
_DOMAINS = {"", "ai.onnx"}
_M = TypeVar("_M", bound=Message)


class Standalone(Frozen):
    """How a graph from raw intensities to labels is called; it says so beside the manifest."""

    version: Literal[1] = 1
    inputs: tuple[str, ...]  # (i, j, k) float32 raw intensities of each modality, all on one grid
    axes: Literal["RAS"]  # what i, j and k must be closest to: to the right, to the front, up
    output: str  # (i, j, k) uint8, on the grid of the inputs
    values: dict[str, Byte]  # of each class in the output, those that `vol3dseg predict` writes


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A checked model."""

    content: bytes  # that was checked; sessions are made from it, not from the path again
    manifest: Manifest
    sha256: str  # of the content
    standalone: Standalone | None = None  # how it is called, if it is not a network alone
    replay: str | None = None  # the small case that it carries, as JSON
    locator: "ModelFile | None" = None  # the first network of a pair

    @classmethod
    def of(cls, content: bytes, manifest: Manifest) -> "ModelFile":
        """Return a network alone, as it would be read from a file of these bytes."""
        return cls(content, manifest, hashlib.sha256(content).hexdigest())


def read_model(path: Path, allow_standalone: bool = False) -> ModelFile:
    """Read an ONNX file that vol3dseg exported, a network alone unless standalones are allowed.

    A ModelError is raised for any other, and for one that refers to other files or to operators
    outside the ONNX standard.
    """
    content, model = read_onnx(path)
    return _checked(content, model, path, allow_standalone)


def _checked(
    content: bytes, model: onnx.ModelProto, path: Path, allow_standalone: bool
) -> ModelFile:
    sha256, inner = hashlib.sha256(content).hexdigest(), take_locator(model)
    if inner is not None:  # the network is what is left
        content = model.SerializeToString()
    properties = {prop.key: prop.value for prop in model.metadata_props}
    text, call = properties.get(METADATA_KEY), properties.get(STANDALONE_KEY)
    if text is None:
        raise ModelError(
            f"an ONNX file without the metadata {METADATA_KEY!r}, from which preprocessing and "
            "labels are read",
            where=path,
            expected="a file of vol3dseg export-onnx",
        )
    if call is not None and not allow_standalone:
        raise ModelError(
            "a standalone graph, from raw intensities to labels, for programs without vol3dseg",
            where=path,
            expected="a network alone",
            remedy="export the run again without --standalone",
        )
    _refuse_foreign(model, path)
    manifest = parse_manifest(text, path)
    if call is None:
        require_sound_network(model, manifest, path)
        replay, locator = properties.get(REPLAY_KEY), _locator(inner, manifest, path)
        return ModelFile(content, manifest, sha256, replay=replay, locator=locator)
    require_known_steps(model, path)
    standalone = parse_json(
        Standalone,
        call,
        f"{path}: metadata {STANDALONE_KEY!r}",
        ModelError,
        expected="a file of vol3dseg export-onnx --standalone",
        remedy="export it again",
    )
    return ModelFile(content, manifest, sha256, standalone)


def _locator(content: bytes | None, manifest: Manifest, path: Path) -> ModelFile | None:
    """Return the first network of a pair, which the manifest must know of, checked as any other."""
    known = manifest.locating.sha256 if manifest.locating else None
    found = None if content is None else hashlib.sha256(content).hexdigest()
    if found != known:
        raise ModelError(
            "carries another network to find where to look than its manifest says",
            where=path,
            expected="the pair that vol3dseg export-onnx wrote",
            remedy="export it again",
        )
    if content is None:
        return None
    locator = _checked(content, parse_onnx(content, path), path, allow_standalone=False)
    theirs = locator.manifest
    if theirs.locating or theirs.labels != LABELS or theirs.recipe.kind != "vol3dseg":
        raise ModelError(
            "carries a network to find where to look that is none",
            where=path,
            expected="one of vol3dseg train --locate",
            remedy="export it again",
        )
    return locator


class Described(NamedTuple):
    """What something of ours says of itself."""

    kind: str  # in words
    content: Manifest | Index
    facts: dict[str, Any]  # of the file itself

    @property
    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**self.facts, **self.content.model_dump(mode="json")}


def describe(path: str | Path) -> Described:
    """Return what an ONNX model, a run, a cross-validation or a prepared folder says of itself.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Described
        `kind` in words, `content` (a Manifest or an Index), `facts` of the file, `document` of all.

    Raises
    ------
    ModelError, RunError, StoreError
        It is none of these, or damaged.
    """
    path = Path(path)
    if path.is_file():
        return _describe_file(read_model(path, allow_standalone=True))
    if (path / FILE_NAME).is_file():
        return Described("prepared folder", load_index(path), {})
    if (path / "manifest.json").is_file():
        manifest = read_run_manifest(path)
        several = f"cross-validation of {len(manifest.members)} networks"
        return Described("run" if len(manifest.members) == 1 else several, manifest, {})
    if (path / "training.log").is_file():
        raise RunError(
            "an unfinished run", where=path, remedy="finish it with vol3dseg train --resume"
        )
    raise ModelError(
        "nothing of vol3dseg's", where=path, expected="an ONNX model, a run or a prepared folder"
    )


def _describe_file(model: ModelFile) -> Described:
    size = len(model.content) + (len(model.locator.content) if model.locator else 0)
    facts: dict[str, Any] = {"sha256": model.sha256, "bytes": size}
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


def _refuse_foreign(model: onnx.ModelProto, path: Path) -> None:
    domains = {opset.domain for opset in _inside(model, onnx.OperatorSetIdProto)}
    foreign = (domains | {node.domain for node in _inside(model, onnx.NodeProto)}) - _DOMAINS
    if foreign:
        raise ModelError(
            f"uses operators of {sorted(map(str, foreign))}",
            where=path,
            expected="standard ONNX only",
        )
    for tensor in _inside(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"tensor {tensor.name!r} is kept in another file", where=path, expected="one file"
            )


def _inside(message: Message, kind: type[_M]) -> Iterator[_M]:
    """Give every message of a kind at any depth: also of inner graphs and sparse tensors."""
    for field, value in message.ListFields():
        if field.message_type:
            for inner in [value] if isinstance(value, Message) else value:
                if isinstance(inner, kind):
                    yield inner
                if not isinstance(inner, onnx.TensorProto):  # whose numbers would be copied
                    yield from _inside(inner, kind)
