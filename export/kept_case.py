"""Which of the cases that a model was proven on travels in its file, and with whose labels."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.replay_case import ReplayCase, cropped, pack, small_part
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume


@dataclass(slots=True)
class Smallest:
    """The smallest case that has labels, to be replayed elsewhere."""

    volume: Volume | None = None
    theirs: Segmentation | None = None

    def offer(self, volume: Volume, theirs: Segmentation) -> None:
        """Take a case if it is better than the one that is held."""
        if self.volume is None or self.theirs is None or _rank(theirs) < _rank(self.theirs):
            self.volume, self.theirs = volume, theirs

    def packed(
        self, predictor: Predictor, ask: Callable[[Volume], Segmentation] | None
    ) -> ReplayCase | None:
        """Return it, or the part of it that is small enough, with the labels that must come.

        `ask` runs the framework on a part; without, those of a part are the model's own.
        """
        if self.volume is None or self.theirs is None:
            return None
        box = small_part(self.volume, self.theirs)
        if box.shape == self.volume.geometry.shape:
            return pack(self.volume, self.theirs, "framework")
        part = cropped(self.volume, box)
        if ask is not None:
            return pack(part, ask(part), "framework")
        return pack(part, predictor(part).segmentation, "vol3dseg")


@contextmanager
def files_of(part: Volume) -> Iterator[list[Path]]:
    """Give NIfTI files of a scan, one for each channel."""
    with tempfile.TemporaryDirectory(prefix="vol3dseg-") as place:
        files = [Path(place) / f"part_{n:04d}.nii.gz" for n in range(len(part.modalities))]
        for channel, file in enumerate(files):
            nifti.write(file, part.array[..., channel], part.geometry)
        yield files


def _rank(segmentation: Segmentation) -> tuple[bool, int]:
    return not segmentation.array.any(), segmentation.array.size
