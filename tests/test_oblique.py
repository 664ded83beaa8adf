"""Onto any grid of the same world: parallel or not, for images and for classes."""

import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from vol3dseg.errors import MissingExtraError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.label_resampling import interpolate_labels
from vol3dseg.space.oblique import resample_image_onto, resample_labels_onto
from vol3dseg.space.resampling import resample

SOURCE = Geometry((20, 22, 18), np.diag([2.0, 1.5, 1.8, 1.0]))


def placed(matrix, shape, spacing=1.0):
    """A grid with these axes round the middle of the source."""
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    middle = SOURCE.affine @ [*(np.array(SOURCE.shape) - 1) / 2, 1]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Geometry(shape, affine)


def world(grid):
    """(i, j, k, 3) array of where voxels lie [mm]."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ramp(grid):
    """An image that is linear in the world, which linear interpolation does not change."""
    return (world(grid) @ [0.7, -1.1, 0.4] + 5).astype(np.float32)


angles = st.floats(-0.6, 0.6)


@given(st.tuples(angles, angles, angles), st.floats(-0.3, 0.3), st.floats(0.5, 1.4))
def test_a_linear_image_is_the_same_in_the_world(turn, shear, spacing):
    pytest.importorskip("SimpleITK", reason="oblique grids need the extra [itk]")
    assume(max(map(abs, turn)) > 0.02)  # up to 0.05 voxel of drift grids count as parallel
    sheared = euler2mat(*turn) @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]])
    target = placed(sheared, (9, 8, 7), spacing)
    found = resample_image_onto(ramp(SOURCE), SOURCE, target)
    np.testing.assert_allclose(found, ramp(target), atol=1e-3)


@given(st.tuples(angles, angles, angles))
def test_classes_are_those_of_the_place(turn):
    """Two halves and a third class in a corner: all but voxels at the borders are certain."""
    pytest.importorskip("SimpleITK", reason="oblique grids need the extra [itk]")

    def distance(grid):
        return world(grid) @ [0.6, 0.8, 0] - 22

    target = placed(euler2mat(*turn), (12, 11, 10), 1.2)
    found = resample_labels_onto((distance(SOURCE) > 0).astype(np.uint8) * 2, SOURCE, target)
    certain = np.abs(distance(target)) > 2.5
    expected = (distance(target) > 0) * 2
    np.testing.assert_array_equal(found[certain], expected[certain])
    assert set(np.unique(found)) <= {0, 2}


def test_parallel_grids_need_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    target = SOURCE.with_spacing((1.0, 3.0, 1.8))
    image = np.random.default_rng(0).normal(size=SOURCE.shape).astype(np.float32)
    classes = (image > 0).astype(np.uint8)
    np.testing.assert_array_equal(
        resample_image_onto(image, SOURCE, target), resample(image, SOURCE, target)
    )
    np.testing.assert_array_equal(
        resample_labels_onto(classes, SOURCE, target), interpolate_labels(classes, SOURCE, target)
    )


@pytest.mark.parametrize("bring", [resample_image_onto, resample_labels_onto])
def test_oblique_grids_name_the_extra(monkeypatch, bring):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    array = np.zeros(SOURCE.shape, np.float32 if bring is resample_image_onto else np.uint8)
    array[3:] = 1
    with pytest.raises(MissingExtraError, match=r"SimpleITK is not installed.*vol3dseg\[itk\]"):
        bring(array, SOURCE, placed(euler2mat(0.3), (5, 5, 5)))


@pytest.mark.parametrize("turn", [0.0, 0.3], ids=["parallel", "oblique"])
def test_outside_is_what_the_corners_are(turn):
    pytest.importorskip("SimpleITK", reason="oblique grids need the extra [itk]")
    air = np.full(SOURCE.shape, -1000, np.float32)
    air[5:-5, 5:-5, 5:-5] = 40
    far = placed(euler2mat(turn), (60, 60, 60), 2.0)
    found = resample_image_onto(air, SOURCE, far)
    assert found[0, 0, 0] == found[-1, -1, -1] == -1000
    classes = resample_labels_onto((air > 0).astype(np.uint8), SOURCE, far)
    assert classes[0, 0, 0] == 0
    assert classes[30, 30, 30] == 1


def test_coarser_oblique_grids_skip_no_voxel():
    """Alternating planes are grey on a grid five times as coarse, not black or white by chance."""
    pytest.importorskip("SimpleITK", reason="oblique grids need the extra [itk]")
    fine = Geometry((60, 60, 60), np.diag([0.6, 0.6, 0.6, 1.0]))
    planes = np.broadcast_to(np.arange(60)[:, None, None] % 2, fine.shape).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(0.2, 0.1, 0.3) * 3.0
    affine[:3, 3] = 9
    found = resample_image_onto(planes, fine, Geometry((4, 4, 4), affine))
    np.testing.assert_allclose(found, 0.5, atol=0.02)
