"""What cases are judged by: tolerances, rules and what is said of them."""

import numpy as np
import pytest

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.empty_masks import RULES
from vol3dseg.evaluation.judging import OVERLAP, Judging, tolerances
from vol3dseg.evaluation.lesions import lesion_rule
from vol3dseg.evaluation.overlap import METRICS
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.evaluation.structure_scores import SCORES
from vol3dseg.evaluation.surface_distances import surface_distances
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation

LABELS = LabelSet(
    classes=[
        Label(name=name, read=(n,), write=n) for n, name in enumerate(["rest", "core", "rim"])
    ],
    regions={"all": ["core", "rim"]},
)


def scored(judging):
    """Score a core and a rim beside it, both two voxels too far along the first axis."""
    array = np.zeros((16, 8, 8), dtype=np.uint8)
    array[2:6, 2:6, 2:6], array[6:10, 2:6, 2:6] = 1, 2
    grid = Geometry(array.shape, np.diag([1.5, 1, 1, 1]))
    maps = (Segmentation(a, grid, LABELS) for a in (array, np.roll(array, 2, axis=0)))
    return evaluate_case("a", *maps, judging).structures


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (1.0, {})),
        (("2",), (2.0, {})),
        (("0",), (0.0, {})),
        (("1", "2.5"), (2.5, {})),
        (("core=2",), (1.0, {"core": 2.0})),
        (("1.5", "core=2", "rim=0.5"), (1.5, {"core": 2.0, "rim": 0.5})),
        (("a=b=3",), (1.0, {"a=b": 3.0})),
    ],
)
def test_tolerances_are_read(words, expected):
    assert tolerances(words) == expected


@pytest.mark.parametrize("word", ["", "x", "-1", "nan", "inf", "core=", "core=-2", "core=x", "1mm"])
def test_what_is_no_tolerance_is_refused(word):
    with pytest.raises(EvaluationError, match=r"tolerance '.*' is no distance; expected millim"):
        tolerances(("1", word))


def test_a_structure_has_its_own_tolerance_or_that_of_all():
    found = scored(Judging(surface="voxels", tolerance_mm=1.0, tolerances_mm={"core": 3.0}))
    assert found["core"]["surface_dice"] == 1
    assert found["rim"]["surface_dice"] < 1
    assert found["all"]["surface_dice"] < 1


def test_a_tolerance_of_nothing_is_refused():
    judging = Judging(tolerances_mm={"core": 1.0, "cores": 2.0})
    with pytest.raises(EvaluationError, match="a tolerance for cores; expected classes or regions"):
        judging.require_structures(("core", "rim", "all"))
    judging.require_structures(("core", "cores"))


def test_without_more_there_is_overlap_and_volume_alone():
    volumes = ["volume_error", "reference_ml", "prediction_ml"]
    assert list(scored(OVERLAP)["core"]) == [*(metric.name for metric in METRICS), *volumes]


def test_with_everything_there_is_every_score_in_order():
    found = scored(Judging(surface="area", lesions=lesion_rule("plain")))
    assert list(found) == ["core", "rim", "all"]
    for scores in found.values():
        assert list(scores) == [score.name for score in SCORES]


def test_lesions_are_judged_without_surfaces_too():
    found = scored(Judging(lesions=lesion_rule("plain")))["core"]
    assert found["lesion_hd95_mm"] == pytest.approx(3)
    assert "hd95_mm" not in found


def test_a_region_with_the_background_in_it_reaches_to_the_border():
    labels = LABELS.model_copy(update={"regions": {"not core": ["rest", "rim"]}})
    array = np.zeros((12, 8, 8), dtype=np.uint8)
    array[2:6, 2:6, 2:6] = 1
    more = array.copy()
    more[0, 0, 0] = 1  # a corner that the region lacks
    grid = Geometry(array.shape, np.eye(4))
    maps = (Segmentation(a, grid, labels) for a in (array, more))
    found = evaluate_case("a", *maps, Judging(surface="voxels")).structures["not core"]
    assert found["reference_ml"] == pytest.approx((12 * 8 * 8 - 64) / 1000)
    expected = surface_distances(array != 1, more != 1, (1, 1, 1), "voxels").average_mm
    assert found["assd_mm"] == pytest.approx(expected)


def test_volumes():
    array = np.zeros((4, 4, 4), dtype=np.uint8)
    array[:2] = 1
    grid = Geometry(array.shape, np.diag([10, 10, 10, 1]))
    more = array.copy()
    more[2] = 1
    found = evaluate_case("a", *(Segmentation(a, grid, LABELS) for a in (array, more))).structures
    core = found["core"]
    assert (core["reference_ml"], core["prediction_ml"]) == pytest.approx((32, 48))
    assert core["volume_error"] == pytest.approx(0.5)
    assert np.isnan(found["rim"]["volume_error"])


def test_what_is_said_names_surface_tolerances_and_lesions():
    assert OVERLAP.in_words() == ()
    words = Judging(
        surface="voxels",
        tolerance_mm=1.5,
        tolerances_mm={"core": 2.0},
        lesions=lesion_rule("brats-met"),
    ).in_words()
    assert words[0].startswith("Surfaces are the outermost voxels")
    assert words[1] == "The tolerance of the surface Dice is 1.5 mm, core 2 mm."
    assert words[2].startswith("Lesions: 26 neighbours hang together")
    assert "between voxels" in Judging(surface="area").in_words()[0]


def test_every_rule_for_empty_masks_has_a_judging():
    assert all(Judging(name).rule is rule for name, rule in RULES.items())
