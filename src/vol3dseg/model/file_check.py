"""Whether an ONNX file is a model of ours: what stands in it, and all for which it is refused."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import onnx
from google.protobuf.message import Message
from pydantic import Field

from vol3dseg.errors import ModelError
from vol3dseg.model.locating import LABELS, take_locator
from vol3dseg.model.manifest import METADATA_KEY, Manifest, parse_manifest
from vol3dseg.model.network_check import network_faults, require_known_steps
from vol3dseg.model.onnx_bytes import parse_onnx
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
class OpenedFile:
    """A parsed file, of which nothing is checked."""

    content: bytes  # of the network alone
    model: onnx.ModelProto
    sha256: str  # of the file
    properties: dict[str, str]
    locator: "OpenedFile | None"  # the first network of a pair

    def manifest(self, path: Path) -> Manifest:
        """Return what the file says of itself, or raise a ModelError."""
        return parse_manifest(self.properties.get(METADATA_KEY, ""), path)

    def standalone(self, path: Path) -> Standalone | None:
        """Return how the graph is called, if it is no network alone; or raise a ModelError."""
        if STANDALONE_KEY not in self.properties:
            return None
        return parse_json(
            Standalone,
            self.properties[STANDALONE_KEY],
            f"{path}: metadata {STANDALONE_KEY!r}",
            ModelError,
            expected="a file of vol3dseg export-onnx --standalone",
            remedy="export it again",
        )


def open_file(content: bytes, path: Path, alone: bool = False) -> OpenedFile:
    """Parse the bytes of a file; a ModelError says that they are no ONNX, or a pair in a pair."""
    model, sha256 = parse_onnx(content, path), hashlib.sha256(content).hexdigest()
    inner = take_locator(model)
    if inner is not None and alone:
        raise ModelError(
            "carries a network to find where to look that is none, but a pair",
            where=path,
            expected="one of vol3dseg train --locate",
            remedy="export it again",
        )
    if inner is not None:  # the network is what is left
        content = model.SerializeToString()
    properties = {prop.key: prop.value for prop in model.metadata_props}
    locator = None if inner is None else open_file(inner, path, alone=True)
    return OpenedFile(content, model, sha256, properties, locator)


def file_faults(opened: OpenedFile, path: Path, allow_standalone: bool) -> Iterator[ModelError]:
    """Give all for which a file is refused, in the order in which it is looked at."""
    text, call = (opened.properties.get(key) for key in (METADATA_KEY, STANDALONE_KEY))
    if text is None:
        yield ModelError(
            f"an ONNX file without the metadata {METADATA_KEY!r}, from which preprocessing and "
            "labels are read",
            where=path,
            expected="a file of vol3dseg export-onnx",
        )
    if call is not None and not allow_standalone:
        yield ModelError(
            "a standalone graph, from raw intensities to labels, for programs without vol3dseg",
            where=path,
            expected="a network alone",
            remedy="export the run again without --standalone",
        )
    yield from _foreign_parts(opened.model, path)
    manifest = None
    try:
        manifest = opened.manifest(path) if text is not None else None
    except ModelError as fault:
        yield fault
    if call is None:
        yield from network_faults(opened.model, manifest, path)
        yield from _locator_faults(opened.locator, manifest, path)
        return
    for check in (require_known_steps, lambda _, path: opened.standalone(path)):
        try:
            check(opened.model, path)
        except ModelError as fault:
            yield fault


def _locator_faults(
    locator: OpenedFile | None, manifest: Manifest | None, path: Path
) -> Iterator[ModelError]:
    """Give what is wrong with the first network of a pair, which the manifest must know of."""
    known = manifest.locating.sha256 if manifest and manifest.locating else None
    if manifest is not None and (locator and locator.sha256) != known:
        yield ModelError(
            "carries another network to find where to look than its manifest says",
            where=path,
            expected="the pair that vol3dseg export-onnx wrote",
            remedy="export it again",
        )
    if locator is None:
        return
    sound = True
    for fault in file_faults(locator, path, allow_standalone=False):
        sound = False
        yield fault
    if not sound:
        return
    theirs = locator.manifest(path)
    if theirs.locating or theirs.labels != LABELS or theirs.recipe.kind != "vol3dseg":
        yield ModelError(
            "carries a network to find where to look that is none",
            where=path,
            expected="one of vol3dseg train --locate",
            remedy="export it again",
        )


def _foreign_parts(model: onnx.ModelProto, path: Path) -> Iterator[ModelError]:
    domains = {opset.domain for opset in _inside(model, onnx.OperatorSetIdProto)}
    foreign = (domains | {node.domain for node in _inside(model, onnx.NodeProto)}) - _DOMAINS
    if foreign:
        yield ModelError(
            f"uses operators of {sorted(map(str, foreign))}",
            where=path,
            expected="standard ONNX only",
        )
    for tensor in _inside(model, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            yield ModelError(
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
