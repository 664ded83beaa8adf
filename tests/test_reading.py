"""From the files of a case to arrays on one grid, and what is said where there is no such grid."""

import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_case, read_segmentation, read_volume
from vol3dseg.errors import (
    DatasetError,
    FileFormatError,
    GridError,
    IntensityError,
    MemoryLimitError,
)
from vol3dseg.formats import limits
from vol3dseg.formats.image_file import ImageFile
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.oblique import resample_image_onto, resample_labels_onto

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
    found, unpack = [], ImageFile._voxels
    monkeypatch.setattr(ImageFile, "_voxels", lambda file: found.append(file.path) or unpack(file))
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
    with pytest.raises(FileFormatError, match="expected a file of four axes with a volume 3"):
        read_volume(Case("x", "x", {"d": ImageSource(several[0].images["a"].path, 3)}), "d")


def test_modalities_in_files_of_their_own_are_read_each(brats_folder, opened):
    case = find_cases(brats_folder)[0]
    volume = read_volume(case, ("t1", "flair"))
    assert sorted(opened) == sorted([case.images["t1"].path, case.images["flair"].path])
    np.testing.assert_array_equal(
        volume.array[..., 0], formats.read_image(case.images["t1"].path)[0]
    )


def test_channels_lie_one_after_the_other_as_in_files(brats_folder):
    volume = read_volume(find_cases(brats_folder)[0], ("t1", "flair"))
    assert volume.array.T.flags.c_contiguous


def broken(folder, **damage):
    """A case whose files are damaged so: name=what is written into it."""
    case = find_cases(folder)[0]
    for name, content in damage.items():
        case.images[name].path.write_bytes(content)
    return case


@pytest.mark.parametrize("names", [("t1", "flair"), ("flair", "t1")])
def test_the_first_of_several_errors_is_raised_whichever_thread_is_first(brats_folder, names):
    case = broken(brats_folder, flair=b"", t1=b"no NIfTI" * 99)
    expected = {"flair": "the file is empty", "t1": "not a NIfTI"}[names[0]]
    for _ in range(20):
        with pytest.raises(FileFormatError, match=expected):
            read_volume(case, names)


def test_a_later_error_in_an_earlier_file_waits_for_its_turn(several, tmp_path):
    """Modalities a and c lie in one file, b in another: the NaN of c comes after b's error."""
    (tmp_path / "b.nii").write_bytes(b"")
    case, _ = several
    images = {**case.images, "b": ImageSource(tmp_path / "b.nii")}
    with pytest.raises(FileFormatError, match="the file is empty"):
        read_volume(Case("x", "x", images), "abc")


@pytest.mark.parametrize("names", [("t1", "flair"), ("flair", "t1")])
def test_images_of_other_shapes_are_refused_whichever_is_first(brats_folder, names):
    case = find_cases(brats_folder)[0]
    array, grid = formats.open_volume(case.images["t1"].path).labels()
    smaller = Geometry((*grid.shape[:2], grid.shape[2] - 1), grid.affine)
    nifti.write(case.images["t1"].path, array[..., :-1], smaller)
    for _ in range(20):
        with pytest.raises(GridError, match=f"{names[0]} and {names[1]} lie on different grids"):
            read_volume(case, names)


def test_more_images_than_memory(tmp_path, monkeypatch):
    """4 TB each, in files that can hold them, on a system that does not tell what it has."""
    monkeypatch.setattr(limits, "available_mb", lambda: None)
    ones, grid = np.ones((64, 64, 64), np.uint8), Geometry((64, 64, 64), np.eye(4))
    nifti.write(tmp_path / "one.nii", ones, grid)
    content = bytearray((tmp_path / "one.nii").read_bytes())
    content[42:48] = np.array([10000] * 3, np.int16).tobytes()
    for name in "ab":
        (tmp_path / name).write_bytes(content)
        os.truncate(tmp_path / name, 10**12 + 352)  # sparse: takes no room
    case = Case("x", "x", {name: ImageSource(tmp_path / name) for name in "ab"})
    words = r"2 images of \(10000, 10000, 10000\) voxels do not"
    with pytest.raises(MemoryLimitError, match=words):
        read_volume(case, "ab")


def test_a_case_at_once(brats_folder, labels):
    case = find_cases(brats_folder)[0]
    volume, segmentation = read_case(case, labels=labels)
    assert volume.modalities == ("flair", "t1")
    assert volume.array.tobytes() == read_volume(case, ("flair", "t1")).array.tobytes()
    expected = read_segmentation(case, labels, volume.geometry)
    assert segmentation.array.tobytes() == expected.array.tobytes()
    assert segmentation.labels == labels
    swapped, named = read_case(case, ["t1", "flair"])
    assert swapped.array[..., 1].tobytes() == volume.array[..., 0].tobytes()
    assert named.labels.names == ("background", "value 1", "value 2", "value 4")
    assert named.counts()[3] == segmentation.counts()[labels.index("enhancing")]
    assert read_case(replace(case, label=None), ["t1"])[1] is None
    with pytest.raises(DatasetError, match="modality t2 is missing; found flair, t1"):
        read_case(case, ["t2"])


def moved(path):
    """Move a file 5 mm to the right; return the grids before and after."""
    array, grid = formats.open_volume(path).labels()
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
        f"Case_001_flair.nii.gz has {before.placed()}, ",
        f"Case_001_t1.nii.gz has {after.placed()}; expected one grid; bring t1 onto that of flair "
        "with yes in the column t1_resample of a dataset table, or mend the header",
    ):
        assert words in str(error.value)


def test_labels_in_another_place_are_told_apart(brats_folder, labels):
    case = find_cases(brats_folder)[0]
    before, after = moved(case.label)
    with pytest.raises(GridError) as error:
        read_segmentation(case, labels, before)
    for words in (
        f"flair.nii.gz has {before.placed()}, ",
        f"Case_001_seg.nii.gz has {after.placed()}; ",
    ):
        assert words in str(error.value)
    assert "column label_resample of a dataset table" in str(error.value)


def test_a_grid_says_where_its_first_voxel_is():
    affine = np.diag([-1.0, -1, 2, 1])
    affine[:3, 3] = 90, 126.25, -72
    grid = Geometry((2, 3, 4), affine)
    assert grid.placed() == f"{grid} from (90, 126.2, -72) mm"


def test_nan_is_replaced_where_that_is_asked_for(several):
    case, array = several
    images = {**case.images, "c": replace(case.images["c"], nan=-7.0)}
    volume = read_volume(replace(case, images=images), "acb")
    assert volume.replaced == {"c": 1}
    assert volume.array[0, 0, 0, 1] == -7
    np.testing.assert_array_equal(volume.array[1:], array[1:][..., [0, 2, 1]])


def test_infinity_is_replaced_and_counted(tmp_path):
    array = np.ones(GRID.shape, dtype=np.float32)
    array[0, 0, :3] = np.inf, -np.inf, np.nan
    nifti.write(tmp_path / "x.nii", array, GRID)
    source = ImageSource(tmp_path / "x.nii", nan=0.0)
    volume = read_volume(Case("x", "x", {"t1": source}), ["t1"])
    assert volume.replaced == {"t1": 3}
    assert volume.array[0, 0, :4, 0].tolist() == [0, 0, 0, 1]


def test_nothing_to_replace_is_not_counted(several):
    case, _ = several
    images = {name: replace(source, nan=0.0) for name, source in case.images.items()}
    assert read_volume(replace(case, images=images), "ab").replaced == {}


def turned_copy(folder):
    """A case whose t2 and label lie on a grid that is oblique to that of t1."""
    rng = np.random.default_rng(1)
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(0.1, 0.2, 0.3) * 1.1
    other = Geometry((12, 11, 10), affine)
    images = {"t1": ImageSource(folder / "t1.nii"), "t2": ImageSource(folder / "t2.nii")}
    nifti.write(images["t1"].path, rng.normal(size=GRID.shape).astype(np.float32), GRID)
    nifti.write(images["t2"].path, rng.normal(size=other.shape).astype(np.float32), other)
    nifti.write(folder / "seg.nii", rng.integers(0, 2, other.shape).astype(np.uint8), other)
    return Case("x", "x", images, folder / "seg.nii")


@pytest.mark.parametrize("names", [("t1", "t2"), ("t2", "t1"), ("t2",)])
def test_an_image_is_brought_onto_the_grid_of_another(tmp_path, names, labels):
    pytest.importorskip("SimpleITK", reason="oblique grids need the extra [itk]")
    case = turned_copy(tmp_path)
    with pytest.raises(GridError, match="lie on different grids"):
        read_volume(case, ("t1", "t2"))
    onto = replace(case.images["t2"], onto=case.images["t1"])
    asked = replace(case, images={**case.images, "t2": onto}, label_resampled=True)
    volume = read_volume(asked, names)
    assert volume.geometry == GRID
    stored, other = formats.read_image(onto.path)  # as rounded in the header
    np.testing.assert_array_equal(
        volume.array[..., names.index("t2")], resample_image_onto(stored, other, GRID)
    )
    values, _ = formats.open_volume(case.label).labels()
    found = read_segmentation(asked, labels, volume.geometry)
    np.testing.assert_array_equal(found.array, resample_labels_onto(values, other, GRID))
    assert found.array.any()


@pytest.fixture
def dicom_folder(tmp_path, dicom_series):
    """Two series on one grid, by their numbers."""
    arrays = {}
    for number, name in ((3, "T1 pre"), (4, "T1 post")):
        arrays[name] = np.random.default_rng(number).integers(0, 999, (5, 6, 7)).astype(np.int16)
        uid = f"1.2.3.{number}"
        named = {"SeriesInstanceUID": uid, "SeriesNumber": number, "SeriesDescription": name}
        for k, slice_ in enumerate(dicom_series(arrays[name], **named)):
            slice_.save_as(tmp_path / f"{number}-{k}.dcm", enforce_file_format=True)
    return tmp_path, arrays


def test_series_of_a_folder_are_read_by_name(dicom_folder):
    folder, arrays = dicom_folder
    images = {"t1": ImageSource(folder, series="T1 pre"), "t1ce": ImageSource(folder, series="4")}
    volume = read_volume(Case("x", "x", images), ["t1ce", "t1"])
    np.testing.assert_array_equal(volume.array[..., 0], arrays["T1 post"])
    np.testing.assert_array_equal(volume.array[..., 1], arrays["T1 pre"])
    assert volume.geometry.axis_codes == "LPS"
    assert volume.geometry.spacing_mm == (1, 1, 2)


def test_a_folder_of_several_series_needs_a_choice(dicom_folder):
    folder, _ = dicom_folder
    with pytest.raises(FileFormatError, match=r"holds 2 series; expected one; .*'T1 post'"):
        read_volume(Case("x", "x", {"t1": ImageSource(folder)}), ["t1"])
    numbered = Case("x", "x", {"t1": ImageSource(folder, 1, series="3")})
    with pytest.raises(FileFormatError, match=r"is one volume; .*leave that number out"):
        read_volume(numbered, ["t1"])


def test_a_sheared_grid_is_refused_unless_it_is_brought_onto_another(tmp_path):
    lean = np.eye(4)
    lean[0, 2] = 0.3
    sheared = Geometry(GRID.shape, GRID.affine @ lean)
    values = np.random.default_rng(0).random(GRID.shape, dtype=np.float32)
    for name, grid in (("straight", GRID), ("sheared", sheared)):
        image = nib.Nifti1Image(values, grid.affine)
        image.header.set_qform(None, 0)
        image.to_filename(tmp_path / f"{name}.nii")
    straight, leaning = (ImageSource(tmp_path / f"{n}.nii") for n in ("straight", "sheared"))
    with pytest.raises(GridError) as caught:
        read_volume(Case("x", "x", {"t1": leaning}), ["t1"])
    assert str(caught.value) == (
        f"{tmp_path / 'sheared.nii'}: two axes stand at 59.0 degrees; expected right angles (the "
        "gantry was tilted?); resample it onto a straight grid first, or onto another modality's "
        "with the dataset table's column <modality>_resample"
    )
    pytest.importorskip("SimpleITK", reason="sheared grids need the extra [itk]")
    asked = {"t1": straight, "t2": replace(leaning, onto=straight)}
    assert read_volume(Case("x", "x", asked), ["t1", "t2"]).geometry == GRID
