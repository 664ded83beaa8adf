"""Each score against each that others compute: the rows of the tables in docs/metrics.md."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from tests.oracle import theirs as way
from tests.oracle.ours import Ours

Score = Callable[[Ours], float]
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "volume_error": "relative volume error",
    "hd_mm": "HD",
    "hd95_mm": "HD95",
    "assd_mm": "ASSD",
    "surface_dice": "surface Dice",
    "lesion_dice": "lesion-wise Dice",
    "lesion_hd95_mm": "lesion-wise HD95",
    "lesions_found": "lesions found",
    "lesions_missed": "lesions missed",
    "lesions_false": "false lesions",
}


@dataclass(frozen=True)
class Row:
    """One number of others and how ours is to it.

    Parameters
    ----------
    oracle : str
    theirs : str
        What it is called there.
    score : str
        Of ours, in words.
    equal : callable
        What must be equal to theirs: our score, or our parts put together as they do.
    differs : str
        Why our score is another number; empty where it is the same.
    plainly : callable or None
        Our score where it differs: it must do so for some pair.
    on : callable
        Whether a pair is compared.
    pairs : str
        Which these are; empty: all.
    rounding : float
        How far they may be apart beyond a millionth.
    shown : str
        What stands in the table in place of `theirs`.
    """

    oracle: str
    theirs: str
    score: str
    equal: Score
    differs: str = ""
    plainly: Score | None = None
    on: Callable[[Ours], bool] = lambda ours: True
    pairs: str = ""
    rounding: float = 1e-9
    shown: str = ""

    @property
    def name(self) -> str:
        return f"{self.oracle}: {self.theirs}"


POOLED = "the percentile of both directions in one heap; ours is the larger of two percentiles"
OF_SIDES = "the mean of the two directions' means; ours is the mean over both surfaces"
CONTOURS = (
    "a voxel is of the surface if a neighbour by a face, an edge or a corner is outside, and none "
    "is for lying at the border of the array; ours has faces alone, and outside is beyond the "
    "border"
)
IN_VOXELS = "distances of whole structures are in voxels, whatever spacing is given; "
OF_SHARES = "the tolerance is 0.5; the mean of two shares; ours is the share of both surfaces"
MATCHED = (
    "one component for one lesion, by the largest sum of Dice, and missed and false lesions are in "
    "no mean; ours, by the rules of BraTS 2023, takes all components that touch a lesion, and a "
    "missed or a false one counts 0 (374 mm)"
)
ONE_TO_ONE = "no lesion touched by two components, no component touching two"


def _same(oracle: str, *names: tuple[str, str], surface=None, mm: float = 1.0) -> list[Row]:
    """Return rows of scores that are the same there: our names and theirs."""
    by = f" by {surface}" if surface else ""
    return [
        Row(
            oracle, theirs, TITLES.get(ours, ours) + by,
            lambda o, ours=ours: o.score(ours, surface, mm),
        )
        for ours, theirs in names
    ]  # fmt: skip


def _other(oracle: str, theirs: str, ours: str, equal: Score, why: str, surface, **more) -> Row:
    """Return a row of a score that is another number there."""
    title = f"{TITLES[ours]} by {surface}"
    return Row(oracle, theirs, title, equal, why, lambda o: o.score(ours, surface), **more)


def _open(ours: Ours) -> bool:
    return ours.leaves_background


_CONFUSION = [(name, name) for name in ("precision", "sensitivity", "specificity")]
SURFACE_DISTANCE = [
    *_same("surface-distance", ("hd_mm", "HD"), ("hd95_mm", "HD95"), surface="area"),
    *_same("surface-distance", ("assd_mm", "ASD, weighted"), surface="area"),
    *_same("surface-distance", ("surface_dice", "NSD 1.1"), surface="area", mm=1.1),
    *_same("surface-distance", ("surface_dice", "NSD 2"), surface="area", mm=2.0),
    _other("surface-distance", "ASD", "assd_mm", way.mean_of_means, OF_SIDES, "area"),
]
MONAI = [
    *_same("MONAI", ("dice", "Dice"), ("iou", "IoU"), *_CONFUSION),
    *_same("MONAI", ("hd_mm", "HD"), ("hd95_mm", "HD95"), ("assd_mm", "ASSD"), surface="voxels"),
    *_same("MONAI", ("surface_dice", "NSD 1.1"), surface="voxels", mm=1.1),
    *_same("MONAI", ("surface_dice", "NSD 2"), surface="voxels", mm=2.0),
    *_same("MONAI", ("surface_dice", "NSD 1.1, subvoxels"), surface="area", mm=1.1),
    *_same("MONAI", ("surface_dice", "NSD 2, subvoxels"), surface="area", mm=2.0),
]
MEDPY = [
    *_same("MedPy", ("dice", "dc"), ("iou", "jc"), *_CONFUSION[:2], ("volume_error", "ravd")),
    Row(
        "MedPy", "specificity", "specificity", lambda o: o.score("specificity"),
        on=lambda o: not o.pair.reference.all(), pairs="a reference that leaves background",
    ),
    *_same("MedPy", ("hd_mm", "hd"), ("assd_mm", "assd"), surface="voxels"),
    _other("MedPy", "hd95", "hd95_mm", lambda o: way.pooled95(*o.outermost), POOLED, "voxels"),
]  # fmt: skip
_CONTOURS = {"on": _open, "rounding": 1e-5}  # ITK's own distances are off by some 1e-6 mm
SEG_METRICS = [
    *_same("seg-metrics", ("dice", "dice"), ("iou", "jaccard")),
    *_same("seg-metrics", ("precision", "precision"), ("sensitivity", "recall")),
    Row(
        "seg-metrics", "fpr", "specificity", lambda o: 1 - o.score("specificity"),
        on=lambda o: not o.pair.reference.all(), pairs="1 minus it",
    ),
    _other(
        "seg-metrics", "hd", "hd_mm",
        way.of_full_contours(lambda there, back: max(there.max(), back.max())),
        CONTOURS, "voxels", **_CONTOURS,
    ),
    _other(
        "seg-metrics", "hd95", "hd95_mm", way.of_full_contours(way.pooled95),
        f"{POOLED}; {CONTOURS}", "voxels", **_CONTOURS,
    ),
    _other(
        "seg-metrics", "msd", "assd_mm",
        way.of_full_contours(lambda there, back: np.concatenate([there, back]).mean()),
        CONTOURS, "voxels", **_CONTOURS,
    ),
]  # fmt: skip
_NOW = "brats-evaluation"
_SINGLE = {"on": lambda o: o.is_one_to_one, "pairs": ONE_TO_ONE}
_FOUND = {"on": lambda o: o.overlaps}
BRATS_EVALUATION = [
    Row(_NOW, "global_bin_dsc", "Dice", lambda o: o.score("dice"), **_FOUND),
    _other(
        _NOW, "global_bin_hd95", "hd95_mm", lambda o: way.pooled95(*o.in_voxels.outermost),
        IN_VOXELS + POOLED, "voxels", **_FOUND,
    ),
    _other(
        _NOW, "global_bin_nsd", "surface_dice", way.mean_of_shares,
        IN_VOXELS + OF_SHARES, "voxels", **_FOUND,
    ),
    Row(_NOW, "tp", "lesions found", lambda o: o.lesions.found, **_SINGLE),
    Row(_NOW, "fp", "false lesions", lambda o: o.lesions.false, **_SINGLE),
    Row(
        _NOW, "fn", "lesions missed", lambda o: len(o.lesions.judged) - o.lesions.found, **_SINGLE,
    ),
    Row(
        _NOW, "sq_dsc", "Dice of a found lesion", lambda o: o.mean_dice_of_found,
        on=lambda o: o.is_one_to_one and o.overlaps, pairs=ONE_TO_ONE,
    ),
    Row(_NOW, "tp", "lesions found", way.matched("found"), MATCHED, lambda o: o.lesions.found),
    Row(_NOW, "fp", "false lesions", way.matched("false"), MATCHED, lambda o: o.lesions.false),
    Row(
        _NOW, "fn", "lesions missed", way.matched("missed"), MATCHED,
        lambda o: len(o.lesions.judged) - o.lesions.found,
    ),
    Row(
        _NOW, "sq_dsc", "lesion-wise Dice", way.matched("dice"), MATCHED,
        lambda o: o.mean_dice_of_found, **_FOUND,
    ),
    Row(
        _NOW, "sq_hd95", "lesion-wise HD95", way.matched("hd95"), f"{MATCHED}; {POOLED}",
        lambda o: o.lesion_score("lesion_hd95_mm", "gli", "voxels"), **_FOUND,
    ),
]  # fmt: skip
SCIPY = [
    *_same("SciPy", ("hd_mm", "directed_hausdorff"), surface="voxels"),
    *_same("SciPy", ("hd95_mm", "KDTree, 95 %"), ("assd_mm", "KDTree, mean"), surface="voxels"),
    Row(
        "SciPy", "KDTree, within", "surface Dice by voxels",
        lambda o: o.score("surface_dice", "voxels", o.pair.spacing_mm[0]),
    ),
]  # fmt: skip
SIMPLEITK = [
    *_same("SimpleITK", ("dice", "GetDiceCoefficient"), ("iou", "GetJaccardCoefficient")),
    *_same("SimpleITK", ("sensitivity", "1 - GetFalseNegativeError")),
    *_same("SimpleITK", ("precision", "1 - GetFalseDiscoveryRate")),
    Row(
        "SimpleITK", "GetVolumeSimilarity", "relative volume error", way.by_both_volumes,
        "the error by the mean of both volumes; ours is by that of the reference",
        lambda o: o.score("volume_error"),
    ),
    Row(
        "SimpleITK", "GetHausdorffDistance", "HD by voxels", way.of_sets,
        "between all voxels of the masks; ours is between their surfaces, and is not 0 inside",
        lambda o: o.score("hd_mm", "voxels"), rounding=1e-5,
    ),
]  # fmt: skip


def _brats(oracle: str, challenges: tuple[str, ...], surface) -> list[Row]:
    names = [name for name in TITLES if name.startswith("lesion")]
    return [
        Row(
            oracle, f"{challenge} {name}", TITLES[name],
            lambda o, name=name, of=challenge: o.lesion_score(name, of, surface),
            shown=f"brats-{challenge}",
        )
        for challenge in challenges
        for name in names
    ]  # fmt: skip


@dataclass(frozen=True)
class Empty:
    """What others say of a structure that is missing; None where they refuse."""

    oracle: str
    theirs: str
    neither: float | None
    missed: float | None  # the prediction is empty
    invented: float | None  # the reference is empty


EMPTY_ROWS = [
    Empty("MONAI", "Dice", nan, 0, nan),
    Empty("MONAI", "HD", nan, inf, inf),
    Empty("MONAI", "HD95", nan, nan, nan),
    Empty("MONAI", "NSD 2", nan, 0, 0),
    Empty("MedPy", "dc", 1, 0, 0),
    Empty("MedPy", "hd95", None, None, None),
    Empty("seg-metrics", "dice", 1, 0, 0),
    Empty("seg-metrics", "hd95", 0, 0, 0),
    Empty("surface-distance", "HD95", None, None, None),
    Empty(_NOW, "global_bin_dsc", nan, 0, 0),
    Empty(_NOW, "global_bin_hd95", nan, inf, inf),
    Empty(_NOW, "sq_dsc", nan, 0, 0),
    Empty("BraTS 2023, by area", "gli lesion_dice", 1, 0, 0),
    Empty("BraTS 2023, by area", "gli lesion_hd95_mm", 0, 374, 374),
]
LOCAL = [*SCIPY, *SIMPLEITK, *_brats("BraTS 2023, by voxels", ("gli", "met", "men"), "voxels")]
FOREIGN = [
    *SURFACE_DISTANCE,
    *MONAI,
    *MEDPY,
    *SEG_METRICS,
    *BRATS_EVALUATION,
    *_brats("BraTS 2023, by area", ("gli", "met"), "area"),
]
