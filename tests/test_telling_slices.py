"""Which slices explain a score, and which way they are turned."""

from pathlib import Path

import numpy as np
import pytest

from vol3dseg.datasets.case import Case
from vol3dseg.evaluation.calibration import calibration
from vol3dseg.reporting.evaluation_page.telling_slices import (
    FALSE,
    MISSED,
    OTHER,
    Exhibit,
    differences,
    telling_slices,
)
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Segmentation

SAGITTAL, CORONAL, AXIAL = range(3)


def shown(reference, prediction, grid, labels):
    maps = tuple(Segmentation(array, grid, labels) for array in (reference, prediction))
    return telling_slices(Exhibit(Case("x", "x", {}), Path("x.nii.gz"), lambda: maps))


def test_how_two_maps_differ():
    reference = np.array([0, 1, 1, 0, IGNORED, 0, 2], np.uint8)
    prediction = np.array([0, 1, 2, 2, 1, 3, 0], np.uint8)
    assert differences(reference, prediction).tolist() == [0, 0, OTHER, FALSE, 0, FALSE, MISSED]
    unseen = differences(reference, prediction, (3,))
    assert unseen.tolist() == [0, 0, OTHER, FALSE, 0, 0, MISSED]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA"])
def test_slices_go_through_where_the_maps_differ_and_are_upright(axes, labels):
    signs = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1)}
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, letter in enumerate(axes):
        row, sign = signs[letter]
        affine[row, column] = sign * (1.0, 2.0, 3.0)[row]
    grid = Geometry((20, 20, 20), affine)
    reference = np.zeros(grid.shape, np.uint8)
    reference[5:15, 5:15, 5:15] = 2
    prediction = reference.copy()
    # Two voxels more, on the subject's right, in front and above of all others.
    right_front_top = affine[:3, :3] @ [9.5, 9.5, 9.5] + np.array([7, 14, 21])
    place = np.rint(np.linalg.solve(affine[:3, :3], right_front_top)).astype(int)
    prediction[tuple(place)] = 1
    found = shown(reference, prediction, grid, labels)
    np.testing.assert_allclose(found.at_mm, affine[:3, :3] @ place)
    for axis in (SAGITTAL, CORONAL, AXIAL):
        of = found.slices[axis]
        ((row, column),) = np.argwhere(of.difference == FALSE)
        rows, columns = of.difference.shape
        assert row < rows / 2  # above, or in front
        assert column < columns / 2  # the right, or the front, is on the left
        assert of.grey is None
        extent = np.multiply((1, 2, 3), grid.shape)[[a for a in range(3) if a != axis]]
        assert of.size_mm == pytest.approx(tuple(extent))


def test_where_nothing_differs_most_foreground_is_shown(labels):
    grid = Geometry((10, 12, 14), np.eye(4))
    reference = np.zeros(grid.shape, np.uint8)
    reference[2:4, 3:9, 5] = reference[2, 3, 6] = 1
    found = shown(reference, reference, grid, labels)
    assert [each.number for each in found.slices] == [3, 4, 6]
    assert not any(each.difference.any() for each in found.slices)
    empty = shown(np.zeros_like(reference), np.zeros_like(reference), grid, labels)
    assert [each.number for each in empty.slices] == [6, 7, 8]


def test_large_slices_are_thinned_and_what_is_far_away_is_cut(labels):
    grid = Geometry((900, 800, 4), np.eye(4))
    reference = np.zeros(grid.shape, np.uint8)
    reference[100:700, 100:700, 2] = 1
    of = shown(reference, reference, grid, labels).slices[AXIAL]
    assert max(of.reference.shape) <= 384
    reference[:] = 0
    reference[100:104, 100:104, 2] = 1
    of = shown(reference, reference, grid, labels).slices[AXIAL]
    assert of.reference.shape == (34, 34)  # 15 mm on every side


def test_calibration_takes_no_more_than_planes(labels):
    import tracemalloc

    grid = Geometry((100, 100, 100), np.eye(4))
    both = Segmentation(np.ones(grid.shape, np.uint8), grid, labels)
    sure = np.full(grid.shape, 0.9, np.float32)
    tracemalloc.start()
    calibration(both, both, sure, sure)
    assert tracemalloc.get_traced_memory()[1] < 2e6  # a volume of bytes is 1 MB
    tracemalloc.stop()
