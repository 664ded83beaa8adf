"""Plans: what they cover, what they cost, and that exact ones equal one pass."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.config import load_config
from vol3dseg.inference.runtimes.footprint import footprint
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.inference.tiling import planner as module
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import run_tiles
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe import Recipe
from vol3dseg.space.box import Box

shapes = st.tuples(*[st.integers(1, 70)] * 3)
MB = 2**20


@pytest.fixture(scope="session")
def planner_of(manifest_of):
    """Return a planner for a network of one byte a voxel."""

    def make(divisor, receptive_field, local=True, patch=(16, 16, 16), overlap=0.5):
        recipe = Recipe(modalities=("m",), normalisation={"method": "zscore"}, patch_size=patch)
        manifest = manifest_of(recipe, load_config("crops32").labels)
        facts = {
            "divisor": (divisor,) * 3 if isinstance(divisor, int) else divisor,
            "receptive_field": (
                (receptive_field,) * 3 if isinstance(receptive_field, int) else receptive_field
            ),
            "local": local,
        }
        network = manifest.network.model_copy(update=facts)
        changes = {"network": network, "tiling": Tiling.of(patch, overlap)}
        return Planner(manifest.model_copy(update=changes), bytes_per_voxel=float(MB))

    return make


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    divisor=st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3),
    reach=st.tuples(*[st.integers(0, 16)] * 3),
    share=st.floats(0.05, 1.2),
)
def test_tiles_keep_each_voxel_once_and_read_all_around_it(
    planner_of, shape, divisor, reach, share
):
    padded = [d * -(-n // d) for n, d in zip(shape, divisor, strict=True)]
    limit = math.prod(padded) * share
    planner = planner_of(divisor, reach)
    plan = planner.plan(shape, limit)
    if plan is None:
        assert planner.smallest(shape).memory_mb > limit
        return
    assert plan.memory_mb <= limit
    assert plan.exact
    assert not plan.cost
    kept = np.zeros(shape, dtype=int)
    for tile in plan.tiles:
        kept[tile.keep.slices] += 1
        for axis in range(3):
            start, stop = tile.read.start[axis], tile.read.stop[axis]
            assert start % divisor[axis] == stop % divisor[axis] == 0
            assert start <= max(0, tile.keep.start[axis] - reach[axis])
            assert stop >= min(padded[axis], tile.keep.stop[axis] + reach[axis])
    assert (kept == 1).all()
    assert plan.computed == sum(math.prod(tile.read.shape) for tile in plan.tiles)
    assert {tile.read.shape for tile in plan.tiles} == {plan.size}, "one size, one code"


def test_the_cheapest_cut_is_taken(planner_of):
    """By brute force over all sizes, without the memory of unfinished rows."""
    plan = planner_of(4, 4).plan((64, 40, 24), 30_000)
    cheapest = math.inf
    for size in itertools.product(*(range(12, n + 1, 4) for n in (64, 40, 24))):
        count = [
            1 if n == s else -(-(n - 8) // (s - 8)) for n, s in zip((64, 40, 24), size, strict=True)
        ]
        if math.prod(size) <= 29_990:
            cheapest = min(cheapest, math.prod(count) * math.prod(size))
    assert plan.computed == cheapest


def test_everything_fits_where_there_is_memory_enough(planner_of):
    plan = planner_of(8, 100).plan((50, 60, 70), 1e9)
    assert [tile.read for tile in plan.tiles] == [Box((0, 0, 0), (56, 64, 72))]
    assert plan.exact
    assert str(plan).startswith("one pass over 56x64x72 voxels; 1.23 times")


WIDE = (400, 400, 400)
SAID = {
    "close": "the halo of 32 voxels is narrower than the 100 that outputs depend on",
    "any": "tiles of 40x40x40 voxels are blended, smaller than the training patch of 96x96x96, and "
    "none sees the 100 voxels around it",
}


@pytest.mark.parametrize(("tiles", "memory_mb"), [("close", 200**3), ("any", 40**3 + 150)])
def test_a_plan_that_costs_agreement_is_taken_if_asked_for_and_said(planner_of, tiles, memory_mb):
    planner = replace(planner_of(8, 100, patch=(96, 96, 96)), tiles=tiles)
    plan = planner.plan(WIDE, memory_mb)
    assert not plan.exact
    assert plan.memory_mb <= memory_mb
    assert SAID[tiles] in plan.warning
    for stricter in ("exact", "close")[: 1 + (tiles == "any")]:
        assert replace(planner, tiles=stricter).plan(WIDE, memory_mb) is None


def test_no_halo_computes_the_volume_many_times_over(planner_of):
    """A limit that would do is named; a night of computing is not begun instead."""
    planner = planner_of(8, 50)
    plan = planner.smallest(WIDE)
    assert plan.exact
    assert 3 < plan.computed / math.prod(WIDE) <= 4
    assert planner.plan(WIDE, plan.memory_mb) == plan
    assert planner.plan(WIDE, plan.memory_mb - 1) is None


def test_a_network_that_sees_the_whole_tile_gets_its_training_patch(planner_of):
    plan = planner_of(8, 100, local=False).plan((50, 60, 70), 1e9)
    assert plan.blended
    assert plan.size == (16, 16, 16)
    assert plan.step == (8, 8, 8)


REACH = 6  # 1 + 2 * 1 + 1 and one more of each pooled voxel, up to the next even number


@pytest.mark.parametrize("flat", [False, True], ids=["alike", "no stride along k"])
@pytest.mark.parametrize("empty", [False, True], ids=["full", "empty places"])
def test_exact_tiles_equal_one_pass(planner_of, small_unet, empty, flat, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 99)  # small tiles, so that there are many
    rng = np.random.default_rng(3)
    divisor, reach = ((2, 2, 1), (REACH, REACH, 3)) if flat else ((2, 2, 2), (REACH,) * 3)
    backend = OnnxBackend(small_unet(rng, strides=divisor).SerializeToString())
    image = rng.normal(0, 1, (61, 58, 65, 1)).astype(np.float32)
    if empty:
        image[3:60, 5:57, 2:64] = 0

    planner, runs = planner_of(divisor, reach), []

    def counted(patches):
        runs.append(patches.any())
        return backend(patches)

    def result(memory_mb):
        plan = planner.plan(image.shape[:3], memory_mb)
        rows = [np.array(row) for row in run_tiles(image, counted, planner.manifest, plan)]
        return plan, np.concatenate(rows, axis=1)

    one, expected = result(1e9)
    many, found = result(20**3 if flat else 26**3)
    assert len(one.tiles) == 1
    assert many.exact
    assert len(many.tiles) >= 8
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    if empty:
        assert len(runs) < 1 + len(many.tiles), "empty tiles are not computed"


@pytest.mark.parametrize("local", [True, False])
def test_a_scan_of_nothing_is_background(planner_of, local):
    def never(patches):
        raise AssertionError("there is nothing to compute")

    planner = planner_of(2, REACH, local)
    plan = planner.plan((30, 20, 10), 1e9)
    nothing = np.zeros((30, 20, 10, 1), np.float32)
    for rows in run_tiles(nothing, never, planner.manifest, plan):
        assert rows[0].min() == 1
        assert rows[1:].max() == 0


def test_a_halo_one_voxel_short_is_not_exact(planner_of, small_unet, monkeypatch):
    """Otherwise the test above could not fail."""
    monkeypatch.setattr(module, "_MOST", 99)
    rng = np.random.default_rng(3)
    backend = OnnxBackend(small_unet(rng).SerializeToString())
    image = rng.normal(0, 1, (41, 38, 45, 1)).astype(np.float32)
    results = []
    for memory_mb in (1e9, 26**3):
        planner = planner_of(2, 2)
        plan = planner.plan(image.shape[:3], memory_mb)
        rows = [np.array(r) for r in run_tiles(image, backend, planner.manifest, plan)]
        results.append(np.concatenate(rows, 1))
    assert np.abs(results[0] - results[1]).max() > 1e-3


def test_the_footprint_of_a_small_network_counted_by_hand(small_unet):
    """At the last convolution: skip 3, upsampled 3 and both joined 6, as they are joined."""
    found = footprint(small_unet(np.random.default_rng(0)), (2, 2, 2))
    assert found.float_bytes == found.rounded_bytes == 4 * 12
    level1 = (3 * 3 * 27 + 3 * 3 * 8) / 8
    assert found.multiplications == 1 * 3 * 27 + level1 + 6 * 4 * 27


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    patch=st.tuples(*[st.sampled_from([8, 16, 24])] * 3),
    overlap=st.sampled_from([0, 0.25, 0.5]),
)
def test_blended_tiles_are_counted_rightly(planner_of, shape, patch, overlap):
    plan = planner_of(8, 100, local=False, patch=patch, overlap=overlap).blended(shape)
    assert plan.computed == sum(math.prod(tile.read.shape) for tile in plan.tiles)
