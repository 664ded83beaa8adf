"""Rows of probabilities brought home one by one equal the whole brought home at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.inference import restore as module
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.restore import Restorer
from vol3dseg.model.outputs import Softmax
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.resampling import resample, resample_part
from vol3dseg.space.stretched_axes import StretchedAxis

SOFTMAX = Softmax(classes=("a", "b", "c"))


def grids(seed, spacing):
    """Return a source grid with turned axes, and a cropped working grid made from it."""
    rng = np.random.default_rng(seed)
    order, flips = rng.permutation(3), rng.choice([-1.0, 1.0], 3)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (to, flip) in enumerate(zip(order, flips, strict=True)):
        affine[to, axis] = flip * (1, 1.5, 0.8)[axis]
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    source = Geometry(tuple(rng.integers(8, 20, 3).tolist()), affine)
    grid = source.canonical()
    if spacing is not None:
        grid = grid.with_spacing((spacing, spacing, 2 * spacing))
    start = [int(rng.integers(0, n // 3 + 1)) for n in grid.shape]
    stop = [int(rng.integers(2 * n // 3 + 1, n + 1)) for n in grid.shape]
    return grid.cropped(Box(tuple(start), tuple(stop))), source


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spacing=st.sampled_from([None, 0.7, 1.3, 3.0]),
    keep=st.booleans(),
    threads=st.sampled_from([1, 2]),
    axes=st.sampled_from([(0, 1, 2), (1, 0, 2), (2, 0, 1)]),
)
def test_row_by_row_equals_all_at_once(labels, seed, spacing, keep, threads, axes):
    working, source = grids(seed, spacing)
    rng = np.random.default_rng(seed)
    probabilities = rng.random((3, *working.shape)).astype(np.float32)
    probabilities /= probabilities.sum(axis=0)
    expected = np.stack(
        [resample(p, working, source, fill=float(n == 0)) for n, p in enumerate(probabilities)], -1
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 300)  # several chunks in each step
        home = Restorer(working, source, Decision(SOFTMAX, labels), keep, threads, axes)
        first = 0
        while first < working.shape[axes[0]]:
            stop = first + int(rng.integers(1, 6))
            rows = np.moveaxis(probabilities, 1 + axes[0], 1)[:, first:stop].copy()
            home.add(rows)
            rows[:] = np.nan  # the caller may use it again
            first = stop
    np.testing.assert_array_equal(home.labels, expected.argmax(axis=3))
    if keep:
        np.testing.assert_array_equal(home.probabilities, expected)
    else:
        assert home.probabilities is None


def test_what_waits_is_a_few_rows_and_not_the_volume(labels):
    source = Geometry((60, 8, 8), np.diag([1.0, 1, 1, 1]))
    working = source.with_spacing((2.0, 1.0, 1.0))
    home = Restorer(working, source, Decision(Softmax(classes=("a", "b")), labels))
    for _ in range(working.shape[0]):
        home.add(np.full((2, 1, 8, 8), 0.5, dtype=np.float32))
        assert home._waiting.shape[1] <= 2


def test_the_first_of_equals_is_the_most_probable(labels):
    tied = np.array([0.4, 0.4, 0.2], dtype=np.float32)[:, None]
    assert SOFTMAX.decide(tied, labels).item() == 0
    assert SOFTMAX.decide(tied[::-1], labels).item() == 1


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    ways=st.tuples(*[st.sampled_from(["linear", "nearest"])] * 3),
    axes=st.sampled_from([(0, 1, 2), (1, 0, 2), (2, 0, 1)]),
)
def test_rows_by_products_equal_sums_over_taps(labels, seed, ways, axes):
    """Axes in any order and direction, a part of the target covered, rows along any axis."""
    rng = np.random.default_rng(seed)
    order, sizes = rng.permutation(3), rng.integers(3, 30, 3)
    shape = tuple(int(n) for n in rng.integers(8, 40, 3))
    maps = []
    for axis, count, way in zip(order, shape, ways, strict=True):
        begin, stop = int(rng.integers(0, 3)), int(rng.integers(count - 3, count + 1))
        size, flipped = int(sizes[axis]), bool(rng.integers(2))
        maps.append(StretchedAxis.between(int(axis), size, count, way, (begin, stop), flipped))
    values = rng.normal(size=(3, *sizes)).astype(np.float32)
    outside = np.zeros(shape, dtype=bool)
    for target, each in enumerate(maps):
        np.moveaxis(outside, target, 0)[each.outside] = True
    expected = np.stack([resample_part(each, 0, tuple(maps)) for each in values])
    working, source = (Geometry(n, np.eye(4)) for n in (tuple(sizes.tolist()), shape))
    logits = Softmax(classes=("a", "b", "c"), values="logits")
    home = Restorer(working, source, Decision(logits, labels), True, 2, axes, tuple(maps))
    rows = np.moveaxis(values, 1 + axes[0], 1)
    for first in range(0, rows.shape[1], 5):
        home.add(rows[:, first : first + 5])
    shares = np.exp(expected) / np.exp(expected).sum(axis=0)
    shares[:, outside] = np.array([1, 0, 0], dtype=np.float32)[:, None]
    np.testing.assert_allclose(np.moveaxis(home.probabilities, -1, 0), shares, atol=1e-5)
    second, first = np.sort(shares, axis=0)[-2:]
    clear = first - second > 1e-4
    np.testing.assert_array_equal(home.labels[clear], shares.argmax(axis=0)[clear])
