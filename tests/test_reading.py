"""From the files of a case to arrays on one grid, and what is said where there is no such grid."""

import numpy as np
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_labels, read_volume
from vol3dseg.errors import FileFormatError, GridError, IntensityError
from vol3dseg.volumes import nifti
from vol3dseg.volumes.geometry import Geometry

GRID = Geometry((6, 7, 8), np.diag([2.0, 1.0, 1.0, 1.0]))


@pytest.fixture
def several(tmp_path):
    """A case whose modalities are the volumes of one file, the third with a NaN."""
    array = np.random.default_rng(0).integers(0, 99, (*GRID.shape, 3)).astype(np.float32)
    array[0, 0, 0, 2] = np.nan
    nifti.write(tmp_path / "x.nii.gz", array, GRID)
    images = {name: ImageSource(tmp_path / "x.nii.gz", n) for n, name in enumerate("abc")}
    return Case("x", "x", images), array


@pytest.fixture
def opened(monkeypatch):
    """The paths of files that were unpacked."""
    found, unpack = [], nifti._content
    monkeypatch.setattr(nifti, "_content", lambda path: found.append(path) or unpack(path))
    return found


@pytest.mark.parametrize("names", ["ab", "ba", "b"])
def test_a_file_of_several_modalities_is_unpacked_once(names, several, opened):
    case, array = several
    volume = read_volume(case, names)
    assert len(opened) == 1
    assert volume.modalities == tuple(names)
    np.testing.assert_array_equal(volume.array, array[..., ["abc".index(n) for n in names]])


def test_a_bad_modality_of_several_is_refused(several):
    with pytest.raises(IntensityError, match="1 voxels are NaN"):
        read_volume(several[0], "abc")
    with pytest.raises(FileFormatError, match="expected a 4-D file with a volume 3"):
        read_volume(Case("x", "x", {"d": ImageSource(several[0].images["a"].path, 3)}), "d")


def test_modalities_in_files_of_their_own_are_read_each(brats_folder, opened):
    case = find_cases(brats_folder)[0]
    volume = read_volume(case, ("t1", "flair"))
    assert opened == [case.images["t1"].path, case.images["flair"].path]
    np.testing.assert_array_equal(volume.array[..., 0], nifti.read_image(opened[0])[0])


def moved(path):
    """Move a file 5 mm to the right; return the grids before and after."""
    array, grid = nifti.read_labels(path)
    affine = grid.affine.copy()
    affine[0, 3] += 5
    nifti.write(path, array, Geometry(grid.shape, affine))
    return grid, Geometry(grid.shape, affine)


def test_images_in_other_places_are_told_apart(brats_folder):
    case = find_cases(brats_folder)[0]
    before, after = moved(case.images["t1"].path)
    with pytest.raises(GridError) as error:
        read_volume(case, ("flair", "t1"))
    assert before.placed() != after.placed()
    for words in (
        "case Case_001: flair and t1 lie on different grids: ",
        f"{before.placed()} and {after.placed()}; resample one onto the other, or mend the header",
    ):
        assert words in str(error.value)


def test_labels_in_another_place_are_told_apart(brats_folder, labels):
    case = find_cases(brats_folder)[0]
    before, after = moved(case.label)
    with pytest.raises(GridError) as error:
        read_labels(case, labels, before)
    for words in (f"Case_001_seg.nii.gz has {after.placed()}", f"the image {before.placed()}; "):
        assert words in str(error.value)
    assert str(error.value).endswith("; resample one onto the other, or mend the header")


def test_a_grid_says_where_its_first_voxel_is():
    affine = np.diag([-1.0, -1, 2, 1])
    affine[:3, 3] = 90, 126.25, -72
    grid = Geometry((2, 3, 4), affine)
    assert grid.placed() == f"{grid} from (90, 126.2, -72) mm"
