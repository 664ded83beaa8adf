"""Whether what was made of the files of a case is still current."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import FileFormatError
from vol3dseg.files import sha256_json
from vol3dseg.schema import Frozen
from vol3dseg.written import sha256_file


class Signature(Frozen):
    """Of which files something was made, and how they were read; SHA-256 of each.

    No path, which may hold the name of a patient, can be read from it. Both are empty where a file
    was missing; a modality that the case lacked is part of them.

    Attributes
    ----------
    seen : str
        Of where the files lie, their sizes, and when they were changed: it is quickly looked up,
        and who finds it again need not read them.
    content : str
        Of the bytes of the files, wherever they lie now.
    """

    seen: str = ""
    content: str = ""


def is_current(
    made_of: Signature, repaired: bool, case: Case, modalities: Iterable[str], with_label: bool
) -> bool:
    """Tell whether making it again would take the same files and read them in the same way.

    `made_of` is the signature of the case from then; `repaired` tells whether anything was
    corrected only because repairs were allowed.
    """
    if not made_of.content or (repaired and not case.repair):
        return False
    names = tuple(modalities)
    with suppress(OSError, FileFormatError):  # which making it again will report
        return made_of.seen == _digest(case, names, with_label, _state) or (
            made_of.content == _digest(case, names, with_label, sha256_file)
        )
    return False


def signature(case: Case, modalities: Iterable[str], with_label: bool) -> Signature:
    """Return what changes when a file of the case changes or is read in another way.

    Take it before the files are read: one that is replaced meanwhile is noticed only then.
    FileFormatError: one cannot be read.
    """
    names = tuple(modalities)
    try:
        seen, content = (_digest(case, names, with_label, of) for of in (_state, sha256_file))
    except (FileNotFoundError, FileFormatError):  # which reading will report
        return Signature()
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", where=error.filename) from error
    return Signature(seen=seen, content=content)


def _digest(
    case: Case, modalities: Iterable[str], with_label: bool, of: Callable[[Path], str]
) -> str:
    """Return the SHA-256 over what each file is used for, how it is read, and `of` it."""
    made_of: dict[str, object] = {
        name: _made_of(case.images[name], of) if name in case.images else None
        for name in modalities
    }
    if with_label and case.label is not None:
        label = ImageSource(case.label, series=case.label_series)
        made_of["label"] = [*_made_of(label, of), str(case.label_resampled)]
        if case.annotated is not None:
            made_of["classes"] = {name: [*own] for name, own in case.annotated.items()}
    elif with_label:
        made_of["label"] = [path.name for path in case.likely_labels]  # are recorded
    return sha256_json(made_of)


def _made_of(source: ImageSource, of: Callable[[Path], str]) -> list[str]:
    found = [f"volume {source.channel}, NaN {source.nan}, series {source.series}"]
    for path in source.paths:
        within = (file for file in path.rglob("*") if file.is_file())
        files = within if path.is_dir() else formats.files_of(path)
        found += sorted(of(file) for file in files)
    return found


def _state(file: Path) -> str:
    """Return where a file lies, its size, and when content or owner were changed last.

    The latter is no time that a copy or an archive could bring along.
    """
    stat = file.stat()
    return f"{file.absolute()}, {stat.st_size}, {stat.st_mtime_ns}, {stat.st_ctime_ns}"
