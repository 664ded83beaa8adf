"""Laws of distances between surfaces, whatever the surface is taken to be."""

import tracemalloc
from itertools import product
from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.evaluation.surface_distances import surface_distances, surface_of
from vol3dseg.evaluation.surfel_areas import surfel_areas
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Label, LabelSet, Segmentation

KINDS = ("area", "voxels")
ANISOTROPIC = (0.7, 0.7, 5.0)
LABELS = LabelSet(classes=[Label(name=name, read=(n,), write=n) for n, name in enumerate("ab")])
SURFACES = ("hd_mm", "hd95_mm", "assd_mm", "surface_dice")
masks = hnp.arrays(np.bool_, (5, 4, 6))
spacings = st.tuples(*[st.sampled_from([0.7, 1.0, 1.1, 5.0])] * 3)
kinds = st.sampled_from(KINDS)


def scores(reference, prediction, spacing_mm=(1.0, 1.0, 1.0), kind="area", mm=1.0):
    """HD, HD95, ASSD and surface Dice; None where a mask is empty."""
    pair = surface_distances(reference, prediction, spacing_mm, kind)
    if pair is None:
        return None
    return [pair.hausdorff_mm(), pair.hausdorff_mm(95), pair.average_mm, pair.surface_dice(mm)]


def close(one, other):
    assert (one is None) == (other is None)
    if one is not None:
        np.testing.assert_allclose(one, other, rtol=2e-6)


def block(*slices, shape=(16, 14, 12)):
    mask = np.zeros(shape, dtype=np.bool_)
    mask[slices] = True
    return mask


@given(masks, masks, spacings, kinds)
def test_neither_is_first(one, other, spacing_mm, kind):
    close(scores(one, other, spacing_mm, kind), scores(other, one, spacing_mm, kind))


@given(masks, spacings, kinds)
def test_a_mask_is_nowhere_from_itself(mask, spacing_mm, kind):
    assert scores(mask, mask, spacing_mm, kind) in ([0, 0, 0, 1], None)


@given(masks, masks, spacings, kinds, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_turning_and_flipping_both_changes_nothing(one, other, spacing_mm, kind, order, axes):
    turned = [np.flip(mask, tuple(axes)).transpose(order) for mask in (one, other)]
    turned_mm = tuple(spacing_mm[axis] for axis in order)
    close(scores(*turned, turned_mm, kind), scores(one, other, spacing_mm, kind))


@given(masks, masks, spacings, kinds, st.sampled_from([0.1, 3.0, 10.0]))
def test_distances_grow_with_the_voxels(one, other, spacing_mm, kind, times):
    grown_mm = tuple(times * mm for mm in spacing_mm)
    found = scores(one, other, spacing_mm, kind)
    grown = scores(one, other, grown_mm, kind, mm=times)
    expected = None if found is None else [*(times * mm for mm in found[:3]), found[3]]
    close(grown, expected)


@given(masks, masks, spacings, kinds, st.tuples(*[st.integers(0, 3)] * 6))
def test_what_is_around_does_not_count(one, other, spacing_mm, kind, pads):
    around = [(pads[axis], pads[axis + 3]) for axis in range(3)]
    padded = (np.pad(mask, around) for mask in (one, other))
    close(scores(*padded, spacing_mm, kind), scores(one, other, spacing_mm, kind))


@given(masks, masks, spacings, kinds)
def test_scores_are_in_order(one, other, spacing_mm, kind):
    found = scores(one, other, spacing_mm, kind)
    if found is not None:
        hd, hd95, assd, nsd = found
        assert 0 <= assd <= hd * (1 + 1e-6)
        assert 0 <= hd95 <= hd
        assert 0 <= nsd <= 1
        assert scores(one, other, spacing_mm, kind, mm=hd)[3] == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("voxels", [1, 4])
def test_a_block_that_is_moved_is_so_far_off(kind, axis, voxels):
    mask = block(slice(3, 9), slice(3, 9), slice(2, 7))
    moved = np.roll(mask, voxels, axis)
    hd, hd95, _, _ = scores(mask, moved, ANISOTROPIC, kind)
    expected = voxels * ANISOTROPIC[axis]
    assert hd == pytest.approx(expected, rel=1e-6)
    assert hd95 <= hd
    assert scores(mask, moved, ANISOTROPIC, kind, mm=expected)[3] == 1
    assert scores(mask, moved, ANISOTROPIC, kind, mm=expected * 0.999)[3] < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mm", [0.1, 0.7, 1.1, 1.3, 2.3])  # float32 has some larger, some smaller
def test_what_is_just_so_far_off_is_within_the_tolerance(kind, mm):
    sheets = block(4, slice(None), slice(None)), block(5, slice(None), slice(None))
    assert scores(*sheets, (mm, 1.0, 1.0), kind, mm=mm)[3] == 1


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), ANISOTROPIC, (1.1, 1.3, 2.1)])
@pytest.mark.parametrize("axis", range(3))
def test_a_plane_has_its_area(spacing_mm, axis):
    corners = [corner for corner in product((0, 1), repeat=3) if corner[axis]]
    code = sum(1 << 4 * i + 2 * j + k for i, j, k in corners)
    assert surfel_areas(spacing_mm)[code] == pytest.approx(np.prod(np.delete(spacing_mm, axis)))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), ANISOTROPIC])
def test_a_long_block_has_the_area_of_its_faces(spacing_mm):
    """Its edges are cut, by a share that falls as it grows: 1 / n."""
    i, j, k = spacing_mm
    for side in (8, 32):
        surface = surface_of(np.ones((side,) * 3, dtype=np.bool_), spacing_mm, "area")
        faces = 2 * side**2 * (i * j + j * k + k * i)
        assert faces * (1 - 1.5 / side) < surface.areas.sum() < faces


@pytest.mark.parametrize(
    ("spacing_mm", "error"), [((1.0, 1.0, 1.0), 0.1), ((0.7, 0.7, 1.0), 0.1), (ANISOTROPIC, 0.25)]
)
def test_a_ball_has_nearly_its_area(spacing_mm, error):
    """Faces of voxels would have half as much again, however small they are."""
    side = np.array(spacing_mm).reshape(3, 1, 1, 1)
    mm = (np.indices((60, 60, 48)) - np.array([30, 30, 24]).reshape(3, 1, 1, 1)) * side
    surface = surface_of((mm**2).sum(axis=0) <= 20**2, spacing_mm, "area")
    assert surface.areas.sum() == pytest.approx(4 * pi * 20**2, rel=error)


def test_codes_and_what_they_leave_have_one_area():
    areas = surfel_areas(ANISOTROPIC)
    assert areas[0] == areas[255] == 0
    np.testing.assert_allclose(areas, areas[::-1])
    assert (areas[1:255] > 0).all()
    corner = sqrt(sum(a**2 for a in (0.7 * 0.7, 0.7 * 5, 0.7 * 5))) / 8
    np.testing.assert_allclose([areas[1 << bit] for bit in range(8)], corner)


def test_percentiles_weigh_points_by_their_area():
    """One slice more on top: over a third of the voxels, but a sixth of the area, is 5 mm off."""
    flat = block(slice(2, 22), slice(2, 22), slice(2, 5), shape=(24, 24, 8))
    thicker = block(slice(2, 22), slice(2, 22), slice(2, 6), shape=(24, 24, 8))
    pairs = {kind: surface_distances(flat, thicker, ANISOTROPIC, kind) for kind in KINDS}
    assert [pair.hausdorff_mm() for pair in pairs.values()] == [5, 5]
    assert pairs["area"].hausdorff_mm(75) == 0
    assert pairs["voxels"].hausdorff_mm(75) == 5


def test_both_directions_count():
    ball, speck = block(slice(2, 8), slice(2, 8), slice(2, 8)), block(2, 2, 2)
    for kind in KINDS:
        pair = surface_distances(ball, speck, (1, 1, 1), kind)
        assert pair.there.mm.max() > pair.back.mm.max()
        assert pair.hausdorff_mm() == pair.there.mm.max()
        pair = surface_distances(speck, ball, (1, 1, 1), kind)
        assert pair.hausdorff_mm() == pair.back.mm.max()


def judged(reference, prediction, affine, **rules):
    grid = Geometry(reference.shape, affine)
    maps = (Segmentation(m.astype(np.uint8), grid, LABELS) for m in (reference, prediction))
    found = evaluate_case("a", *maps, Judging(surface="area", **rules)).structures["b"]
    return [found[name] for name in SURFACES]


@pytest.fixture
def pair():
    rng = np.random.default_rng(1)
    return [rng.random((9, 8, 7)) < share for share in (0.3, 0.4)]


@pytest.mark.parametrize("degrees", [0, 17, 90])
@pytest.mark.parametrize("flip", [(), (0,), (0, 2)])
def test_how_the_grid_lies_in_the_world_changes_nothing(pair, degrees, flip):
    expected = judged(*pair, np.diag([*ANISOTROPIC, 1]))
    angle = np.radians(degrees)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    signs = [-1 if axis in flip else 1 for axis in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(ANISOTROPIC) @ np.diag(signs)
    affine[:3, 3] = 12, -40, 7
    np.testing.assert_allclose(judged(*pair, affine), expected, rtol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_how_arrays_lie_in_memory_changes_nothing(pair, order):
    affine = np.diag([*ANISOTROPIC, 1])
    laid = [np.asarray(mask, order=order) for mask in pair]
    np.testing.assert_allclose(judged(*laid, affine), judged(*pair, affine), rtol=1e-6)


def test_ignored_voxels_are_of_neither():
    reference = block(slice(3, 9), slice(3, 9), slice(2, 7)).astype(np.uint8)
    prediction = reference.copy()
    prediction[3:9, 3:9, 7:11] = 1  # too much, all of which is ignored
    affine = np.diag([*ANISOTROPIC, 1])
    hd = judged(reference, prediction, affine)[0]
    assert hd == pytest.approx(20)
    reference[3:9, 3:9, 7:11] = IGNORED
    assert judged(reference, prediction, affine) == [0, 0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_some_bytes_for_each_voxel_of_the_box_alone(kind):
    """Beyond it nothing; in it the mask with a margin, a field of float32, and the surface."""
    shape = (128, 128, 128)
    reference, prediction = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    reference[20:84, 20:84, 20:84] = prediction[22:86, 20:84, 20:84] = True
    surface_distances(reference, prediction, (1, 1, 1), kind)
    tracemalloc.start()
    surface_distances(reference, prediction, (1, 1, 1), kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 67 * 65 * 65
