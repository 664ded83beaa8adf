"""One case: which files belong to it. Nothing is loaded here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vol3dseg.errors import DatasetError


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
        Names the case in every output.
    subject : str
        Who was scanned; several cases may share a subject, and are never split apart.
    images : mapping from modality to ImageSource
    label : Path or None
        The label map, if there is one: a file, or a folder with DICOM series.
    label_resampled : bool
        Whether the label map is brought onto the grid of the images.
    label_series : str or None
        Which DICOM series of the folder is the label map; None where it holds only one.
    repair : bool
        Whether a file that is wrong is read where there is a repair; otherwise it is refused.
    """

    id: str
    subject: str
    images: Mapping[str, ImageSource]
    label: Path | None = None
    label_resampled: bool = False
    label_series: str | None = None
    repair: bool = False

    def select(self, modalities: Iterable[str]) -> "Case":
        """Return the case with these modalities only, in this order.

        Raises
        ------
        DatasetError
            The case lacks one; the message lists those it has.
        """
        wanted = tuple(modalities)
        missing = [name for name in wanted if name not in self.images]
        if missing:
            found = ", ".join(self.images) or "none"
            raise DatasetError(
                f"modality {', '.join(missing)} is missing; found {found}",
                where=f"case {self.id}",
                expected=", ".join(wanted),
                remedy="add the file, or choose other modalities",
            )
        return replace(self, images={m: self.images[m] for m in wanted})

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


def modalities_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the modalities that any of the cases has, in the order in which they come."""
    return tuple(dict.fromkeys(name for case in cases for name in case.images))


def allow_repairs(cases: Iterable[Case], allowed: bool = True) -> list[Case]:
    """Return cases whose files are read with repairs, if that is allowed."""
    return [replace(case, repair=allowed) for case in cases]
