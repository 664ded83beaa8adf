"""What is known of a case after it was read once: a few hundred numbers, no voxels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vol3dseg.space.geometry import Geometry

MASK = "the mask"  # takes part in comparisons as if it were a modality
HISTOGRAM_BINS = 48
HISTOGRAM_RANGE = (-4.0, 8.0)  # standard deviations from the mean inside; the ends hold the rest


@dataclass(frozen=True, slots=True)
class ModalityFacts:
    """One modality of one case; "inside" are the voxels that are not background.

    Parameters
    ----------
    minimum, low, median, high, maximum : float
        Raw intensities inside: extremes, percentiles 1, 50 and 99.
    mean, deviation : float
        Raw, inside.
    noise : float or None
        Standard deviation of noise, as a share of `deviation`; None where it cannot be told.
    inside : float
        Share of all voxels.
    commonest : float
        Share of the inside voxels that have the most common value.
    at_minimum, at_maximum : float
        Share of the inside voxels that have the smallest and the largest value.
    histogram : tuple of int
        Inside voxels by (value - mean) / deviation, `HISTOGRAM_BINS` bins over `HISTOGRAM_RANGE`.
    """

    minimum: float
    low: float
    median: float
    high: float
    maximum: float
    mean: float
    deviation: float
    noise: float | None
    inside: float
    commonest: float
    at_minimum: float
    at_maximum: float
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mirroring:
    """How well a modality, or the mask, fits the others as it is and mirrored along an axis.

    Parameters
    ----------
    name : str
        A modality, or `MASK`.
    axis : int
        0, 1 or 2 for i, j or k.
    before, after : float
        Multiple correlation with the others, 0 to 1.
    gain : float
        Information about the others that mirroring would add [nat per voxel]; usually negative.
    """

    name: str
    axis: int
    before: float
    after: float
    gain: float


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case.

    Parameters
    ----------
    case_id, subject : str
    geometry : Geometry or None
        The grid that most images lie on, or the mask where no image can be read; None without both.
    modalities : mapping from modality to ModalityFacts
    contrasts : mapping from (class, modality) to float
        Mean inside the class minus mean of the unlabelled rest [standard deviations inside].
    correlations : mapping from (modality, modality) to float
        Spearman's, over voxels that are inside in both.
    mirrorings : tuple of Mirroring
        The best axis of each modality and of the mask.
    volumes_ml : mapping from class to float, or None
        None where there is no label map, or none that can be read.
    problems : tuple of str
        What is wrong with the files, in words.
    """

    case_id: str
    subject: str
    geometry: Geometry | None = None
    modalities: Mapping[str, ModalityFacts] = field(default_factory=dict)
    contrasts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    correlations: Mapping[tuple[str, str], float] = field(default_factory=dict)
    mirrorings: tuple[Mirroring, ...] = ()
    volumes_ml: Mapping[str, float] | None = None
    problems: tuple[str, ...] = ()

    @property
    def foreground_ml(self) -> float | None:
        """Volume of all classes together [ml]; None without a label map."""
        return None if self.volumes_ml is None else sum(self.volumes_ml.values())
