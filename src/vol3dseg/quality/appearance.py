"""The appearance of a scan as read: some hundred numbers, no voxels.

Measured by `prepare` and by `inspect`, so that training, prediction and inspection compare the same
numbers. Taken on a lattice of at most 48 voxels a side, each with its neighbours, which costs
little beside reading the files.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from vol3dseg.files import sha256_json
from vol3dseg.quality.background import Array, Inside, inside_of
from vol3dseg.quality.similarity import correlations, ranked
from vol3dseg.schema import Frozen, Millimetres, Real
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry

PERCENTS = (1, 5, 25, 50, 75, 95, 99)  # of the inside voxels' intensities that are kept
AXES = ("left-right", "posterior-anterior", "inferior-superior")
_SIDE = 48  # voxels of the lattice
_BINS = 6  # of a profile

Triple = tuple[Millimetres, Millimetres, Millimetres]


def rounded(value: float) -> float:
    """Return five digits: decimals would lose what is small in its unit."""
    return float(f"{value:.5g}")


Rounded = Annotated[Real, AfterValidator(rounded)]
Quantiles = Annotated[tuple[Rounded, ...], Field(min_length=7, max_length=7)]
Profile = Annotated[tuple[Rounded, ...], Field(min_length=_BINS, max_length=_BINS)]


class ModalityAppearance(Frozen):
    """One modality; "inside" are the voxels that are not background."""

    quantiles: Quantiles  # raw intensities inside at the percentiles `PERCENTS`
    inside: Rounded  # share of all voxels
    # Mean absolute difference between neighbours [standard deviations inside]; 0 if all are equal.
    roughness: Rounded
    # Along right, front and up: means over six slabs of the box round the inside. Background
    # counts as 0, inside voxels by rank from 0 to 1.
    profiles: tuple[Profile, Profile, Profile]


class PairAppearance(Frozen):
    """How similar two modalities are over voxels inside in both; None if too few, or all equal."""

    names: tuple[str, str]  # in order of the alphabet
    correlation: Rounded | None  # of their ranks
    edge_correlation: Rounded | None  # of the differences of ranks between neighbours


class Appearance(Frozen):
    """The appearance of a scan as read; lengths are along the axes closest to right, front, up."""

    axes: str  # directions in which i, j, k grow in the file: "LPS", ...
    spacing_mm: Triple
    size_mm: Triple  # field of view
    modalities: dict[str, ModalityAppearance]
    pairs: tuple[PairAppearance, ...]

    def select(self, modalities: Iterable[str]) -> "Appearance":
        """Return the appearance of those of these modalities that the scan has."""
        chosen = {n: self.modalities[n] for n in modalities if n in self.modalities}
        pairs = tuple(pair for pair in self.pairs if chosen.keys() >= set(pair.names))
        return self.model_copy(update={"modalities": chosen, "pairs": pairs})

    @property
    def digest(self) -> str:
        """Sixteen digits that tell the scan from others, and nothing else of it."""
        return sha256_json(self.model_dump(mode="json"))[:16]


def measure_appearance(images: Mapping[str, Array], source: Geometry) -> Appearance:
    """Measure a scan, whose (i, j, k) `images` are in axes closest to right, front and up."""
    canonical = source.canonical()
    samples = {name: _neighbours(image) for name, image in images.items()}
    insides = {name: inside_of(sample, name) for name, sample in samples.items()}
    ranks = {name: ranked(samples[name], insides[name]) for name in sorted(samples)}
    right, front, up = np.multiply(canonical.shape, canonical.spacing_mm).tolist()
    return Appearance(
        axes=source.axis_codes,
        spacing_mm=canonical.spacing_mm,
        size_mm=(right, front, up),
        modalities={n: _appearance(samples[n], insides[n], ranks[n]) for n in images},
        pairs=tuple(_pairs(ranks, insides)),
    )


def _neighbours(image: Array) -> Array:
    """Return the (4, i, j, k) voxels of a lattice, and the next ones along each axis.

    Along an axis of one voxel, the next one is the voxel itself.
    """
    slices = []
    for n in image.shape:
        step = max(1, -(-(n - 1) // _SIDE))
        slices.append(slice(((n - 2) % step) // 2 if n > 1 else 0, max(n - 1, 1), step))
    found = [image[tuple(slices)]]
    for axis, n in enumerate(image.shape):
        there = list(slices)
        if n > 1:
            there[axis] = slice(slices[axis].start + 1, n, slices[axis].step)
        found.append(image[tuple(there)])
    return np.stack(found)


def _pairs(ranks: Mapping[str, Array], insides: Mapping[str, Inside]) -> Iterator[PairAppearance]:
    of_values = correlations(
        {name: array[0] for name, array in ranks.items()},
        {name: inside[0] for name, inside in insides.items()},
    )
    of_edges = correlations(
        {name: array[1:] - array[:1] for name, array in ranks.items()},
        {name: np.broadcast_to(i.all(axis=0), i[1:].shape) for name, i in insides.items()},
    )
    for pair in combinations(ranks, 2):
        yield PairAppearance(
            names=pair, correlation=of_values.get(pair), edge_correlation=of_edges.get(pair)
        )


def _appearance(sample: Array, inside: Inside, ranks: Array) -> ModalityAppearance:
    """Return the appearance of one modality, from a lattice with its neighbours."""
    values = sample[0][inside[0]] if inside[0].any() else sample[0].ravel()
    deviation, whole, roughness = float(values.std(dtype=np.float64)), inside.all(axis=0), 0.0
    if deviation > 0 and whole.any():
        steps = np.abs(sample[1:, whole] - sample[:1, whole])
        roughness = float(steps.mean(dtype=np.float64)) / deviation
    box = Box.around(inside[0]) or Box.whole(inside[0].shape)
    shades = np.where(inside[0], ranks[0] + 0.5, 0)[box.slices]
    first, second, third = (_profile(shades, axis) for axis in range(3))
    return ModalityAppearance(
        quantiles=tuple(np.percentile(values, PERCENTS).tolist()),
        inside=float(inside[0].mean()),
        roughness=roughness,
        profiles=(first, second, third),
    )


def _profile(shades: NDArray[Any], axis: int) -> tuple[float, ...]:
    """Return means over six slabs along `axis`, which need not end between two voxels."""
    means = shades.mean(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(means)])
    at_edges = np.interp(np.linspace(0, means.size, _BINS + 1), np.arange(sums.size), sums)
    return tuple((np.diff(at_edges) * _BINS / means.size).tolist())
