"""NIfTI in two files: the header in `.hdr`, the voxels in `.img`, each plain or gzip."""

import re
from pathlib import Path

from vol3dseg.formats.streams import unfit_file

_OTHER = {"hdr": "img", "img": "hdr"}
_NAME = re.compile(
    r"(?P<stem>.*)\.(?P<kind>hdr|img)(?P<compressed>\.gz)?", re.IGNORECASE | re.DOTALL
)


def header_and_voxels(path: Path) -> tuple[Path, Path]:
    """Return the file of the header and that of the voxels; `path` twice for a single file.

    FileFormatError: `path` is one of a pair, and the other is not there.
    """
    name = _NAME.fullmatch(path.name)
    if name is None or not path.is_file():
        return path, path
    kind, other = name["kind"].lower(), _other_of_pair(path, name)
    if other is None:
        found = f".{_OTHER[kind]} is missing beside this .{kind}"
        remedy = f"copy {name['stem']}.{_OTHER[kind]} into the same folder"
        raise unfit_file(found, path, "both of a NIfTI pair", remedy)
    return (path, other) if kind == "hdr" else (other, path)


def is_companion(path: Path) -> bool:
    """Tell whether `path` is a header whose voxels, beside it, stand for both."""
    name = _NAME.fullmatch(path.name)
    return bool(name and name["kind"].lower() == "hdr" and _other_of_pair(path, name))


def _other_of_pair(path: Path, name: re.Match[str]) -> Path | None:
    """Return the other file of a pair, whatever the case of its suffix.

    Compressed as `path` is, and in the same case, if there are several.
    """
    kind, compressed = _OTHER[name["kind"].lower()], (name["compressed"] or "").lower()
    kinds = (kind.upper(), kind) if name["kind"].isupper() else (kind, kind.upper())
    endings = [
        e for one in dict.fromkeys((compressed, "", ".gz")) for e in {one: 0, one.upper(): 0}
    ]
    names = (f"{name['stem']}.{one}{ending}" for ending in endings for one in kinds)
    return next((p for p in map(path.with_name, names) if p.is_file()), None)
