"""Whether two outputs are the same, byte for byte but for what is stated here.

What may differ: when something was written, how long it took, how much memory it was, and hence the
SHA-256 of a checkpoint or model. A .keras file is compared member by member, since zip notes times;
an ONNX file by its graph and its manifest; the list of what is ours by what it says of the files
that are there, since it keeps what it said before.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from vol3dseg.written import LIST_NAME, is_ours

# Fields of JSON files, of ours and of Keras, whose value may be another in every run.
MAY_DIFFER = frozenset(
    {
        *("created", "seconds", "peak_mb", "planned_mb", "memory_mb", "git_revision"),
        *("date_saved", "shared_object_id", "checkpoint_sha256", "model_sha256"),
    }
)
_STATUS = re.compile(rb'<p id="status".*?</p>')  # of training.html: when it was written


def differences(expected: Path, found: Path) -> list[str]:
    """Return what is missing, too many, or another in a folder, in words; nothing if equal."""
    wanted, there = _files(expected), _files(found)
    said = [f"{name} is missing" for name in sorted(wanted - there)]
    said += [f"{name} is too many" for name in sorted(there - wanted)]
    for name in sorted(wanted & there):
        if Path(name).name == LIST_NAME:
            said += _unlisted((found / name).parent)
        elif content_of(expected / name) != content_of(found / name):
            said.append(f"{name} is another")
    return said


def content_of(path: Path) -> str:
    """Return a digest of what a file says, without what may differ."""
    content = path.read_bytes()
    digest = hashlib.sha256(_REDUCED.get(path.suffix, bytes)(content))
    return digest.hexdigest()


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _unlisted(folder: Path) -> list[str]:
    """Return the files that the list of their folder does not know: they could not be replaced."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name != LIST_NAME]
    return [f"{path} is not in the list of its folder" for path in files if not is_ours(path)]


def _json(content: bytes) -> bytes:
    return json.dumps(_without_times(json.loads(content))).encode()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in MAY_DIFFER}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _page(content: bytes) -> bytes:
    return _STATUS.sub(b"", content)


def _keras(content: bytes) -> bytes:
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    return b"".join(
        name.encode() + (_json(member) if name.endswith(".json") else member)
        for name, member in members.items()
    )


def _model(content: bytes) -> bytes:
    model = onnx.load_model_from_string(content)
    for each in model.metadata_props:
        each.value = _json(each.value.encode()).decode()
    return model.SerializeToString(deterministic=True)


_REDUCED: dict[str, Callable[[bytes], bytes]] = {
    ".json": _json,
    ".html": _page,
    ".keras": _keras,
    ".onnx": _model,
}
