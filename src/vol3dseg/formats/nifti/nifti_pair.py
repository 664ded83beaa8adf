"""NIfTI in two files: the header in `.hdr`, the voxels in `.img`, each plain or gzip."""

from pathlib import Path

from vol3dseg.errors import FileFormatError

_OTHER = {".hdr": ".img", ".img": ".hdr"}


def header_and_voxels(path: Path) -> tuple[Path, Path]:
    """Return the file of the header and that of the voxels; `path` twice for a single file.

    Parameters
    ----------
    path : Path
        Either of a pair, or a file with another suffix.

    Raises
    ------
    FileFormatError
        One of a pair is there, the other is not.
    """
    suffix, packed = _suffix_of(path)
    if suffix is None or not path.is_file():
        return path, path
    stem = path.name[: -len(suffix + packed)]
    wanted = _OTHER[suffix.lower()]
    names = [wanted + ending for ending in dict.fromkeys((packed, "", ".gz"))]
    names += [name.upper() for name in names]
    found = (path.with_name(stem + name) for name in names)
    other = next((p for p in found if p.is_file()), None)
    if other is None:
        raise FileFormatError(
            f"{wanted} is missing beside this {suffix.lower()}",
            where=path,
            expected="both of a NIfTI pair",
            remedy=f"copy {stem}{wanted} to it",
        )
    return (path, other) if suffix.lower() == ".hdr" else (other, path)


def _suffix_of(path: Path) -> tuple[str | None, str]:
    """Return `.hdr` or `.img` as written, None if it is neither, and `.gz` if that follows."""
    packed = path.suffix if path.suffix.lower() == ".gz" else ""
    suffix = Path(path.name.removesuffix(packed)).suffix
    return (suffix if suffix.lower() in _OTHER else None), packed
