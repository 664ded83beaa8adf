"""A scan prepared as nnU-Net does it, against the same steps written plainly for whole arrays."""

import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.datasets.reading import read_case
from vol3dseg.errors import DatasetError, GridError, IntensityError
from vol3dseg.preprocessing.nnunet_steps import (
    nnunet_preparing_bytes,
    oriented,
    prepare_as_nnunet,
)
from vol3dseg.preprocessing.prepare import maps_home, prepare
from vol3dseg.preprocessing.preparing_memory import largest_working_shape, preparing_takes_mb
from vol3dseg.recipe import NnunetRecipe
from vol3dseg.recipe.nnunet_resampling import SplineResampling, axis_alone
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

KEPT = {"method": "none"}
LINEAR = {"method": "spline", "order": 1, "separate_z": False}


def recipe_of(steps, spacing_mm=(1.0, 1.0, 1.0), **changes):
    return NnunetRecipe.model_validate(
        {
            "kind": "nnunet", "modalities": list(steps), "orientation": "stored",
            "spacing_mm": spacing_mm, "normalisation": steps, "images": KEPT, "outputs": KEPT,
            "patch_size": (8, 8, 8), **changes,
        }
    )  # fmt: skip


def scan_of(*images, affine=None, stated_mm=None):
    array = np.stack(images, axis=-1).astype("f4")
    geometry = Geometry(array.shape[:3], np.eye(4) if affine is None else affine, stated_mm)
    return Volume(array, geometry, tuple("ab"[: len(images)]))


def head(seed=0, shape=(9, 10, 11)):
    """Return an image with zeros round it, and one within."""
    image = np.random.default_rng(seed).integers(1, 200, shape).astype("f4")
    image[:2], image[:, -1], image[..., 0] = 0, 0, 0
    image[5, 5, 5] = 0
    return image


def of_box(values, inside):
    return (values - values.mean(dtype="f8")) / values.std(dtype="f8")


def in_mask(values, inside):
    scaled = (values - values[inside].mean(dtype="f8")) / values[inside].std(dtype="f8")
    return np.where(inside, scaled, 0)


NORMALISED = {
    "zscore of the box": ({"method": "zscore", "inside": "box"}, of_box),
    "zscore in the mask": ({"method": "zscore", "inside": "mask"}, in_mask),
    "ct": (
        {"method": "ct", "low": 20.0, "high": 90.0, "mean": 50.0, "deviation": 7.0},
        lambda values, inside: (np.clip(values, 20, 90) - 50) / 7,
    ),
    "none": ({"method": "none"}, lambda values, inside: values),
    "rescale": (
        {"method": "rescale"},
        lambda values, inside: (values - values.min()) / (values.max() - values.min()),
    ),
    "rgb": ({"method": "rgb"}, lambda values, inside: values / 255),
}


@pytest.mark.parametrize("name", NORMALISED)
@pytest.mark.parametrize("fastest", [0, 2])
def test_each_normalisation_in_the_box_of_both_images(name, fastest):
    step, expected = NORMALISED[name]
    first, second = head(), head(seed=1)
    second[:3] = 0
    inside = (first != 0) | (second != 0)
    inside[5, 5, 5] = True  # a hole
    box = Box((2, 0, 1), (9, 9, 11)).slices
    scan = scan_of(first, second)
    if fastest == 0:  # as in files
        scan = Volume(np.asfortranarray(scan.array), scan.geometry, scan.modalities)
    found = prepare(scan, recipe_of({"a": step, "b": step}))
    for channel, image in enumerate((first, second)):
        theirs = expected(image[box].astype("f8"), inside[box])
        np.testing.assert_allclose(found.volume.array[..., channel], theirs, atol=2e-5)
    np.testing.assert_array_equal(found.volume.geometry.affine[:3, 3], (2, 0, 1))
    assert found.box == Box.whole((7, 9, 10))
    assert found.source == scan.geometry


def test_an_image_alone_has_its_own_box_and_what_is_constant_becomes_zero():
    first, second = head(), head(seed=1)
    second[:4] = 0
    found = prepare(scan_of(first, second), recipe_of({"b": KEPT}))
    assert found.volume.array.shape == (5, 9, 10, 1)
    flat = np.full((4, 4, 4), 7.0)
    for step in ({"method": "zscore", "inside": "box"}, {"method": "rescale"}):
        np.testing.assert_array_equal(
            prepare(scan_of(flat), recipe_of({"a": step})).volume.array, 0
        )


@pytest.mark.parametrize("inside", ["box", "mask"])
def test_zeros_alone_stay_whole(inside):
    step = {"method": "zscore", "inside": inside}
    found = prepare(scan_of(np.zeros((3, 4, 5))), recipe_of({"a": step}))
    np.testing.assert_array_equal(found.volume.array, np.zeros((3, 4, 5, 1)))


def test_what_is_refused():
    with pytest.raises(DatasetError, match=r"\['b'\] is missing"):
        prepare(scan_of(head()), recipe_of({"b": KEPT}))
    with pytest.raises(IntensityError, match="a: voxels are 0 to 300; expected 0 to 255"):
        prepare(scan_of(300 * (head() > 190)), recipe_of({"a": {"method": "rgb"}}))
    with pytest.raises(GridError, match=r"would be 0x4x4 voxels"):
        prepare(
            scan_of(np.ones((4, 4, 4))),
            recipe_of({"a": KEPT}, (9.0, 1.0, 1.0), images=LINEAR, outputs=LINEAR),
        )


@pytest.mark.parametrize(
    ("size", "now_mm", "then_mm", "expected"),
    [
        pytest.param(5, 1.0, 2.0, 2, id="2.5 to even"),
        pytest.param(7, 1.0, 2.0, 4, id="3.5 to even"),
        pytest.param(5, 1.0000001, 2.0, 3, id="just above a half"),
        pytest.param(3, 1.0, 0.7, 4, id="4.3"),
    ],
)
def test_the_new_shape_is_rounded_and_its_outer_edges_stay(size, now_mm, then_mm, expected):
    affine = np.diag([1.0000003, 1, 1, 1])  # rounded; the header's own spacing counts
    scan = scan_of(np.ones((size, 4, 4)), affine=affine, stated_mm=(now_mm, 1.0, 1.0))
    asked = []
    recipe = recipe_of({"a": KEPT}, (then_mm, 1.0, 1.0), images=LINEAR, outputs=LINEAR)
    found = prepare(scan, recipe, asked.append)
    assert asked == [(expected, 4, 4)] == [found.volume.geometry.shape]
    edges = [
        grid.affine @ np.array([end, 0, 0, 1])
        for grid in (scan.geometry, found.volume.geometry)
        for end in (-0.5, grid.shape[0] - 0.5)
    ]
    np.testing.assert_allclose(edges[0], edges[2], atol=1e-12)
    np.testing.assert_allclose(edges[1], edges[3], atol=1e-12)


@pytest.mark.parametrize(
    ("now_mm", "then_mm", "forced", "expected"),
    [
        pytest.param((1, 1, 4), (1, 1, 1), None, 2, id="the spacing left"),
        pytest.param((1, 1, 1), (5, 1, 1), None, 0, id="the spacing made"),
        pytest.param((1, 4, 1), (5, 1, 1), None, 1, id="both: the spacing left"),
        pytest.param((1, 1, 3), (1, 1, 3), None, None, id="not more than three"),
        pytest.param((1, 4, 4), (9, 1, 1), None, None, id="two largest"),
        pytest.param((1, 1, 9), (1, 1, 9), False, None, id="never"),
        pytest.param((1, 2, 1), (9, 1, 1), True, 1, id="always"),
        pytest.param((2, 2, 1), (9, 1, 1), True, None, id="always, two largest"),
    ],
)
def test_which_axis_is_treated_by_itself(now_mm, then_mm, forced, expected):
    step = SplineResampling(method="spline", order=3, separate_z=forced)
    assert axis_alone(step, now_mm, then_mm) == expected


def test_axes_stay_as_stored_or_are_turned():
    affine = np.array([[0, -1, 0, 0], [0, 0, 2, 0], [1.5, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    scan = scan_of(head(), affine=affine, stated_mm=(1.5, 1.0, 2.0))
    stored = prepare(scan, recipe_of({"a": KEPT}))
    turned = prepare(scan, recipe_of({"a": KEPT}, orientation="RAS"))
    assert stored.volume.geometry.axis_codes == "SLA"
    assert turned.volume.geometry.axis_codes == "RAS"
    assert turned.volume.geometry.header_spacing_mm == (1.0, 2.0, 1.5)
    np.testing.assert_array_equal(
        turned.volume.array, stored.volume.array.transpose(1, 2, 0, 3)[::-1]
    )


@pytest.mark.parametrize("codes", ["RAS", "PIR", "LSA"])
def test_a_turned_scan_has_the_spacing_that_nibabel_writes(tmp_path, codes):
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(0.1, 0.2, -0.1) @ np.diag([1.3, 0.7, 2.9])
    image = nib.Nifti1Image(np.ones((4, 5, 6), "f4"), affine)
    wanted = nib.orientations.axcodes2ornt(codes)
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), wanted))
    nib.save(image, tmp_path / "a.nii.gz")
    volume, _ = read_case({"a": tmp_path / "a.nii.gz"})
    read = nib.load(tmp_path / "a.nii.gz")
    assert volume.geometry.header_spacing_mm == tuple(map(float, read.header.get_zooms()))
    turned = read.as_reoriented(nib.io_orientation(read.affine))
    found = oriented(recipe_of({"a": KEPT}, orientation="RAS"), volume.geometry)
    assert found.header_spacing_mm == tuple(map(float, turned.header.get_zooms()))


def test_pixdim_counts_where_it_differs_from_the_affine(tmp_path):
    image = nib.Nifti1Image(np.ones((8, 8, 8), "f4"), np.eye(4))
    image.header["pixdim"][1:4] = (2, 1, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    volume, _ = read_case({"a": tmp_path / "a.nii.gz"})
    recipe = recipe_of({"a": KEPT}, images=LINEAR, outputs=LINEAR)
    assert prepare(volume, recipe).volume.geometry.shape == (16, 8, 8)


@pytest.mark.parametrize("stated", [0, -1, np.nan, np.inf, 1e-12, 1e30])
def test_a_header_that_states_no_length_does_not_count(stated):
    scan = scan_of(np.ones((4, 4, 4)), stated_mm=(stated, 1.0, 1.0))
    recipe = recipe_of({"a": KEPT}, (0.5, 1.0, 1.0), images=LINEAR, outputs=LINEAR)
    assert prepare(scan, recipe).volume.geometry.shape == (8, 4, 4)
    fine = recipe_of({"a": KEPT}, (1e-9, 1.0, 1.0), images=LINEAR, outputs=LINEAR)
    for length in (1.0, 1e4):
        with pytest.raises(GridError, match=r"at most .* in all"):
            prepare(scan_of(np.ones((4, 4, 4)), stated_mm=(length, 1.0, 1.0)), fine)


@pytest.mark.parametrize("separate", [None, True])
@pytest.mark.parametrize("inside", ["box", "mask"])
def test_memory_is_what_is_said_of_it(inside, separate):
    image = np.asfortranarray(np.random.default_rng(0).random((120, 110, 90)).astype("f4") + 1)
    grid = Geometry(image.shape, np.diag([1, 1, 2.0, 1]))
    step = {"method": "spline", "order": 3, "separate_z": separate}
    recipe = recipe_of(
        {"a": {"method": "zscore", "inside": inside}}, (0.9, 1.1, 1.9), images=step, outputs=LINEAR
    )
    shape = largest_working_shape(recipe, grid)
    assert shape == (133, 100, 95)
    tracemalloc.start()
    found = prepare_as_nnunet({"a": image}, grid, recipe, lambda shape: None).array
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    said = nnunet_preparing_bytes(recipe, grid, shape)
    assert peak - found.nbytes < said + 2**20
    assert preparing_takes_mb(recipe, grid, shape) > said / 2**20


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 12)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.7, 4.5])] * 3),
    images=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_resampling_as_scipy_does_it(shape, spacing, images, seed):
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(seed).normal(size=shape).astype("f4")
    step = {"method": "spline", "order": images, "separate_z": False}
    recipe = recipe_of({"a": KEPT}, spacing, images=step, outputs=LINEAR)
    sides = [round(n / mm) for n, mm in zip(shape, spacing, strict=True)]
    if min(sides) < 1:
        return
    places = np.meshgrid(
        *((np.arange(m) + 0.5) * (n / m) - 0.5 for n, m in zip(shape, sides, strict=True)),
        indexing="ij",
    )
    expected = ndimage.map_coordinates(image.astype("f8"), places, order=images, mode="nearest")
    expected = np.clip(expected, image.min(), image.max())
    found = prepare(scan_of(image), recipe).volume
    np.testing.assert_allclose(found.array[..., 0], expected, atol=1e-5)
    covered = maps_home(recipe, found.geometry, scan_of(image).geometry)
    assert not any(m.outside.any() for m in covered)


def test_planes_are_limited_each_by_itself_and_then_repeated():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(3).normal(size=(7, 8, 3)).astype("f4")
    image[..., 1] *= 10
    step = {"method": "spline", "order": 3}
    scan = scan_of(image, affine=np.diag([1.0, 1.0, 4.0, 1.0]))
    found = prepare(scan, recipe_of({"a": KEPT}, (0.7, 0.7, 2.0), images=step, outputs=LINEAR))
    sides = (10, 11)
    places = np.meshgrid(
        *((np.arange(m) + 0.5) * (n / m) - 0.5 for n, m in zip((7, 8), sides, strict=True)),
        indexing="ij",
    )
    for number, source in enumerate((0, 0, 1, 1, 2, 2)):
        plane = image[..., source].astype("f8")
        expected = ndimage.map_coordinates(plane, places, order=3, mode="nearest")
        expected = np.clip(expected, plane.min(), plane.max())
        np.testing.assert_allclose(found.volume.array[:, :, number, 0], expected, atol=2e-5)
