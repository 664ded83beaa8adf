"""Tiles as nnU-Net's predictor lays, weights and adds them up, against loops written out here."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from vol3dseg.inference.halves import pack, round_to_half, unpack
from vol3dseg.inference.tiling.blending import Window, tile_weights
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import run_tiles
from vol3dseg.inference.tiling.tile_plan import spread_evenly
from vol3dseg.model.tiling_rule import Tiling

PATCH = (8, 12, 6)
half = np.float16


@pytest.fixture
def adopted(manifest_for):
    """Return the manifest of a network of 2 channels and 3 outputs that nnU-Net has trained."""

    def make(patch=PATCH, **tiling):
        found = manifest_for(2, 3, patch, 1)
        changes = {
            "tiling": Tiling.of_nnunet(patch, **tiling),
            "outputs": found.outputs.model_copy(update={"values": "logits"}),
            "network": found.network.model_copy(update={"local": False}),
        }
        return found.model_copy(update=changes)

    return make


def network(patches):
    """Outputs that depend on the place in the tile and on all of it, as with instance norm."""
    ramp = np.linspace(-1, 2, patches[0, 0].size, dtype=np.float32).reshape(patches.shape[2:])
    first, second = patches[:, :1], patches[:, 1:]
    mean = patches.mean(axis=(2, 3, 4), keepdims=True)[:, :1]
    return np.concatenate([first + ramp, second * ramp, mean - first], axis=1).astype(np.float32)


def image(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (*shape, 2)).astype(np.float32)


def result(array, manifest, plan=None, threads=1, run=network):
    """Return the (channel, i, j, k) result of blended tiles."""
    plan = plan or Planner(manifest, bytes_per_voxel=1).blended(array.shape[:3])
    rows = [np.array(row) for row in run_tiles(array, run, manifest, plan, threads=threads)]
    return np.moveaxis(np.concatenate(rows, axis=1), [1, 2, 3], [1 + a for a in plan.row_axes])


def written_out(array, patch, share, axes, order=(2, 1, 0), kind=half, run=network):
    """Pad, place, mirror, weigh and add up in `kind`, one tile after the other."""
    low = [max(0, side - n) // 2 for n, side in zip(array.shape, patch, strict=False)]
    high = [max(0, side - n) - a for n, side, a in zip(array.shape, patch, low, strict=False)]
    padded = np.pad(array, [*zip(low, high, strict=True), (0, 0)])
    starts = []
    for extent, side in zip(padded.shape, patch, strict=False):
        count = int(np.ceil((extent - side) / (side * share))) + 1
        apart = (extent - side) / max(1, count - 1)
        starts.append([round(apart * n) for n in range(count)])  # halves to even
    weights = tile_weights(patch, Tiling.of_nnunet(patch))
    total, norm = np.zeros((3, *padded.shape[:3]), kind), np.zeros(padded.shape[:3], kind)
    for place in product(*(starts[axis] for axis in order)):
        start = [place[order.index(axis)] for axis in range(3)]
        box = tuple(slice(a, a + n) for a, n in zip(start, patch, strict=True))
        tile = np.moveaxis(padded[box], -1, 0)[None].copy()
        views = [c for n in range(len(axes) + 1) for c in combinations(axes, n)]
        found = np.float32(0)
        for view in views:
            found = found + np.flip(run(np.flip(tile, view).copy()), view)
        found = found[0] / np.float32(len(views))
        for channel in range(3):
            added = total[channel][box].astype(np.float32) + found[channel] * weights
            total[channel][box] = added.astype(kind)
        norm[box] = (norm[box].astype(np.float32) + weights).astype(kind)
    means = (total.astype(np.float32) / norm.astype(np.float32)).astype(kind)
    inside = tuple(slice(a, a + n) for a, n in zip(low, array.shape, strict=False))
    return means[:, *inside].astype(np.float32)


@pytest.mark.parametrize(
    ("extent", "side", "share", "starts"),
    [
        pytest.param(110, 64, 0.5, [0, 23, 46], id="nnU-Net's own example"),
        # From compute_steps_for_sliding_window of nnunetv2 2.8.1.
        pytest.param(62, 40, 0.5, [0, 11, 22], id="no multiple"),
        pytest.param(100, 56, 0.5, [0, 22, 44], id="wider steps would do"),
        pytest.param(13, 8, 0.5, [0, 2, 5], id="half to even"),
        pytest.param(26, 7, 0.5, [0, 3, 6, 10, 13, 16, 19], id="odd side"),
        pytest.param(300, 128, 0.8, [0, 86, 172], id="less overlap"),
        pytest.param(40, 40, 0.5, [0], id="as large as a tile"),
        pytest.param(33, 40, 0.5, [-3], id="smaller, the larger part of the zeros behind it"),
    ],
)
def test_tiles_are_spread_over_the_extent(extent, side, share, starts):
    assert spread_evenly(extent, side, share) == starts


def test_weights_are_a_filtered_point_in_float16():
    ndimage = pytest.importorskip("scipy.ndimage")
    for size in [(40, 56, 40), (16, 9, 20), (5, 7, 1)]:
        point = np.zeros(size)
        point[tuple(n // 2 for n in size)] = 1
        filtered = ndimage.gaussian_filter(point, [n / 8 for n in size], mode="constant")
        expected = (10 * filtered / filtered.max()).astype(np.float32).astype(half)
        expected[expected == 0] = expected[expected > 0].min()
        found = tile_weights(size, Tiling.of_nnunet(size))
        np.testing.assert_array_equal(found, expected.astype(np.float32))


SHAPES = [(8, 12, 6), (20, 30, 17), (5, 40, 4), (3, 2, 1), (16, 13, 25)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("mirrorable", [(), ("j",), ("i", "j", "k")], ids=len)
def test_sums_equal_those_written_out_bit_for_bit(adopted, shape, share, mirrorable):
    array = image(shape)
    found = result(array, adopted(step_size=share, mirrorable=mirrorable))
    axes = [2 + "ijk".index(axis) for axis in "kji" if axis in mirrorable]
    np.testing.assert_array_equal(found, written_out(array, PATCH, share, axes))


@pytest.mark.parametrize("order", ["ijk", "jki", "kij"])
def test_the_order_of_axes_is_that_of_the_sums(adopted, order):
    array = image((20, 30, 17))
    found = result(array, adopted(order=tuple(order)), threads=2)
    axes = tuple("ijk".index(axis) for axis in order)
    np.testing.assert_array_equal(found, written_out(array, PATCH, 0.5, [], axes))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_along_another_axis_differ_by_rounding_only(adopted, axis):
    array, manifest = image((20, 30, 17)), adopted(mirrorable=("i", "k"))
    tiling = manifest.tiling.model_copy(update={"sums": "float32"})
    manifest = manifest.model_copy(update={"tiling": tiling})
    planner = Planner(manifest, bytes_per_voxel=1)
    plan = next(plan for plan in planner._blended((20, 30, 17)) if plan.order[0] == axis)
    expected = written_out(array, PATCH, 0.5, [4, 2], kind=np.float32)
    np.testing.assert_allclose(result(array, manifest, plan), expected, rtol=0, atol=2e-5)


def test_the_window_lies_along_another_axis_where_that_takes_less(adopted):
    """As nnU-Net has it where there is memory, along the longest axis where there is not."""
    shape, manifest = (60, 20, 10), adopted()
    tiling = manifest.tiling.model_copy(update={"sums": "float32"})
    planner = Planner(manifest.model_copy(update={"tiling": tiling}), bytes_per_voxel=1)
    assert planner.plan(shape, 1e6).order == (2, 1, 0)
    least = planner.smallest(shape)
    assert least.order[0] == 0
    assert planner.plan(shape, least.memory_mb) == least
    assert planner.plan(shape, 0.99 * least.memory_mb) is None


def in_bands(array, manifest, plan, run=network):
    """Return the result of each band, where it is right, beside each other."""
    rows_of, axis, found = plan.row_axes, plan.band_axis, None
    for part in plan.parts:
        rows = np.concatenate([np.array(r) for r in run_tiles(array, run, manifest, part)], axis=1)
        whole = np.moveaxis(rows, [1, 2, 3], [1 + a for a in rows_of])
        found = np.full_like(whole, np.nan) if found is None else found
        (band,) = part.bands
        right = [slice(None)] * 4
        right[1 + axis] = slice(band.start, min(band.stop + 1, plan.shape[axis]))
        both = found[tuple(right)]
        assert (np.isnan(both) | (both == whole[tuple(right)])).all()
        found[tuple(right)] = whole[tuple(right)]
        whole[tuple(right)] = 0
        assert not whole.any()
    return found


@pytest.mark.parametrize("order", ["kji", "ijk", "jki"])
@pytest.mark.parametrize("bands", [2, 3, 6])
def test_bands_give_the_same_sums_bit_for_bit(adopted, order, bands):
    array, manifest = image((20, 30, 17)), adopted(order=tuple(order))
    axes = tuple("ijk".index(axis) for axis in order)
    planner = Planner(manifest, bytes_per_voxel=1)
    plan = planner._with_overlap((20, 30, 17), PATCH, axes, bands=bands)
    assert len(plan.bands) == bands
    assert plan.computed == sum(len(p.tiles) for p in plan.parts) * np.prod(PATCH)
    assert plan.computed > planner.blended((20, 30, 17)).computed
    whole = result(array, manifest)
    np.testing.assert_array_equal(in_bands(array, manifest, plan), whole)


def test_no_band_is_empty(adopted):
    planner = Planner(adopted(), bytes_per_voxel=1)
    plan = planner._with_overlap((20, 3, 2), PATCH, (0, 1, 2), bands=6)
    assert [list(band) for band in plan.bands] == [[0], [1], [2]]
    assert planner._with_overlap((20, 1, 1), PATCH, (0, 1, 2), bands=6).parts[0].bands == ()


def test_sums_of_float16_are_added_up_in_bands_where_memory_is_short(adopted):
    """In their order of axes, which decides how they are rounded; so labels are the same."""
    shape = (60, 20, 10)
    planner = Planner(adopted(), bytes_per_voxel=1)
    plenty, least = planner.plan(shape, 1e6), planner.smallest(shape)
    assert (plenty.bands, len(least.bands), least.warning) == ((), 6, "")
    assert least.order == plenty.order
    assert "blended in 6 bands" in str(least)
    between = planner.plan(shape, 0.999 * plenty.memory_mb)
    assert [list(band) for band in between.bands] == [[*range(30)], [*range(30, 60)]]
    assert between.box.shape == shape
    assert [part.box.shape[0] for part in between.parts] == [31, 30]
    assert planner.plan(shape, 0.99 * least.memory_mb) is None


def member(number):
    """One of several networks."""
    return lambda patches: network(patches) * np.float32(1 + number / 3) + np.float32(number)


def of_members(count):
    """Several networks side by side."""
    return lambda patches: np.concatenate([member(n)(patches) for n in range(count)], axis=1)


@pytest.fixture
def with_members(adopted):
    """Return the manifest of so many networks side by side."""

    def make(count, **tiling):
        found = adopted(members_apart=count, **tiling)
        return found.model_copy(update={"members": found.members * count})

    return make


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("count", [2, 3])
def test_members_are_averaged_once_each_is_blended_and_rounded(with_members, shape, count):
    """As nnU-Net adds up its folds: a sum of two is rounded before the next, then their mean."""
    array, manifest = image(shape), with_members(count, mirrorable=("i", "k"))
    found = result(array, manifest, run=of_members(count), threads=2)
    total = np.zeros((), half)
    for n in range(count):
        alone = written_out(array, PATCH, 0.5, [4, 2], run=member(n))
        total = (total + alone.astype(half)).astype(half)
    expected = (total.astype(np.float32) / np.float32(count)).astype(half)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_members_are_averaged_tile_by_tile_where_memory_is_short(with_members):
    shape, manifest = (20, 30, 17), with_members(4)
    planner = Planner(manifest, bytes_per_voxel=1)
    plenty, least = planner.plan(shape, 1e6), planner.smallest(shape)
    assert (plenty.members_apart, plenty.warning) == (4, "")
    assert planner.blended(shape) == plenty
    short = planner.plan(shape, 0.5 * plenty.memory_mb)
    assert short.members_apart == least.members_apart == 1
    assert "averaged before they are blended, not after" in short.warning
    array = image(shape)
    found = result(array, manifest, short, run=of_members(4))

    def mean(patches):
        return of_members(4)(patches).reshape(1, 4, 3, *PATCH).mean(axis=1)

    np.testing.assert_array_equal(found, result(array, with_members(1), short, run=mean))


def test_tiles_of_zeros_are_computed(adopted):
    seen = []

    def counting(patches):
        seen.append(patches.any())
        return network(patches)

    array, manifest = np.zeros((20, 12, 6, 2), np.float32), adopted()
    plan = Planner(manifest, bytes_per_voxel=1).blended((20, 12, 6))
    found = [row.any() for row in run_tiles(array, counting, manifest, plan)]
    assert all(found)
    assert seen == [False] * len(plan.tiles)
    seen.clear()
    skipping = manifest.tiling.model_copy(update={"skip_empty": True})
    list(run_tiles(array, counting, manifest.model_copy(update={"tiling": skipping}), plan))
    assert not seen


def test_plans_count_the_tiles_that_are_run(adopted):
    for shape in SHAPES:
        plan = Planner(adopted(), bytes_per_voxel=1).blended(shape)
        assert plan.computed == len(plan.tiles) * np.prod(PATCH)


def test_numbers_are_rounded_as_float16_holds_them():
    rng = np.random.default_rng(0)
    sizes = [rng.normal(size=20_000) * 10.0**power for power in range(-9, 4)]
    ties = np.arange(-4000, 4000) / 2**25  # halfway between numbers below the least normal one
    more = [ties, 1 + np.arange(8000) / 2**11, [0.0, -0.0, 2.0**-14, 2.0**-24, 2.0**-25, 65504.0]]
    values = np.concatenate([*sizes, *more]).astype(np.float32)
    expected = values.astype(half).astype(np.float32)
    for array in (values, np.repeat(values[:, None], 2, axis=1)[:, 1]):
        codes = np.empty(array.shape, np.uint16)
        pack(array, codes)
        np.testing.assert_array_equal(codes, array.astype(half).view(np.uint16))
        np.testing.assert_array_equal(unpack(codes), expected)
        round_to_half(array)
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("value", [65520.0, 1e9, 3e38, np.inf, -np.inf, np.nan])
def test_numbers_that_float16_cannot_hold_are_not_finite(value):
    codes = np.zeros(1, np.uint16)
    pack(np.array([value], np.float32), codes)
    assert not np.isfinite(unpack(codes)).any()


def test_all_numbers_of_float16_come_back():
    every = np.arange(2**16, dtype=np.uint16).view(half)
    every = every[np.isfinite(every)].astype(np.float32)
    codes = np.zeros((len(every), 2), np.uint16)
    pack(every, codes[:, 1])
    np.testing.assert_array_equal(codes[:, 1].view(half), every)
    np.testing.assert_array_equal(np.signbit(unpack(codes[:, 1])), np.signbit(every))


def test_plans_say_what_is_blended_and_count_it(adopted):
    planner = Planner(adopted(), bytes_per_voxel=1)
    plan = planner.blended((20, 30, 17))
    assert plan.what.startswith("80 tiles of 8x12x6 voxels, at most 4x6x3 apart, blended")
    assert planner.blended((8, 9, 5)).what == "one tile of 8x12x6 voxels"


def test_sums_of_float16_take_half_of_the_window(adopted):
    manifest = adopted()
    wide = manifest.tiling.model_copy(update={"sums": "float32"})
    plans = [
        Planner(m, bytes_per_voxel=1).blended((20, 30, 17))
        for m in (manifest, manifest.model_copy(update={"tiling": wide}))
    ]
    window_mb = 6 * 20 * 30 * (3 + 1) * 2 / 2**20
    assert plans[1].memory_mb - plans[0].memory_mb == pytest.approx(window_mb)
    sums = [
        Window(plan, m.tiling, 3)._total.nbytes
        for plan, m in zip(
            plans, (manifest, manifest.model_copy(update={"tiling": wide})), strict=True
        )
    ]
    assert sums == [6 * 20 * 30 * 3 * n for n in (2, 4)]


def test_means_of_tiles_with_features_need_no_memory(with_members):
    shape = (20, 30, 17)
    planner = Planner(with_members(4), bytes_per_voxel=1)
    plans = [replace(planner, features=given).smallest(shape) for given in (False, True)]
    assert plans[0].memory_mb - plans[1].memory_mb == pytest.approx(np.prod(PATCH) * 3 * 4 / 2**20)
