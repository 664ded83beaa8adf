"""Whether what was made of the files of a case is still current."""

from collections.abc import Iterable

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.errors import DatasetError, FileFormatError
from vol3dseg.files import sha256_json


def is_current(
    made_of: str, repaired: bool, case: Case, modalities: Iterable[str], with_label: bool
) -> bool:
    """Tell whether making it again would take the same files and read them in the same way.

    `made_of` is the signature of the case from then; `repaired` tells whether anything was
    corrected only because repairs were allowed.
    """
    if not made_of or (repaired and not case.repair):
        return False
    return made_of == signature(case, modalities, with_label)


def signature(case: Case, modalities: Iterable[str], with_label: bool) -> str:
    """Return a digest that changes when a file of the case changes or is read in another way.

    Take it before the files are read: one that is replaced meanwhile is noticed only then. It is
    the SHA-256 over names, sizes and times of change of all files, with what each is used for and
    how it is read, so that no path, which may hold the name of a patient, can be read from it.
    Empty where a file or a modality is missing.
    """
    try:
        made_of = {name: _state(source) for name, source in case.select(modalities).images.items()}
        if with_label and case.label is not None:
            label = ImageSource(case.label, series=case.label_series)
            made_of["label"] = [*_state(label), str(case.label_resampled)]
        elif with_label:
            made_of["label"] = [path.name for path in case.likely_labels]  # are recorded
    except (OSError, DatasetError, FileFormatError):
        return ""
    return sha256_json(made_of)


def _state(source: ImageSource) -> list[str]:
    """Return how an image is read, and name, size and time of change of what it is read from.

    Of a folder, or of an image in two files, these are the sum and the latest.
    """
    found = [f"volume {source.channel}, NaN {source.nan}, series {source.series}"]
    for path in source.paths:
        within = (file for file in path.rglob("*") if file.is_file())
        stats = [file.stat() for file in (within if path.is_dir() else formats.files_of(path))]
        size = sum(stat.st_size for stat in stats)
        changed = max((stat.st_mtime_ns for stat in stats), default=0)
        found.append(f"{path.parent.name}/{path.name}, {size}, {changed}")
    return found
