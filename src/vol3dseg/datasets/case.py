"""One case: which files belong to it, and what it may be called. Nothing is loaded here."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vol3dseg.errors import DatasetError, some_of

FIT_ID = "no slash, no dot at its beginning and nothing invisible"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where one modality of one case is kept.

    Parameters
    ----------
    path : Path
        A file, or a folder with DICOM series.
    channel : int or None
        Which volume of a 4-D file; None for a 3-D file.
    nan : float or None
        What replaces NaN and infinity; None refuses them.
    series : str or None
        Which DICOM series of the folder: UID, number or a pattern of the description; None where
        it holds only one.
    onto : ImageSource or None
        The image is resampled onto the grid of this one; None leaves it where it is.
    """

    path: Path
    channel: int | None = None
    nan: float | None = None
    series: str | None = None
    onto: "ImageSource | None" = None

    @property
    def opened(self) -> tuple[Path, str | None]:
        """What is opened to read the image: equal for images in one file."""
        return self.path, self.series

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read for the image."""
        return (self.path, self.onto.path) if self.onto else (self.path,)


@dataclass(frozen=True, slots=True)
class Case:
    """The files of one scan of one subject.

    Parameters
    ----------
    id : str
        Names the case in every output. What cannot be printed becomes a backslash escape, so that
        it can be told; `is_fit_id` refuses it.
    subject : str
        Who was scanned; several cases may share a subject, and are never split apart.
    images : mapping from modality to ImageSource
    label : Path or None
        The label map, if there is one: a file, or a folder with DICOM series.
    label_resampled : bool
        Whether the label map is brought onto the grid of the images.
    label_series : str or None
        Which DICOM series of the folder is the label map; None where it holds only one.
    annotated : mapping from class to tuple of int, or None
        The classes that somebody has looked for in the label map, with their values in it; none
        where the config says them. None stands for all classes.
    repair : bool
        Whether a file that is wrong is read where there is a repair; otherwise it is refused.
    likely_labels : tuple of Path
        Where there is no label map: files that look like one, but are not named as its layout has
        it.
    """

    id: str
    subject: str
    images: Mapping[str, ImageSource]
    label: Path | None = None
    label_resampled: bool = False
    label_series: str | None = None
    annotated: Mapping[str, tuple[int, ...]] | None = None
    repair: bool = False
    likely_labels: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("id", "subject"):
            object.__setattr__(self, name, spelled(getattr(self, name)))

    def select(self, modalities: Iterable[str], optional: Collection[str] = ()) -> "Case":
        """Return the case with these modalities only, in this order.

        It may lack `optional` ones, but not all of them.

        Raises
        ------
        DatasetError
            The case lacks one; the message lists those it has.
        """
        wanted = tuple(modalities)
        chosen = {name: self.images[name] for name in wanted if name in self.images}
        missing = [name for name in wanted if name not in chosen and name not in optional]
        if missing or not chosen:
            found = ", ".join(self.images) or "none"
            without = f", of which {', '.join(optional)} may be missing" if optional else ""
            raise DatasetError(
                f"modality {', '.join(missing or wanted)} is missing; found {found}",
                where=f"case {self.id}",
                expected=", ".join(wanted) + without,
                remedy="add the file, or choose other modalities",
            )
        return replace(self, images=chosen)

    @property
    def files(self) -> dict[str, Path]:
        """The file that each image and the label map lies in, by modality and "label"."""
        files = {name: source.path for name, source in self.images.items()}
        return {**files, "label": self.label} if self.label else files

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the case, each once, the label last."""
        files = [path for source in self.images.values() for path in source.paths]
        return tuple(dict.fromkeys([*files, self.label] if self.label else files))


def spelled(name: str) -> str:
    """Return a name with escapes for what cannot be printed, such as bytes that are no UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def is_fit_id(name: str) -> bool:
    """Tell whether an id can become part of file names, here and on other systems."""
    return bool(name) and spelled(name) == name and not ({"/", "\\"} & {*name} or name[0] == ".")


def clashes(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the cases whose outputs would be one file on some system, those together that would.

    Many file systems tell neither capitals apart nor two encodings of one letter.
    """
    found: dict[str, list[Case]] = {}
    for case in cases:
        composed = unicodedata.normalize("NFC", case.id).casefold()
        found.setdefault(unicodedata.normalize("NFC", composed), []).append(case)
    return [same for same in found.values() if len(same) > 1]


def begun(case_id: str) -> str:
    """Return the name of the trace that is in an output folder while a case is worked on."""
    return f"{case_id}.begun"


def given_twice(images: Mapping[str, ImageSource]) -> str:
    """Say which modalities are the same image; empty where none are."""
    first: dict[object, str] = {}
    for name, source in images.items():
        key = source.path.absolute(), source.channel, source.series
        if first.setdefault(key, name) != name:
            return f"{first[key]} and {name} are the same image"
    return ""


def require_distinct(cases: Iterable[Case]) -> None:
    """Refuse cases whose outputs would overwrite each other; DatasetError lists them."""
    if twice := clashes(cases):
        names = [name for same in twice for name in dict.fromkeys(case.id for case in same)]
        raise DatasetError(
            f"several inputs are named {some_of(names)}; their outputs would overwrite each other",
            remedy="rename them, or work on them one after the other, into separate folders",
        )


def modalities_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the modalities that any of the cases has, in the order in which they come."""
    return tuple(dict.fromkeys(name for case in cases for name in case.images))


def allow_repairs(cases: Iterable[Case], allowed: bool = True) -> list[Case]:
    """Return cases whose files are read with repairs, if that is allowed."""
    return [replace(case, repair=allowed) for case in cases]
