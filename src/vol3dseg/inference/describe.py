"""What a file or folder made by vol3dseg says of itself."""

from pathlib import Path
from typing import Any

from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.manifest import parse_manifest
from vol3dseg.model.model_file import read_model
from vol3dseg.preprocessing.index import FILE_NAME, load_index


def describe(path: Path) -> tuple[str, dict[str, Any]]:
    """Return what `path` is, in words, and what it says of itself.

    Parameters
    ----------
    path : Path
        An ONNX model, a run folder or a prepared folder.

    Raises
    ------
    ModelError, RunError, StoreError
        It is none of these, or damaged.
    """
    if path.is_file():
        model = read_model(path, allow_standalone=True)
        facts: dict[str, Any] = {"sha256": model.sha256, "bytes": len(model.content)}
        quantised = model.manifest.quantisation
        kind = "model" if quantised is None else f"{quantised.precision} model"
        if len(model.manifest.members) > 1:
            kind = f"{kind}, the average of {len(model.manifest.members)} networks"
        if model.standalone is not None:
            kind = "standalone model, from raw intensities to labels"
            facts["standalone"] = model.standalone.model_dump(mode="json")
        return kind, {**facts, **model.manifest.model_dump(mode="json")}
    if (path / FILE_NAME).is_file():
        return "prepared folder", load_index(path).model_dump(mode="json")
    manifest = path / "manifest.json"
    if manifest.is_file():
        return "run", parse_manifest(manifest.read_bytes(), str(manifest)).model_dump(mode="json")
    if (path / "training.log").is_file():
        raise RunError(f"{path}: an unfinished run; finish it with vol3dseg train --resume")
    raise ModelError(
        f"{path}: nothing of vol3dseg's; expected an ONNX model, a run or a prepared folder"
    )
