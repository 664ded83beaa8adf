"""One case as the page asks for it: images and label maps as NIfTI, class names, scores."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.sources import LabelMap, SourceFile, open_label, read_grid
from vol3dseg.errors import Vol3dSegError, in_memory
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.formats import LabelFile, open_labels
from vol3dseg.formats.nifti import nifti_file
from vol3dseg.quality.background import Window, grey_scale, inside_of
from vol3dseg.reporting.inspection.thumbnails import colour_of
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation, is_labelled, numbered_labels
from vol3dseg.space.volume import one_grid
from vol3dseg.viewing.shown_cases import Exhibition, ShownCase

Which = Literal["prediction", "reference"]
Scores = Mapping[str, Mapping[str, float | None]]  # by structure, then by metric
_SHORT = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True)
class NiftiBytes:
    """A NIfTI file that is nowhere but here: its length, and its content in portions."""

    length: int
    portions: Iterator[memoryview]


class OpenedCase:
    """A case whose label maps are kept, once they were read; images are read when asked for."""

    def __init__(self, shown: ShownCase, exhibition: Exhibition) -> None:
        self._shown = shown
        self._exhibition = exhibition
        self._lock = Lock()
        self._maps: dict[Which, Segmentation] | None = None
        self._problems: dict[str, str] = {}

    def require_readable(self) -> None:
        """Read all headers; what is wrong is said as by `view`."""
        for source in self._shown.images.images.values():
            SourceFile(source, self._shown.images.repair).grid(source)
        for open_map in self._openers().values():
            open_map().geometry()

    def facts(self) -> dict[str, Any]:
        """Return what the page shows beside the volumes."""
        maps = self._read()
        names = next(iter(maps.values())).labels.foreground if maps else ()
        return {
            "images": list(self._shown.images.images),
            "maps": list(maps),
            "classes": [{"name": n, "colour": colour_of(i)} for i, n in enumerate(names)],
            "start": next(filter(None, map(_inside, maps.values())), None),
            "problems": self._problems,
        }

    def image(self, name: str) -> NiftiBytes:
        """Return one modality; its header says which values are black and white.

        Its voxels are as the file has them, in two bytes where these hold them exactly.
        """
        source = self._shown.images.images[name]
        with in_memory("its voxels", where=source.path):
            file = SourceFile(source, self._shown.images.repair)
            array, grid, _ = file.read(source)
            scale = grey_scale(array, inside_of(array, name), name, self._window(name))
            return _nifti(_compact(array), grid, (scale.low, scale.high))

    def label_map(self, which: Which) -> NiftiBytes | None:
        """Return class indices, whatever the values of the file; None where it cannot be read."""
        found = self._read().get(which)
        return None if found is None else _nifti(found.array, found.geometry)

    def scores(self) -> Scores:
        """Return scores by class and region, then by metric; none without both label maps.

        None stands for what is undefined. EvaluationError, GridError: the maps do not fit.
        """
        maps = self._read()
        if len(maps) < 2:
            return {}
        case_id = self._shown.images.id
        found = evaluate_case(case_id, maps["reference"], maps["prediction"])
        return {
            name: {metric: _finite(v) for metric, v in values.items() if isinstance(v, int | float)}
            for name, values in found.structures.items()
        }

    def _window(self, name: str) -> Window | None:
        return self._exhibition.windows.get(name)

    def _openers(self) -> dict[Which, Callable[[], LabelFile | LabelMap]]:
        prediction, reference = self._shown.prediction, self._shown.reference
        repair, openers = self._shown.images.repair, dict[Which, Callable[[], Any]]()
        if prediction is not None:
            openers["prediction"] = lambda: open_labels(prediction, repair)
        if reference is not None:
            openers["reference"] = lambda: open_label(reference)
        return openers

    def _read(self) -> dict[Which, Segmentation]:
        """Return the label maps that can be read; why others cannot goes to `_problems`."""
        with self._lock:
            if self._maps is None:
                self._maps = self._read_maps()
            return self._maps

    def _read_maps(self) -> dict[Which, Segmentation]:
        grid, files = None, dict[Which, LabelFile | LabelMap]()
        with self._saying("image"):
            grid = read_grid(self._shown.images)
        for which, open_map in self._openers().items():
            with self._saying(which):
                files[which] = open_map()
        known, found = self._exhibition, dict[Which, Segmentation]()
        labels = {"prediction": known.predicted, "reference": known.labels}
        if known.labels is None and len(files) > 1:
            labels = dict.fromkeys(labels, _numbered(files.values(), grid))
        for which, file in files.items():
            with self._saying(which), in_memory("a label map", where=file.path):
                found[which] = file.segmentation(labels[which], grid)
                grids = {"image": grid or found[which].geometry, which: found[which].geometry}
                one_grid(grids, remedy="it is shown where its own header says")
        return found

    @contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        """Keep for the page what is wrong in the block."""
        try:
            yield
        except Vol3dSegError as error:
            self._problems[what] = error.recorded


def _numbered(files: Iterable[LabelFile | LabelMap], grid: Geometry | None) -> LabelSet | None:
    """Return a class for each value that any of some label maps holds; None if none is read."""
    values = set[int]()
    for file in files:
        with suppress(Vol3dSegError):  # said where its classes are read
            labels = file.segmentation(None, grid).labels
            values |= {value for label in labels.classes[1:] for value in label.read}
    return (
        numbered_labels("value", values, "give label maps, if these are images") if values else None
    )


def _inside(found: Segmentation) -> list[float] | None:
    """Return the middle of the slice with most foreground [mm], in a class; None where none is."""
    labelled = is_labelled(found.array)
    k = int(labelled.sum(axis=(0, 1)).argmax())
    places = np.argwhere(labelled[..., k])
    if not len(places):
        return None
    i, j = places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return (found.geometry.affine @ (i, j, k, 1))[:3].tolist()  # type: ignore[no-any-return]


def _nifti(array: NDArray[Any], grid: Geometry, window: Window | None = None) -> NiftiBytes:
    portions = nifti_file.content(array, grid, window)
    first = next(portions)
    return NiftiBytes(first.nbytes + array.nbytes, chain([first], portions))


def _compact(array: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int16]:
    """Return whole numbers that fit in two bytes as such: browsers hold all modalities at once."""
    if array.min() < _SHORT.min or array.max() > _SHORT.max:
        return array
    short = array.astype(np.int16)
    return short if np.array_equal(short, array) else array


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None
