import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.errors import GridError
from vol3dseg.space import resampling
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.label_resampling import nearest_labels, resample_labels
from vol3dseg.space.resampling import resample


def grid(shape, spacing_mm=(1.0, 1.0, 1.0), order=(0, 1, 2), signs=(1, 1, 1), angles=(0, 0, 0)):
    affine = np.eye(4)
    turn = nib.eulerangles.euler2mat(*angles)
    affine[:3, :3] = turn @ (np.eye(3)[:, list(order)] * signs) @ np.diag(spacing_mm)
    affine[:3, 3] = (-37.5, 12.25, 4.0)
    return Geometry(shape, affine)


turns = st.fixed_dictionaries(
    {
        "order": st.permutations(range(3)),
        "signs": st.tuples(*[st.sampled_from([-1, 1])] * 3),
        "angles": st.tuples(*[st.floats(-0.2, 0.2)] * 3),
    }
)
shapes = st.tuples(*[st.integers(1, 8)] * 3)
spacings = st.tuples(*[st.floats(0.5, 2)] * 3)
seeds = st.integers(0, 2**32 - 1)


@given(shapes, turns, seeds)
def test_reorienting_is_exact_both_ways(shape, turn, seed):
    source = grid(shape, **turn)
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    there = resample(values, source, source.canonical())
    np.testing.assert_array_equal(resample(there, source.canonical(), source), values)
    flipped = nib.Nifti1Image(values, source.affine)
    np.testing.assert_array_equal(there, nib.as_closest_canonical(flipped).get_fdata())


@given(shapes, st.tuples(*[st.integers(-4, 4)] * 3), shapes, turns, seeds)
def test_cropping_and_padding_are_exact(shape, start, size, turn, seed):
    source = grid(shape, **turn)
    values = np.random.default_rng(seed).integers(1, 200, shape).astype(np.uint8)
    box = Box.at(start, size)
    inside = box.intersection(Box.whole(shape))
    expected = np.full(size, 9, dtype=np.uint8)
    if all(inside.shape):
        expected[inside.relative_to(box).slices] = values[inside.slices]
    result = resample(values, source, source.cropped(box), fill=9)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


@given(shapes, spacings, turns)
def test_a_constant_stays_constant(shape, spacing_mm, turn):
    source = grid(shape, (1.0, 1.3, 0.8), **turn)
    target = source.canonical().with_spacing(spacing_mm)
    result = resample(np.full(shape, 3, np.float32), source, target, fill=3)
    np.testing.assert_allclose(result, 3, rtol=1e-6)


@given(st.tuples(*[st.floats(0.4, 0.9)] * 3), turns)
def test_a_finer_grid_follows_a_ramp(spacing_mm, turn):
    source = grid((7, 8, 9), **turn)
    i, j, k = np.indices(source.shape)
    ramp = (2 * i - 3 * j + 0.5 * k).astype(np.float32)
    target = source.canonical().with_spacing(spacing_mm)
    back = np.linalg.inv(source.affine) @ target.affine
    index = np.indices(target.shape).reshape(3, -1)
    x = back[:3, :3] @ index + back[:3, 3:]
    inner = ((x >= 0) & (x <= np.array([[6], [7], [8]]))).all(axis=0)
    expected = np.array([2, -3, 0.5]) @ x
    result = resample(ramp, source, target).ravel()
    np.testing.assert_allclose(result[inner], expected[inner], atol=1e-4)


# Nearer to the source's 2 mm, grids are less than a thousandth of a voxel apart, which is ignored.
@given(seeds, st.tuples(*[st.floats(0.5, 1.99)] * 3), turns, st.tuples(*[st.integers(-20, 20)] * 3))
def test_simpleitk_interpolates_alike_on_finer_grids(seed, spacing_mm, turn, percent):
    turn = {**turn, "angles": [n / 100 for n in percent]}  # ITK's SVD fails at tiny angles
    sitk = pytest.importorskip("SimpleITK")
    source = grid((6, 7, 8), (2.0, 2.0, 2.0), **turn)
    target = source.with_spacing(spacing_mm)
    values = np.random.default_rng(seed).normal(size=source.shape).astype(np.float32)
    oracle = sitk.Resample(
        as_sitk(sitk, values, source), as_sitk(sitk, np.zeros(target.shape, np.float32), target)
    )
    found = resample(values, source, target)
    inside = nearest_labels(np.ones(source.shape, np.uint8), source, target) == 1
    expected = sitk.GetArrayFromImage(oracle).T
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-4)


def as_sitk(sitk, values, geometry):
    image = sitk.GetImageFromArray(values.T)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    image.SetDirection((geometry.affine[:3, :3] / geometry.spacing_mm).ravel().tolist())
    return image


def test_coarser_grids_take_the_mean_of_what_they_cover():
    source = grid((8, 1, 1))
    spike = np.zeros((8, 1, 1), np.float32)
    spike[3] = 1
    result = resample(spike, source, source.with_spacing((2, 1, 1))).ravel()
    # Triangles of half-width 2 round 0.5, 2.5, 4.5, 6.5; the one at 2.5 has a weight of 0.75 at 3
    # of 0.25 + 0.75 + 0.75 + 0.25 = 2 in all, that at 4.5 one of 0.25.
    np.testing.assert_allclose(result, [0, 0.75 / 2, 0.25 / 2, 0], atol=1e-6)


def test_no_voxel_of_a_coarse_grid_is_skipped():
    source = grid((64, 1, 1))
    values = np.random.default_rng(0).normal(size=(64, 1, 1)).astype(np.float32)
    coarse = resample(values, source, source.with_spacing((8, 1, 1)))
    assert abs(float(coarse.std())) < float(values.std()) / 2


def test_outside_is_fill_and_the_rim_repeats_the_edge():
    source = grid((2, 1, 1))
    target = source.cropped(Box((-1, 0, 0), (3, 1, 1))).with_spacing((0.5, 1, 1))
    ramp = np.array([1, 2], np.float32).reshape(2, 1, 1)
    result = resample(ramp, source, target, fill=-1).ravel()
    np.testing.assert_allclose(result, [-1, -1, 1, 1.25, 1.75, 2, -1, -1])


def test_channels_go_along():
    source = grid((3, 4, 5), order=(1, 0, 2))
    values = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    target = source.canonical().with_spacing((0.7, 1.0, 1.5))
    result = resample(values, source, target)
    for channel in range(2):
        single = resample(values[..., channel], source, target)
        np.testing.assert_array_equal(result[..., channel], single)


orders = st.permutations(range(3))
boxes = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(1, 4))] * 3)


@given(shapes, spacings, turns, orders, st.integers(1, 200), boxes)
def test_voxels_do_not_depend_on_what_is_computed_with_them(
    shape, spacing_mm, turn, order, portion, ends
):
    """Nor on how memory holds them: to the last bit, for any portions and any part."""
    source = grid(shape, (1.0, 1.3, 0.8), **turn)
    target = source.canonical().with_spacing(spacing_mm)
    box = Box(*zip(*((a, a + n) for a, n in ends), strict=True))
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    whole = resample(values, source, target, fill=7)
    held = np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_PORTION", portion)
        parted = resample(held, source, target, fill=7)
        part = resample(held, source, target, fill=7, box=box)
        doubled = resample(held, source, target, fill=7, each=lambda voxels: 2 * voxels)
    assert parted.tobytes() == whole.tobytes()
    overlap = box.intersection(Box.whole(target.shape))
    if all(overlap.shape):
        inside = part[overlap.relative_to(box).slices]
        np.testing.assert_array_equal(inside, whole[overlap.slices])
    twice = resample(2 * values, source, target, fill=7)
    np.testing.assert_array_equal(doubled, twice)


def test_the_result_goes_where_it_is_wanted():
    source = grid((4, 5, 6))
    values = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    for target in (source.with_spacing((0.7, 1.0, 2.0)), source.canonical()):
        out = np.full(target.shape, 9, np.float32)
        assert resample(values, source, target, out=out) is out
        np.testing.assert_array_equal(out, resample(values, source, target))


def test_the_input_is_left_alone():
    source = grid((3, 3, 3))
    values = np.ones((3, 3, 3), np.float32)
    result = resample(values, source, source.cropped(Box((-1, 0, 0), (3, 3, 3))), fill=5)
    result[:] = 0
    same = resample(values, source, source)
    assert values.min() == 1
    np.testing.assert_array_equal(same, values)


@given(shapes, st.floats(0.05, 1), st.tuples(*[st.floats(0.3, 1)] * 3), turns, seeds)
def test_labels_come_home_from_any_finer_grid(shape, density, factors, turn, seed):
    source = grid(shape, (1.0, 1.7, 0.9), **turn)
    canonical = source.canonical()
    target = canonical.with_spacing(tuple(np.multiply(canonical.spacing_mm, factors)))
    rng = np.random.default_rng(seed)
    labels = (rng.integers(1, 4, shape) * (rng.random(shape) < density)).astype(np.uint8)
    there = resample_labels(labels, source, target)
    np.testing.assert_array_equal(nearest_labels(there, target, source), labels)


def test_an_isolated_voxel_survives_between_finer_ones():
    source = grid((3, 3, 3))
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 2
    finer = resample_labels(labels, source, source.with_spacing((0.5, 0.5, 0.5)))
    assert (finer == 2).any()


def test_labels_become_no_labels_in_between():
    source = grid((4, 1, 1))
    labels = np.array([1, 1, 3, 3], np.uint8).reshape(4, 1, 1)
    finer = resample_labels(labels, source, source.with_spacing((0.3, 1, 1)))
    assert set(np.unique(finer)) <= {0, 1, 3}


def test_labels_outside_are_background():
    source = grid((2, 1, 1))
    labels = np.ones((2, 1, 1), np.uint8)
    target = source.cropped(Box((-1, 0, 0), (3, 1, 1)))
    assert resample_labels(labels, source, target).ravel().tolist() == [0, 1, 1, 0]
    assert nearest_labels(labels, source, target).ravel().tolist() == [0, 1, 1, 0]
    finer = target.with_spacing((0.5, 1, 1))
    assert resample_labels(labels, source, finer).ravel().tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_axes_must_be_parallel():
    source, turned = grid((9, 9, 9)), grid((9, 9, 9), angles=(0.1, 0, 0))
    with pytest.raises(GridError, match="not parallel"):
        resample(np.zeros((9, 9, 9), np.float32), source, turned)
