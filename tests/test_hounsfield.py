"""CT: air is background and 0 HU is tissue, a scanner's floor is no clipping, windows are shown."""

import numpy as np
import pytest

from vol3dseg.quality.appearance import measure_appearance
from vol3dseg.quality.background import (
    SOFT_TISSUE,
    Scale,
    grey_scale,
    in_hounsfield,
    inside_of,
    scale_of,
)
from vol3dseg.quality.case_facts import measure_contents
from vol3dseg.quality.contents import Contents
from vol3dseg.quality.suspects import rank
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry

SHAPE = (32, 28, 12)
BODY = np.s_[5:-5, 5:-5]


def ct(floor=-1024, seed=0):
    """A body of -60 to 60 HU in air, whose noise reaches the floor of the scanner."""
    rng = np.random.default_rng(seed)
    array = rng.normal(-1000, 20, SHAPE)
    array[BODY] = rng.integers(-60, 60, array[BODY].shape)
    array[:2] = floor  # outside the field of view
    return np.maximum(np.rint(array), floor).astype(np.float32)


def body():
    inside = np.zeros(SHAPE, bool)
    inside[BODY] = True
    return inside


def no_air():
    return ct()[BODY]


def z_scores():
    """Of a masked body, times 1000: 0 is the background, and one voxel has a scanner's floor."""
    array = np.random.default_rng(0).normal(0, 400, SHAPE).round().clip(-1000, 1000)
    array[~body()] = 0
    array[body() & (array == 0)] = 1
    array[7, 7, 7] = -1024
    return array.astype(np.float32)


INSIDE = [
    pytest.param(ct(), "scan", body(), id="known by its floor"),
    pytest.param(ct(-3024), "scan", body(), id="padded"),
    pytest.param(ct() + 0.25, "CT", body(), id="known by its name"),
    pytest.param(ct() * body(), "ct_venous", body() & (ct() != 0), id="masked with 0"),
    pytest.param(no_air(), "ct", np.ones(no_air().shape, bool), id="cut to the body"),
    pytest.param(no_air(), "scan", np.ones(no_air().shape, bool), id="the same, not known as CT"),
    pytest.param(ct().clip(-200, 300), "ct", body(), id="limited to a window"),
    pytest.param(z_scores(), "t1", body(), id="z-scores"),
    pytest.param(ct() + 1024, "ct", ct() != -1024, id="with an offset: no HU"),
]


@pytest.mark.parametrize(("array", "name", "inside"), INSIDE)
def test_what_is_inside(array, name, inside):
    np.testing.assert_array_equal(inside_of(array, name), inside)


@pytest.mark.parametrize(
    ("array", "name", "known"),
    [
        pytest.param(ct(), "scan", True, id="floor"),
        pytest.param(no_air(), "low-dose CT", True, id="name"),
        pytest.param(no_air(), "contrast", False, id="no word CT"),
        pytest.param(z_scores() / 400, "ct", False, id="normalised"),
        pytest.param(z_scores(), "t1", False, id="z-scores"),
        pytest.param(ct() + 1024, "ct", False, id="offset"),
    ],
)
def test_which_images_are_in_hounsfield_units(array, name, known):
    assert in_hounsfield(array, name) is known
    assert scale_of(array, name).unit == ("HU" if known else "sd")
    assert grey_scale(array, inside_of(array, name), name)[:2] == SOFT_TISSUE or not known


def test_the_window_of_the_config_is_what_is_shown():
    window = {"method": "window", "low": -100, "high": 200}
    recipe = Recipe(modalities=("CT",), normalisation=window, patch_size=(8, 8, 8))
    assert recipe.windows == {"CT": (-100, 200)}
    (facts,) = measured(ct(), recipe.windows).modalities.values()
    assert facts.scale == Scale(-100, 200, "HU")
    tissue = ct()[body()]
    counts, _ = np.histogram(tissue, len(facts.histogram), (-100, 200))
    assert facts.histogram == tuple(counts)
    assert grey_scale(ct(), body(), "CT", (-100, 200)) == facts.scale
    assert str(facts.scale) == "-100 to 200 HU"
    assert scale_of(z_scores(), "t1", (0, 5)) == Scale(0, 5, "")


def measured(array, windows=None):
    grid = Geometry(array.shape, np.eye(4))
    return measure_contents("a", "a", Contents(grid, {"CT": array}, None, (), ()), windows or {})


@pytest.mark.parametrize(
    ("array", "windows", "clipped"),
    [
        pytest.param(ct(), {}, False, id="floor"),
        pytest.param(ct(-3024), {}, False, id="padding"),
        pytest.param(no_air().clip(-54), {}, True, id="limited within tissue"),
        pytest.param(no_air().clip(-54), {"CT": (-54, 100)}, False, id="as the window does"),
        pytest.param(no_air().clip(None, 40), {"CT": (-100, 100)}, True, id="within the window"),
        pytest.param((no_air() / 30).round(), {}, False, id="few values"),
    ],
)
def test_what_is_called_clipped(array, windows, clipped):
    (verdict,) = rank([measured(array, windows)])
    assert [reason.kind for reason in verdict.reasons] == ["clipped"] * clipped


def test_the_guard_compares_tissue_with_tissue():
    """The share of air in the field of view moves no percentile."""
    grid = Geometry(SHAPE, np.eye(4))
    one = measure_appearance({"CT": ct()}, grid).modalities["CT"]
    assert one.inside == pytest.approx(body().mean(), abs=0.1)
    assert min(one.quantiles) >= -60
