import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vol3dseg.errors import GridError
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry

CORNERS = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
spacings = st.tuples(*[st.floats(0.5, 2)] * 3)


@st.composite
def geometries(draw, spacing=spacings):
    """Grids in all 48 orders and directions of axes, turned by up to some 20 degrees."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    a, b, c = draw(st.tuples(*[st.floats(-0.2, 0.2)] * 3))
    turn = nib.eulerangles.euler2mat(a, b, c)
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, order] * signs) @ np.diag(draw(spacing))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Geometry(shape, affine)


def world(geometry, index):
    return geometry.affine[:3, :3] @ index + geometry.affine[:3, 3]


def outer_corner(geometry):
    return world(geometry, np.full(3, -0.5))


@given(geometries())
def test_canonical_grids_point_to_ras_and_hold_the_same_voxels(geometry):
    canonical = geometry.canonical()
    assert canonical.axis_codes == "RAS"
    assert canonical.canonical().fits(canonical)
    corners = [
        sorted(
            np.round(world(g, np.array(c) * (np.array(g.shape) - 1)), 6).tolist() for c in CORNERS
        )
        for g in (geometry, canonical)
    ]
    np.testing.assert_allclose(corners[0], corners[1], atol=1e-5)


@given(geometries(), spacings)
@example(Geometry((1, 2, 1), np.diag([1, 1.5, 1, 1])), (1.0, 0.99999, 1.0))  # 3.00003 voxels
def test_another_spacing_shares_the_outer_edge_and_loses_nothing(geometry, spacing_mm):
    finer = geometry.with_spacing(spacing_mm)
    np.testing.assert_allclose(outer_corner(finer), outer_corner(geometry), atol=1e-6)
    extent = np.array(geometry.shape) * geometry.spacing_mm
    reach = np.array(finer.shape) * finer.spacing_mm
    # Headers round: what lies beyond the last voxel by a thousandth of one is dropped.
    assert (reach >= extent - 1.001e-3 * np.array(finer.spacing_mm)).all()
    assert (reach - extent < np.array(finer.spacing_mm)).all()
    np.testing.assert_allclose(finer.spacing_mm, spacing_mm, rtol=1.001e-3)


@given(geometries())
def test_its_own_spacing_is_no_change(geometry):
    assert geometry.with_spacing(geometry.spacing_mm).fits(geometry, tolerance_voxels=1e-9)


@given(geometries(), st.tuples(*[st.integers(-3, 3)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_cropping_moves_no_voxel(geometry, start, shape):
    cropped = geometry.cropped(Box.at(start, shape))
    assert cropped.shape == shape
    np.testing.assert_allclose(
        world(cropped, np.ones(3)), world(geometry, np.add(start, 1)), atol=1e-9
    )


@pytest.mark.parametrize(
    ("spacing_mm", "said"),
    [
        pytest.param(1000.0, "2e+04x2e+04x2e+04 voxels if resampled to 1x1x1 mm", id="metres"),
        pytest.param(2000.0, "4e+04x4e+04x4e+04 voxels", id="an axis too long"),
        pytest.param(1e9, "2e+10x2e+10x2e+10 voxels", id="the largest there is"),
    ],
)
def test_a_grid_that_no_memory_holds_is_refused_before_it_is_made(spacing_mm, said):
    geometry = Geometry((20, 20, 20), np.diag([spacing_mm] * 3 + [1]))
    with pytest.raises(GridError, match="mend the spacing in the header") as caught:
        geometry.with_spacing((1, 1, 1))
    assert said in str(caught.value)
    assert geometry.with_spacing((spacing_mm, spacing_mm, spacing_mm)) == geometry


def test_the_smallest_spacing_becomes_one_voxel():
    geometry = Geometry((20, 20, 20), np.diag([1e-9] * 3 + [1]))
    assert geometry.with_spacing((1, 1, 1)).shape == (1, 1, 1)


def test_a_thousandth_of_spacing_is_rounding():
    geometry = Geometry((10, 10, 10), np.diag([1.0005, 1, 1, 1]))
    assert geometry.with_spacing((1, 1, 1)) == geometry


def test_volume_of_a_voxel_and_words():
    geometry = Geometry((2, 3, 4), np.diag([-1, -2, 0.5, 1]))
    assert geometry.voxel_volume_mm3 == 1.0
    assert str(geometry) == "2x3x4 voxels of 1x2x0.5 mm, axes LPS"


def test_fits_measures_in_voxels_at_the_corners():
    far = np.eye(4)
    far[:3, 3] = 1e4
    turned = far.copy()
    turned[0, 1] = 0.002  # a tenth of a voxel only after 50 voxels
    assert Geometry((9, 9, 9), far).fits(Geometry((9, 9, 9), turned))
    assert not Geometry((100, 100, 100), far).fits(Geometry((100, 100, 100), turned))
    assert not Geometry((9, 9, 9), far).fits(Geometry((9, 9, 8), far))


def test_equal_and_hashable_by_value():
    a, b = Geometry((2, 2, 2), np.eye(4)), Geometry((2, 2, 2), np.eye(4))
    assert a == b
    assert len({a, b}) == 1
    assert a != Geometry((2, 2, 2), np.diag([2, 1, 1, 1]))
    assert a != "2x2x2"


def test_the_affine_cannot_be_changed_behind_its_back():
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 0] = 5
    assert geometry.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 5


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        pytest.param((2, 2), np.eye(4), "three axes", id="two axes"),
        pytest.param((2, 0, 2), np.eye(4), "at least one voxel", id="no voxels"),
        pytest.param((2, 2, 2), np.eye(3), "finite 4 x 4", id="3 x 3"),
        pytest.param((2, 2, 2), np.full((4, 4), np.nan), "finite 4 x 4", id="NaN"),
        pytest.param((2, 2, 2), np.diag([1, 0, 1, 1]), "do not span a volume", id="no spacing"),
        pytest.param((2, 2, 2), np.ones((4, 4)), "do not span a volume", id="flat"),
    ],
)
def test_what_is_no_geometry(shape, affine, message):
    with pytest.raises(GridError, match=message):
        Geometry(shape, affine)


@given(
    st.integers(30, 300).map(lambda n: n / 100),
    st.sampled_from([0.5, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0]),
    st.integers(1, 40),
    st.floats(-np.pi, np.pi),
)
def test_spacing_that_is_stored_in_float32_adds_no_voxel(old, new, times, angle):
    count = times * round(new * 100)  # fills a whole number of new voxels
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    stored = (turn * (old, old, old, 1)).astype(np.float32)
    grid = Geometry((count, 1, 1), stored).with_spacing((new, new, new))
    assert grid.shape[0] == times * round(old * 100)
