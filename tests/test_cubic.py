"""Cubic convolution after Keys (1981): what it reproduces, and that only images are given to it."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vol3dseg.preprocessing.prepare import prepare, prepare_labels
from vol3dseg.recipe import Recipe
from vol3dseg.recipe.zscore import ZScore
from vol3dseg.space import resampling
from vol3dseg.space.axes import axis_maps
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.kernels import CUBIC, LINEAR
from vol3dseg.space.labels import Label, LabelSet, Segmentation
from vol3dseg.space.resampling import resample, resample_along
from vol3dseg.space.volume import Volume


def grid(shape, spacing_mm=(1.0, 1.0, 1.0), order=(0, 1, 2), signs=(1, 1, 1)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, list(order)] * signs) @ np.diag(spacing_mm)
    affine[:3, 3] = (-37.5, 12.25, 4.0)
    return Geometry(shape, affine)


def cubic(array, source, target, **options):
    box = options.pop("box", None)
    return resample_along(array, axis_maps(source, target, box, CUBIC), **options)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


turns = st.fixed_dictionaries(
    {
        "order": st.permutations(range(3)),
        "signs": st.tuples(*[st.sampled_from([-1, 1])] * 3),
    }
)
shapes = st.tuples(*[st.integers(1, 8)] * 3)
spacings = st.tuples(*[st.floats(0.4, 3)] * 3)
finer = st.tuples(*[st.floats(0.3, 0.9)] * 3)
seeds = st.integers(0, 2**32 - 1)


def places(source, target):
    """(3, i, j, k) array: where the voxels of the target lie, in voxels of the source."""
    back = np.linalg.inv(source.affine) @ target.affine
    index = np.indices(target.shape).reshape(3, -1)
    return (back[:3, :3] @ index + back[:3, 3:]).reshape(3, *target.shape)


@given(shapes, spacings, turns)
def test_a_constant_stays_constant(shape, spacing_mm, turn):
    source = grid(shape, (1.0, 1.3, 0.8), **turn)
    target = source.canonical().with_spacing(spacing_mm)
    found = cubic(np.full(shape, 3, np.float32), source, target, fill=3)
    np.testing.assert_allclose(found, 3, rtol=1e-6)


@given(finer, turns, st.tuples(*[st.floats(-1, 1)] * 10))
def test_parabolas_are_followed_on_finer_grids(spacing_mm, turn, factors):
    def parabola(x, y, z):
        terms = (1, x, y, z, x * y, y * z, z * x, x * x, y * y, z * z)
        return sum(f * t for f, t in zip(factors, terms, strict=True))

    source = grid((7, 8, 9), **turn)
    target = source.canonical().with_spacing(spacing_mm)
    x = places(source, target)
    last = np.array(source.shape).reshape(3, 1, 1, 1) - 1
    inner = ((x >= 1) & (x <= last - 1)).all(axis=0)  # two voxels on each side
    found = cubic(parabola(*np.indices(source.shape)).astype(np.float32), source, target)
    np.testing.assert_allclose(found[inner], parabola(*x)[inner], atol=2e-4)


def test_linear_interpolation_does_not_follow_parabolas():
    source = grid((9, 1, 1))
    parabola = (np.arange(9.0) ** 2).astype(np.float32).reshape(9, 1, 1)
    found = resample(parabola, source, source.with_spacing((0.5, 1, 1)))
    x = places(source, source.with_spacing((0.5, 1, 1)))[0]
    assert np.abs(found - x**2)[2:-2].min() > 0.1


@given(shapes, turns, st.tuples(*[st.sampled_from([1, 3, 5])] * 3), seeds)
def test_source_voxels_keep_their_values(shape, turn, factors, seed):
    """With odd ratios each lies in the centre of one finer voxel; with 1 the grids are equal."""
    source = grid(shape, **turn).canonical()
    values = noise(source.shape, seed)
    target = source.with_spacing(tuple(1 / f for f in factors))
    found = cubic(values, source, target)
    centres = tuple(slice(f // 2, None, f) for f in factors)
    np.testing.assert_array_equal(found[centres], values)


def catmull_rom(line, x):
    """The cubic that has its four neighbours' values and central differences, edges repeated."""
    padded = np.pad(line, 3, mode="edge")
    x = np.clip(x, 0, len(line) - 1)
    at = np.floor(x).astype(int)
    t = x - at
    a, b, c, d = (padded[at + n + 3] for n in (-1, 0, 1, 2))
    bend, twist = 2 * a - 5 * b + 4 * c - d, 3 * (b - c) + d - a
    return b + (t * (c - a) + t**2 * bend + t**3 * twist) / 2


@given(shapes, finer, turns, seeds)
def test_finer_grids_hold_catmull_rom_splines(shape, spacing_mm, turn, seed):
    """The dense oracle: SimpleITK has B-splines, but no cubic convolution."""
    source = grid(shape, **turn)
    canonical, target = source.canonical(), source.canonical().with_spacing(spacing_mm)
    values = noise(shape, seed)
    expected = resample(values, source, canonical).astype(np.float64)
    x = places(canonical, target)
    for axis in range(3):
        line = np.moveaxis(x[axis], axis, 0)[:, 0, 0]
        expected = np.apply_along_axis(catmull_rom, axis, expected, line)
    inside = resample(np.ones(shape, np.float32), source, target) == 1
    found = cubic(values, source, target)
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)


def stretched(size, scale, offset, count):
    """(count, size) weights of the kernel stretched by `scale`, edges repeated: sum for sum."""
    result = np.zeros((count, size))
    for target in range(count):
        centre = min(max(offset + scale * target, 0), size - 1)
        for voxel in range(-30, size + 30):
            x = abs(voxel - centre) / max(1, scale)
            weight = 0.0
            if x < 1:
                weight = 3 / 2 * x**3 - 5 / 2 * x**2 + 1
            elif x < 2:
                weight = -1 / 2 * x**3 + 5 / 2 * x**2 - 4 * x + 2
            result[target, min(max(voxel, 0), size - 1)] += weight
    return result / result.sum(axis=1, keepdims=True)


@example(2, 0.99912, False, 0)
@example(2, 1.001953125, False, 0)  # moved by less than is told from the rounding of headers
@given(st.integers(1, 12), st.floats(0.4, 4), st.booleans(), seeds)
def test_coarser_grids_hold_the_stretched_kernel(size, spacing, mirrored, seed):
    source = grid((size, 1, 1), signs=(-1 if mirrored else 1, 1, 1))
    target = source.canonical().with_spacing((spacing, 1, 1))
    values = noise((size, 1, 1), seed)
    spacing = target.spacing_mm[0]  # kept as it is where it would differ by less than a thousandth
    first = (spacing - 1) / 2
    first = round(first) if abs(first - round(first)) < 1e-3 else first
    weights = stretched(size, spacing, first, target.shape[0])
    line = values.ravel()[:: -1 if mirrored else 1]
    inside = resample(np.ones((size, 1, 1), np.float32), source, target).ravel() == 1
    found = cubic(values, source, target).ravel()
    np.testing.assert_allclose(found[inside], (weights @ line)[inside], atol=1e-4)


@given(st.floats(2, 6), st.floats(0, np.pi), st.floats(0, 1))
def test_coarser_grids_hold_no_waves_that_are_too_short_for_them(spacing, phase, share):
    """From 1.75 of the highest frequency that they can hold; half of it passes almost whole."""
    source = grid((240, 1, 1))
    target = source.with_spacing((spacing, 1, 1))
    highest = 1 / (2 * spacing)

    def height(frequency):
        wave = np.cos(2 * np.pi * frequency * np.arange(240.0) + phase).astype(np.float32)
        return np.sqrt(2 * np.mean(cubic(wave.reshape(240, 1, 1), source, target)[6:-6] ** 2))

    assert height(1.75 * highest + share * (0.5 - 1.75 * highest)) < 0.03
    assert height(highest / 2) > 0.85


@given(
    shapes,
    spacings,
    turns,
    st.permutations(range(3)),
    st.integers(1, 200),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(1, 4))] * 3),
)
def test_voxels_do_not_depend_on_what_is_computed_with_them(
    shape, spacing_mm, turn, order, portion, ends
):
    """Nor on how memory holds them: to the last bit, for any portions and any part."""
    source = grid(shape, (1.0, 1.3, 0.8), **turn)
    target = source.canonical().with_spacing(spacing_mm)
    box = Box(*zip(*((a, a + n) for a, n in ends), strict=True))
    values = noise(shape)
    whole = cubic(values, source, target, fill=7)
    held = np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "_PORTION", portion)
        parted = cubic(held, source, target, fill=7)
        part = cubic(held, source, target, fill=7, box=box)
    assert parted.tobytes() == whole.tobytes()
    overlap = box.intersection(Box.whole(target.shape))
    if all(overlap.shape):
        inside = part[overlap.relative_to(box).slices]
        np.testing.assert_array_equal(inside, whole[overlap.slices])


@given(st.integers(1, 12), st.floats(0.4, 4), st.data())
def test_what_a_voxel_touches_is_known(size, spacing, data):
    source = grid((size, 1, 1))
    target = source.with_spacing((spacing, 1, 1))
    voxel = data.draw(st.integers(0, size - 1))
    spike = np.zeros((size, 1, 1), np.float32)
    spike[voxel] = 1
    changed = np.flatnonzero(cubic(spike, source, target).ravel())
    first, stop = axis_maps(source, target, kernel=CUBIC)[0].influenced(voxel, voxel + 1)
    assert (first, stop) == (changed[0], changed[-1] + 1)


def test_simpleitk_has_splines_that_are_as_smooth():
    """B-splines of the same degree: near to each other, and nearer to the truth than linear."""
    sitk = pytest.importorskip("SimpleITK")

    def smooth(x, y, z):
        return np.sin(0.7 * x + 0.2) + np.cos(0.5 * y - 0.3 * z) * np.sin(0.6 * z)

    source = grid((24, 22, 20))
    target = source.with_spacing((0.6, 0.7, 0.8))
    image = smooth(*np.indices(source.shape)).astype(np.float32)
    x = places(source, target)
    inner = tuple(slice(8, -8) for _ in range(3))
    origin = x[:, 0, 0, 0].tolist()
    spline = sitk.Resample(
        sitk.GetImageFromArray(image.T.astype(np.float64)),
        list(target.shape), sitk.Transform(), sitk.sitkBSpline, origin, target.spacing_mm,
    )  # fmt: skip
    theirs = sitk.GetArrayFromImage(spline).T[inner]
    truth = smooth(*x)[inner]
    ours, straight = (
        np.abs(found[inner] - truth).max()
        for found in (cubic(image, source, target), resample(image, source, target))
    )
    assert ours < straight / 4
    assert np.abs(cubic(image, source, target)[inner] - theirs).max() < straight / 4


LABELS = LabelSet(
    classes=tuple(Label(name=n, read=(v,), write=v) for v, n in enumerate(("none", "a", "b", "c")))
)


def recipe(**changes):
    return Recipe(
        modalities=("t1",), normalisation={"t1": ZScore()}, patch_size=(8, 8, 8), **changes
    )


@given(shapes, spacings, seeds)
def test_labels_are_the_same_whatever_images_are_resampled_by(shape, spacing_mm, seed):
    source = grid(shape)
    image = noise((*shape, 1), seed) + 9
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    found = []
    for interpolation in ("linear", "cubic"):
        chosen = recipe(crop="none", spacing_mm=spacing_mm, interpolation=interpolation)
        prepared = prepare(Volume(image, source, ("t1",)), chosen)
        found.append(prepare_labels(Segmentation(labels, source, LABELS), prepared).array)
    np.testing.assert_array_equal(*found)


def test_the_recipe_decides():
    source, target_mm = grid((9, 8, 7)), (0.6, 1.7, 1.0)
    image = noise((9, 8, 7)) + 5
    scan = Volume(image[..., None], source, ("t1",))
    target = source.with_spacing(target_mm)
    normal = ZScore().fitted(image)(image)
    for name, kernel in (("linear", LINEAR), ("cubic", CUBIC)):
        prepared = prepare(scan, recipe(crop="none", spacing_mm=target_mm, interpolation=name))
        expected = resample_along(normal, axis_maps(source, target, kernel=kernel))
        np.testing.assert_array_equal(prepared.volume.array[..., 0], expected)
