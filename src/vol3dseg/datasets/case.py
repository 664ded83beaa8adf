"""One case: which files belong to it. Nothing is loaded here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.errors import DatasetError


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where one modality of one case is kept.

    Parameters
    ----------
    path : Path
    channel : int or None
        Which volume of a 4-D file; None for a 3-D file.
    """

    path: Path
    channel: int | None = None


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
        The label map, if there is one.
    """

    id: str
    subject: str
    images: Mapping[str, ImageSource]
    label: Path | None = None

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
            raise DatasetError(
                f"case {self.id}: modality {', '.join(missing)} is missing; found "
                f"{', '.join(self.images) or 'none'}; add the file, or choose other modalities"
            )
        return Case(self.id, self.subject, {m: self.images[m] for m in wanted}, self.label)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the case, each once, the label last."""
        files = [source.path for source in self.images.values()]
        return tuple(dict.fromkeys([*files, self.label] if self.label else files))
