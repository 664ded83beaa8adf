"""Read and write `model.onnx`: a graph with its manifest inside, and nothing reaching outside."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from vol3dseg.errors import ModelError
from vol3dseg.inference.manifest import METADATA_KEY, Manifest, parse_manifest

_DOMAINS = {"", "ai.onnx"}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A checked model.

    Parameters
    ----------
    content : bytes
        What was checked; sessions are made from it, not from the path again.
    manifest : Manifest
    sha256 : str
        Of `content`.
    """

    content: bytes
    manifest: Manifest
    sha256: str


def read_model(path: Path) -> ModelFile:
    """Read an ONNX file that vol3dseg exported.

    Raises
    ------
    ModelError
        The file is missing, no ONNX, has no manifest of ours, or refers to other files or to
        operators outside the ONNX standard.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected an ONNX file of vol3dseg export-onnx")
    content = path.read_bytes()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(
            f"{path}: not an ONNX file; expected one of vol3dseg export-onnx"
        ) from error
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file with a graph; copy or export it again")
    text = {prop.key: prop.value for prop in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path}: an ONNX file without the metadata {METADATA_KEY!r}; expected one made by "
            "vol3dseg export-onnx, since preprocessing and labels are read from it"
        )
    _refuse_foreign(model, path)
    return ModelFile(content, parse_manifest(text, str(path)), hashlib.sha256(content).hexdigest())


def with_manifest(model: onnx.ModelProto, manifest: Manifest) -> bytes:
    """Return the bytes of `model` with `manifest` as its only metadata."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.model_dump_json()})
    return bytes(model.SerializeToString())


def _refuse_foreign(model: onnx.ModelProto, path: Path) -> None:
    foreign = {o.domain for o in model.opset_import} | {n.domain for n in _nodes(model.graph)}
    if foreign - _DOMAINS:
        raise ModelError(
            f"{path}: uses operators of {sorted(foreign - _DOMAINS)}; expected standard ONNX only"
        )
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{path}: tensor {tensor.name!r} is kept in another file; expected one file"
            )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node or inner.initializer or inner.sparse_initializer:
                    yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for inner in _graphs(graph):
        yield from inner.node


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for inner in _graphs(graph):
        sparse = list(inner.sparse_initializer)
        yield from inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                yield from [attribute.t, *attribute.tensors]
                sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
        for tensor in sparse:
            yield from [tensor.values, tensor.indices]
