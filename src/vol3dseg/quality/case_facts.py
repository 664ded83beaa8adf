"""The facts of one case: some hundred numbers, no voxels. One case is in memory at a time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.quality.appearance import Appearance, measure_appearance
from vol3dseg.quality.background import Inside, Scale, Window, inside_of, scale_of
from vol3dseg.quality.contents import MASK, Contents, Image, read_contents
from vol3dseg.quality.similarity import Mirroring, coarse, mirrorings, ranked
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, is_labelled
from vol3dseg.space.resampling import reoriented

HISTOGRAM_BINS = 48  # between the ends of the scale, which hold the rest
_HEAP = 2  # times as many voxels as the next value has: intensities were limited there
_FEWEST = 20  # voxels that a mean is taken over


@dataclass(frozen=True, slots=True)
class ModalityFacts:
    """Raw intensities of one modality inside, which is where it is not background."""

    minimum: float
    low: float  # percentile 1
    median: float
    high: float  # percentile 99
    maximum: float
    mean: float
    deviation: float
    noise: float | None  # standard deviations of the image; None where it cannot be told
    inside: float  # share of all voxels
    commonest: float  # share of the inside voxels that have the most common value
    # Share of the inside voxels that have the smallest value; 0 where the next one is as common.
    at_minimum: float
    at_maximum: float
    scale: Scale  # of the histogram
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case; without images, `geometry` is the mask's, and `appearance` None."""

    case_id: str
    subject: str
    geometry: Geometry | None = None  # the grid that most images lie on
    appearance: Appearance | None = None
    modalities: Mapping[str, ModalityFacts] = field(default_factory=dict)
    # Of (class, modality): mean inside the class less that of the unlabelled rest, in standard
    # deviations inside.
    contrasts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    mirrorings: tuple[Mirroring, ...] = ()  # the best axis of each modality and of the mask
    volumes_ml: Mapping[str, float] | None = None  # None without a label map that can be read
    unannotated: tuple[str, ...] = ()  # classes that nobody has looked for: of those it is 0
    problems: tuple[str, ...] = ()  # what is wrong with the files, in words
    notes: tuple[str, ...] = ()  # what was harmlessly put right in them, or passed over
    failed: str = ""  # why it was not measured, where that is not for its files
    traceback: str = ""  # of that, if nobody foresaw it

    @property
    def foreground_ml(self) -> float | None:
        """Volume of all classes together [ml]; None without a label map."""
        return None if self.volumes_ml is None else sum(self.volumes_ml.values())

    @property
    def correlations(self) -> dict[tuple[str, str], float]:
        """Correlation of ranks for each pair of modalities, in order of the alphabet."""
        pairs = self.appearance.pairs if self.appearance else ()
        return {p.names: p.correlation for p in pairs if p.correlation is not None}


def measure(
    case: Case,
    modalities: tuple[str, ...],
    labels: LabelSet | None = None,
    windows: Mapping[str, Window] = MappingProxyType({}),
    optional: Collection[str] = (),
) -> CaseFacts:
    """Read a case and return its facts; never raises an error of ours, but says it in `problems`.

    `modalities` are those that it should have, but for `optional` ones; without `labels` classes
    are named "value 1", ... `windows` are those of the config.
    """
    contents = read_contents(case, modalities, labels, optional)
    return measure_contents(case.id, case.subject, contents, windows)


def measure_contents(
    case_id: str,
    subject: str,
    contents: Contents,
    windows: Mapping[str, Window] = MappingProxyType({}),
) -> CaseFacts:
    """Return the facts of a case whose arrays are in memory."""
    insides = {name: inside_of(array, name) for name, array in contents.images.items()}
    facts, scores = {}, {}
    for name, array in contents.images.items():
        scale = scale_of(array, name, windows.get(name))
        facts[name], scores[name] = _measure_modality(array, insides[name], scale)
    small = {name: coarse(scores[name], insides[name]) for name in scores}
    masks = {name: inside for name, (_, inside) in small.items()}
    ranks = {name: ranked(array, inside) for name, (array, inside) in small.items()}
    if contents.classes is not None and ranks:
        everywhere = np.ones(contents.classes.shape, dtype=bool)
        ranks[MASK], masks[MASK] = coarse(
            is_labelled(contents.classes).astype(np.float32), everywhere
        )
    return CaseFacts(
        case_id=case_id,
        subject=subject,
        geometry=contents.geometry,
        appearance=_appearance(contents),
        modalities=facts,
        contrasts=_contrasts(contents, scores, insides),
        mirrorings=mirrorings(ranks, masks),
        volumes_ml=_volumes_ml(contents),
        unannotated=contents.unannotated,
        problems=contents.problems,
        notes=contents.notes,
    )


def _appearance(contents: Contents) -> Appearance | None:
    grid = contents.geometry
    if grid is None or not contents.images:
        return None
    canonical = grid.canonical()
    views = {name: reoriented(array, grid, canonical) for name, array in contents.images.items()}
    return measure_appearance(views, grid)


def _measure_modality(array: Image, inside: Inside, scale: Scale) -> tuple[ModalityFacts, Image]:
    """Return facts and z-scores; the latter are 0 outside."""
    values = array[inside] if inside.any() else array.ravel()
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    scores = np.zeros_like(array)
    if deviation > 0:
        scores[inside] = (array[inside] - mean) / deviation
    minimum, low, median, high, maximum = np.percentile(values, (0, 1, 50, 99, 100)).tolist()
    shown, ends = array[inside] if scale.fixed else scores[inside], (scale.low, scale.high)
    counts, _ = np.histogram(np.clip(shown, *ends), HISTOGRAM_BINS, ends)
    voxels = np.unique(values, return_counts=True)[1]
    facts = ModalityFacts(
        minimum, low, median, high, maximum, mean, deviation,
        noise=noise(scores, inside) if deviation > 0 else None,
        inside=float(inside.mean()),
        commonest=int(voxels.max()) / values.size,
        at_minimum=_heaped(voxels),
        at_maximum=_heaped(voxels[::-1]),
        scale=scale,
        histogram=tuple(counts.tolist()),
    )  # fmt: skip
    return facts, scores


def _heaped(voxels: NDArray[np.intp]) -> float:
    """Return the share of voxels with the first of all values, if these are heaped up there.

    Of whole numbers with few values, the first may be common without being an end.
    """
    first, following = int(voxels[0]), int(voxels[1]) if voxels.size > 1 else 0
    return first / int(voxels.sum()) if first > _HEAP * following else 0.0


def noise(array: Image, inside: Inside) -> float | None:
    """Return the standard deviation of white noise in an image, in its units.

    The second difference along all three axes in turn removes what is smooth along any of them;
    the mean of its absolute value, over voxels whose 26 neighbours are inside, is that of the noise
    times sqrt(6^3) sqrt(2 / pi). After J. Immerkaer, "Fast noise variance estimation", 1996, which
    does so in 2-D.

    None is returned where fewer than 20 voxels have all their neighbours inside.
    """
    if min(array.shape) < 3:
        return None
    rough = array
    for axis in range(3):
        rough = np.diff(rough, n=2, axis=axis)
        ends = [np.take(inside, np.arange(s, inside.shape[axis] - 2 + s), axis) for s in range(3)]
        inside = ends[0] & ends[1] & ends[2]
    if np.count_nonzero(inside) < _FEWEST:
        return None
    return float(np.abs(rough[inside]).mean(dtype=np.float64) * np.sqrt(np.pi / 2 / 6**3))


def _contrasts(
    contents: Contents, scores: Mapping[str, Image], insides: Mapping[str, Inside]
) -> dict[tuple[str, str], float]:
    if contents.classes is None:
        return {}
    size, found = len(contents.names) + 1, {}
    for modality, inside in insides.items():
        classes = contents.classes[inside]
        counts = np.bincount(classes, minlength=size)
        sums = np.bincount(classes, weights=scores[modality][inside], minlength=size)
        for index, name in enumerate(contents.names, start=1):
            if min(counts[0], counts[index]) >= _FEWEST:
                found[name, modality] = float(sums[index] / counts[index] - sums[0] / counts[0])
    return found


def _volumes_ml(contents: Contents) -> dict[str, float] | None:
    if contents.classes is None or contents.geometry is None:
        return None
    counts = np.bincount(contents.classes.ravel(), minlength=len(contents.names) + 1).tolist()
    voxel_ml = contents.geometry.voxel_volume_mm3 / 1000
    return {name: counts[n] * voxel_ml for n, name in enumerate(contents.names, start=1)}
