"""Interpolation between grids over one field of view, as the libraries do it that nnU-Net calls."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.space import many_taps
from vol3dseg.space.axes import AxisMap
from vol3dseg.space.many_taps import resample_by_products
from vol3dseg.space.stretched_axes import StretchedAxis

sizes = st.integers(1, 40)
NO_LIMITS = (-np.inf, np.inf)


def along(values, axis_map):
    """Interpolate a (size,) array."""
    taps, weights = axis_map.taps()
    return (values[taps] * weights).sum(axis=1)


def spline_solved(values, count):
    """Return a cubic spline through samples whose edges are repeated, from a system of equations.

    Thirty repeated samples on either side stand for endless ones.
    """
    padded = np.pad(values.astype(float), 30, mode="edge")
    n = len(padded)
    basis = np.diag(np.full(n, 4.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    basis[0, 0] = basis[-1, -1] = 5.0
    coefficients = np.linalg.solve(basis / 6, padded)
    found = []
    for place in (np.arange(count) + 0.5) * len(values) / count - 0.5 + 30:
        x = np.abs(place - np.arange(n))
        weight = np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.clip(2 - x, 0, None) ** 3 / 6)
        found.append(weight @ coefficients)
    return np.array(found)


@settings(max_examples=80, deadline=None)
@given(size=sizes, count=sizes, seed=st.integers(0, 2**32 - 1))
def test_cubic_is_the_spline_through_the_samples(size, count, seed):
    values = np.random.default_rng(seed).normal(size=size)
    found = along(values, StretchedAxis.between(0, size, count, "cubic"))
    np.testing.assert_allclose(found, spline_solved(values, count), atol=2e-6)


@settings(max_examples=80, deadline=None)
@given(size=sizes, count=sizes, seed=st.integers(0, 2**32 - 1))
def test_linear_is_between_two_samples_and_repeats_the_edge(size, count, seed):
    values = np.random.default_rng(seed).normal(size=size)
    places = (np.arange(count) + 0.5) * size / count - 0.5
    expected = np.interp(places, np.arange(size), values)
    for way in ("linear", "torch linear"):
        found = along(values, StretchedAxis.between(0, size, count, way))
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("size", [1, 2, 7, 13, 24, 155])
def test_nearest_is_rounded_as_scipy_does(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    for count in [*range(1, 60), 90, 211]:
        places = float(size) / count * (np.arange(count) + 0.5) - 0.5
        expected = ndimage.map_coordinates(np.arange(size * 1.0), [places], order=0, mode="nearest")
        taps, weights = StretchedAxis.between(0, size, count, "nearest").taps()
        np.testing.assert_array_equal(taps[:, 0], expected)
        np.testing.assert_array_equal(weights, np.ones((count, 1)))


@pytest.mark.parametrize(
    ("size", "count", "at", "nearest", "of_torch"),
    [
        # As SciPy 1.17's map_coordinates(order=0) and PyTorch 2.13's interpolate("nearest-exact")
        # said; the place is half way between two voxels, and rounding decides.
        (2, 49, 24, 0, 1),
        (4, 41, 20, 2, 1),
        (4, 49, 24, 1, 2),
        (6, 37, 18, 3, 2),
        (6, 47, 23, 2, 3),
        (8, 55, 27, 4, 3),
        (3, 9, 4, 1, 1),
    ],
)
def test_half_way(size, count, at, nearest, of_torch):
    for way, expected in (("nearest", nearest), ("torch nearest", of_torch)):
        taps, _ = StretchedAxis.between(0, size, count, way).taps()
        assert taps[at, 0] == expected


def test_a_part_of_the_target_and_axes_that_run_the_other_way():
    values = np.random.default_rng(0).normal(size=7)
    alone = along(values, StretchedAxis.between(0, 7, 11, "linear"))
    part = StretchedAxis.between(0, 7, 20, "linear", part=(4, 15))
    assert part.outside.tolist() == [not 4 <= n < 15 for n in range(20)]
    np.testing.assert_array_equal(along(values, part)[4:15], alone)
    flipped = StretchedAxis.between(0, 7, 20, "linear", part=(4, 15), flipped=True)
    np.testing.assert_array_equal(along(values, flipped)[4:15], alone[::-1])
    for axis_map, order in ((part, 1), (flipped, -1)):
        plain = AxisMap(0, axis_map.offset, axis_map.scale, 7, 0, 20)
        places = plain.coordinates[4:15][::order]
        np.testing.assert_allclose(places, (np.arange(11) + 0.5) * 7 / 11 - 0.5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    target=st.tuples(*[st.integers(1, 40)] * 3),
    ways=st.tuples(*[st.sampled_from(["nearest", "linear", "cubic"])] * 3),
    order=st.permutations(range(3)),
    alone=st.sampled_from([None, 0, 1, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_are_axis_after_axis(shape, target, ways, order, alone, seed):
    stored = [shape[axis] for axis in order]
    image = np.random.default_rng(seed).normal(size=stored).astype("f4")
    image = image.transpose(np.argsort(order))
    maps = tuple(map(StretchedAxis.between, range(3), shape, target, ways))
    expected = image.astype(float)
    limits = (image.min(), image.max()) if alone is None else NO_LIMITS
    planes = tuple(axis for axis in range(3) if axis != alone)
    ends = [end(image, axis=planes, keepdims=True) for end in (np.min, np.max)]
    for axis in planes:
        expected = np.apply_along_axis(along, axis, expected, maps[axis])
    if alone is not None:
        expected = np.clip(expected, *ends)
        expected = np.apply_along_axis(along, alone, expected, maps[alone])
    found = np.full(target, np.nan, dtype="f4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_taps, "_CHUNK", 50)
        patch.setattr(many_taps, "_SMALL", 200)
        resample_by_products(lambda part: image[part], maps, found, order, limits, alone)
    np.testing.assert_allclose(found, np.clip(expected, *limits), atol=3e-6)


def test_memory_is_that_of_portions():
    image = np.ones((64, 64, 200), dtype="f4")
    out = np.empty((64, 64, 150), dtype="f4")
    maps = tuple(
        StretchedAxis.between(axis, size, count, "cubic")
        for axis, (size, count) in enumerate(zip(image.shape, out.shape, strict=True))
    )
    tracemalloc.start()
    resample_by_products(lambda part: image[part], maps, out, (2, 1, 0), (0, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < image.nbytes
    np.testing.assert_allclose(out, 1, atol=1e-6)
