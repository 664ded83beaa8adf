"""MONAI's transforms and the way home, against formulas of a voxel at a time.

All were compared with MONAI 1.6.1 itself: pipelines of all transforms in several orders, on
straight, oblique and turned grids, within 1e-5 of its arrays and of what its Invertd gives.
"""

import numpy as np
import pytest
from pydantic import ValidationError

from vol3dseg.errors import IntensityError
from vol3dseg.preprocessing.prepare import graph_obstacles, maps_home, prepare
from vol3dseg.recipe import MonaiRecipe
from vol3dseg.recipe.monai_steps import ScaleOwnRange, ScaleRange, Standardise
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.resampling import resample_along
from vol3dseg.space.volume import Volume

SPACING = {"step": "spacing", "spacing_mm": (2.0, 1.5, 1.0)}
RAS = {"step": "orientation"}


def recipe(*steps, modalities=("a",)):
    return MonaiRecipe(kind="monai", modalities=modalities, steps=steps, patch_size=(8, 8, 8))


def scan(shape=(9, 8, 7), affine=None, channels=1, seed=0):
    array = np.random.default_rng(seed).normal(10, 50, (*shape, channels)).astype(np.float32)
    grid = Geometry(shape, np.diag([1.0, 1.2, 3.0, 1.0]) if affine is None else affine)
    return Volume(array, grid, tuple("abc"[:channels]))


def sampled(image, place):
    """Linear interpolation at one place, moved to the border if it is beyond."""
    place = [min(max(p, 0), n - 1) for p, n in zip(place, image.shape, strict=True)]
    low = [int(np.floor(p)) for p in place]
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight, index = 1.0, []
        for p, at, step, n in zip(place, low, corner, image.shape, strict=True):
            share = p - at
            weight *= share if step else 1 - share
            index.append(min(at + step, n - 1))
        total += weight * float(image[tuple(index)])
    return total


def test_spacing_keeps_the_first_centre():
    volume = scan()
    made = prepare(volume, recipe(SPACING)).volume
    ratio = (2.0, 1.25, 1 / 3)
    assert made.geometry.shape == (5, 7, 19)  # round((n - 1) / ratio + 1)
    assert np.allclose(made.geometry.affine[:3, 3], 0)
    for index in [(0, 0, 0), (2, 3, 5), (4, 6, 18), (1, 6, 7)]:
        place = [i * r for i, r in zip(index, ratio, strict=True)]
        expected = sampled(volume.array[..., 0], place)
        assert made.array[(*index, 0)] == pytest.approx(expected, abs=1e-3)


def test_an_oblique_grid_is_resampled_about_its_middle():
    """Its affine is rounded, so that MONAI finds no outermost corner."""
    c, s, e, t = np.cos(0.2), np.sin(0.2), np.cos(0.3), np.sin(0.3)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, e, -t], [0, t, e]]
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag([1.0, 1.2, 3.0])).astype(np.float32)
    volume = scan(affine=affine)
    made = prepare(volume, recipe(SPACING)).volume
    assert made.geometry.shape == (5, 7, 19)
    first = np.linalg.solve(volume.geometry.affine, made.geometry.affine)[:3, 3]
    expected = (np.array([9, 8, 7]) - np.array([2, 1.25, 1 / 3]) * (5, 7, 19)) / 2
    assert first == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("near", [1.0009, 0.9991])
def test_what_is_nearly_the_spacing_stays(near):
    volume = scan(affine=np.diag([near, 2.0, 3.0, 1.0]))
    kept = {"step": "spacing", "spacing_mm": (1.0, 2.0, 3.0)}
    assert prepare(volume, recipe(kept)).volume.geometry == volume.geometry


def test_axes_are_turned_to_ras():
    affine = np.array([[0, 0, -2, 0], [1.0, 0, 0, 0], [0, -3, 0, 0], [0, 0, 0, 1]])
    volume = scan(affine=affine)
    made = prepare(volume, recipe(RAS)).volume
    assert made.geometry.axis_codes == "RAS"
    assert np.array_equal(made.array, volume.array.transpose(2, 0, 1, 3)[::-1, :, ::-1])


@pytest.mark.parametrize(
    ("step", "start", "shape"),
    [
        ({}, (2, 3, 1), (3, 2, 4)),
        ({"margin": (3, 1, 2)}, (-1, 2, -1), (9, 4, 8)),
        ({"margin": (3, 1, 2), "inside": True}, (0, 2, 0), (8, 4, 7)),
        ({"divisible": (4, 4, 4)}, (2, 2, 1), (4, 4, 4)),
    ],
)
def test_what_is_above_zero_is_kept(step, start, shape):
    array = np.full((9, 8, 7, 1), -1, dtype=np.float32)
    array[2:5, 3:5, 1:5] = 7
    volume = Volume(array, Geometry((9, 8, 7), np.eye(4)), ("a",))
    made = prepare(volume, recipe({"step": "crop", **step})).volume
    assert made.geometry.shape == shape
    assert made.geometry.affine[:3, 3].tolist() == list(start)
    assert (made.array == 7).sum() == 24
    beyond = np.prod(shape) - (made.array != 0).sum()
    inside = [min(s + n, m) - max(s, 0) for s, n, m in zip(start, shape, (9, 8, 7), strict=True)]
    assert beyond == np.prod(shape) - np.prod(inside)


def test_a_scan_of_nothing_is_not_cropped():
    empty = Volume(np.zeros((3, 3, 3, 1), np.float32), Geometry((3, 3, 3), np.eye(4)), ("a",))
    with pytest.raises(IntensityError, match="nothing above 0"):
        prepare(empty, recipe({"step": "crop"}))


def test_the_way_home_interpolates_with_zeros_where_it_was_cropped():
    volume = scan()
    volume.array[:3] = -1
    volume.array[:, :2] = -1
    steps = recipe(SPACING, {"step": "crop"})
    working = prepare(volume, steps).volume.geometry
    whole = prepare(volume, recipe(SPACING)).volume.geometry
    start = np.rint(np.linalg.solve(whole.affine, working.affine)[:3, 3]).astype(int)
    assert start.any()
    outputs = np.random.default_rng(2).normal(size=working.shape).astype(np.float32)
    padded = np.zeros(whole.shape, np.float32)
    padded[tuple(slice(s, s + n) for s, n in zip(start, working.shape, strict=True))] = outputs
    home = resample_along(outputs, maps_home(steps, working, volume.geometry))
    assert home.shape == volume.geometry.shape
    for index in np.ndindex(*home.shape):
        place = [i / r for i, r in zip(index, (2.0, 1.25, 1 / 3), strict=True)]
        assert home[index] == pytest.approx(sampled(padded, place), abs=1e-5)


def test_a_voxel_counts_beside_what_was_cropped_by_what_headers_round():
    """0.7 mm in float32 lies 1.7e-8 off two voxels of 0.35 mm, and outputs are as large there."""
    steps = recipe({"step": "spacing", "spacing_mm": (0.35, 1.0, 1.0)}, {"step": "crop"})
    volume = scan((40, 4, 4), np.diag([float(np.float32(0.7)), 1.0, 1.0, 1.0]))
    volume.array[:] = -1
    volume.array[12:20] = 5
    working = prepare(volume, steps).volume.geometry
    home = maps_home(steps, working, volume.geometry)[0]
    place = np.arange(40) * float(np.float32(0.7)) / 0.35 - round(working.affine[0, 3] / 0.35)
    inside = (place > -1) & (place < working.shape[0])
    near = np.abs(place - np.rint(place))
    assert 0 < near[1:].max() < 1e-5
    assert np.array_equal(~home.outside, inside)


def test_intensities_are_scaled_as_in_monai():
    array = np.random.default_rng(0).normal(3, 9, (2, 4, 5, 6)).astype(np.float32)
    array[:, :2] = 0
    inside = array != 0

    def of(step):
        made = array.copy()
        step.apply(made)
        return made

    wide = of(ScaleRange(low=-5.0, high=5.0, to_low=-1.0, to_high=3.0))
    assert np.allclose(wide, (array + 5) / 10 * 4 - 1, atol=1e-5)
    clipped = of(ScaleRange(low=-5.0, high=5.0, to_low=-1.0, to_high=3.0, clip=True))
    assert np.allclose(clipped, np.clip(wide, -1, 3))
    assert np.allclose(of(ScaleRange(low=1.0, high=3.0)), (array - 1) / 2, atol=1e-5)
    each = of(ScaleOwnRange(to_low=2.0, to_high=4.0, channel_wise=True))
    assert each.min(axis=(1, 2, 3)).tolist() == [2, 2]
    assert np.allclose(each.max(axis=(1, 2, 3)), 4)
    together = of(Standardise(nonzero=True))
    values = array[inside]
    assert np.allclose(together[inside], (values - values.mean()) / values.std(), atol=1e-5)
    assert (together[~inside] == 0).all()
    apart = of(Standardise(channel_wise=True, subtrahend=(1.0, 2.0), divisor=(2.0, 0.0)))
    assert np.allclose(apart[0], (array[0] - 1) / 2, atol=1e-6)
    assert np.allclose(apart[1], array[1] - 2, atol=1e-6)  # what would be divided by 0 is not
    constant = np.full((1, 2, 2, 2), 5, dtype=np.float32)
    ScaleOwnRange(to_low=0.5).apply(constant)
    assert (constant == 2.5).all()  # MONAI multiplies by the lower end
    Standardise().apply(constant)
    assert (constant == 0).all()


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ((RAS, RAS), "orientation is done 2 times"),
        (({"step": "crop"}, SPACING), "spacing comes after the crop"),
        (({"step": "standardise", "divisor": (1.0, 2.0)},), "need 1 numbers each"),
        (({"step": "scale_range", "low": 1.0, "high": 1.0},), "has no width"),
        (({"step": "scale_range", "low": 1.0, "high": 2.0, "clip": True},), "what to limit to"),
    ],
)
def test_recipes_that_nobody_can_follow_are_refused(steps, match):
    with pytest.raises(ValidationError, match=match):
        recipe(*steps)


def test_recipes_differ_by_their_steps():
    prints = {recipe(*steps).fingerprint for steps in ((), (RAS,), (SPACING,), (RAS, SPACING))}
    assert len(prints) == 4
    assert recipe(RAS).orientation == "RAS"
    assert (recipe(SPACING).orientation, recipe().spacing_mm) == ("stored", None)
    window = {"step": "scale_range", "low": -5.0, "high": 5.0, "to_low": 0.0, "to_high": 1.0}
    assert recipe({**window, "clip": True}).windows == {"a": (-5.0, 5.0)}
    assert recipe(window).windows == {}
    assert graph_obstacles(recipe(RAS))
