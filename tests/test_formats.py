"""Any format in, the same out: what a file is, pairs of files, and the way from scan to report."""

import gzip
import json
import subprocess
import sys
import warnings
from collections import Counter
from itertools import permutations, product
from pathlib import Path
from types import FunctionType

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from vol3dseg import formats
from vol3dseg.cli.show import show
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.selection import gather_cases, label_files
from vol3dseg.datasets.sources import read_grid
from vol3dseg.errors import DatasetError, FileFormatError, OutputError
from vol3dseg.formats import read_labels
from vol3dseg.formats.dicom import dicom_file
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.predictor import Predictor
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.written import LIST_NAME

SUFFIXES = (".nii.gz", ".nrrd", ".mha")
SHAPE = (9, 8, 7)
AFFINE = np.array([[1.5, 0, 0, -10], [0, 1.25, 0, 5], [0, 0, 2, 30], [0, 0, 0, 1]])
GRID = Geometry(SHAPE, AFFINE)
VALUES = np.arange(504, dtype=np.int16).reshape(SHAPE)


@pytest.fixture
def recipe():
    """One modality, so that a file is a case."""
    return Recipe(
        modalities=("flair",), normalisation={"method": "zscore"}, patch_size=(16, 16, 16)
    )


@pytest.fixture
def scan():
    """An image with a bright ball in it, and noise, so that no axis is like another."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    ball = 100 * ((x - 0.2) ** 2 + y**2 + (z + 0.3) ** 2 < 0.5)
    return (ball + np.random.default_rng(0).integers(1, 60, SHAPE)).astype(np.int16)


@pytest.fixture
def predictor(manifest):
    """A network that finds the first class where the scan is brighter than its mean."""

    def bright(patches):
        score = np.zeros((len(patches), len(manifest.labels.names), *patches.shape[2:]), np.float32)
        score[:, 0] = 0.5
        score[:, 1] = patches[:, 0] > 0
        return score

    return Predictor(bright, manifest)


def sources(path):
    return [Case("x", "x", {"flair": ImageSource(path)})]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_same_segmentation_in_the_world_whichever_way_axes_lie(
    tmp_path, order, suffix, scan, predictor, record
):
    """All 48 ways to store a scan, in every format: voxel for voxel, from file to file."""
    z = (scan - scan.mean()) / scan.std()
    expected = np.where(z > 0, predictor.manifest.labels.classes[1].write, 0)
    for flips in product((1, -1), repeat=3):
        turn = np.array(list(zip(order, flips, strict=True)), dtype=float)
        array = apply_orientation(scan, turn)
        grid = Geometry(array.shape, AFFINE @ inv_ornt_aff(turn, scan.shape))
        path = tmp_path / f"x{suffix}"
        formats.write(path, array, grid)
        out = tmp_path / "out"
        found = predict_cases(sources(path), predictor, out, record).cases["x"]
        assert not found.error
        assert found.file == f"x{suffix}"
        labels, place = formats.open_volume(out / found.file).labels()
        assert place.fits(grid, 1e-4)
        turned_back = apply_orientation(labels, io_orientation(place.affine))
        np.testing.assert_array_equal(turned_back, expected)


def dicom_stack(make, array, grid):
    """Slices of an (i, j, k) array on a grid, k from one to the next."""
    along, down, up = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine)[:3, :3].T
    origin = grid.affine[:3, 3] * (-1, -1, 1)
    across, between = np.linalg.norm(along), np.linalg.norm(down)
    directions = (*(along / across), *(down / between))
    return [
        make(array[..., k].T, origin + k * up, directions, (between, across))
        for k in range(array.shape[2])
    ]


@pytest.mark.parametrize("seg", [False, True], ids=["nifti", "dicom-seg"])
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_same_segmentation_of_dicom_whichever_way_axes_lie(
    tmp_path, order, seg, scan, predictor, record, dicom_slice
):
    """All 48 again: planes lie any way, but slices are counted so that the grid is right-handed."""
    pytest.importorskip("highdicom")
    z = (scan - scan.mean()) / scan.std()
    labels = predictor.manifest.labels
    options = PredictOptions(format="dicom-seg" if seg else None)
    predictor.origin = Origin("bright", "1")
    for number, flips in enumerate(product((1, -1), repeat=3)):
        turn = np.array(list(zip(order, flips, strict=True)), dtype=float)
        array = apply_orientation(scan, turn)
        grid = Geometry(array.shape, AFFINE @ inv_ornt_aff(turn, scan.shape))
        folder, out = tmp_path / f"{number}", tmp_path / f"out{number}"
        folder.mkdir()
        for k, one in enumerate(dicom_stack(dicom_slice, array, grid)):
            one.save_as(folder / f"{k}.dcm", enforce_file_format=True)
        found = predict_cases(sources(folder), predictor, out, record, options).cases["x"]
        assert not found.error
        if np.linalg.det(grid.affine) < 0:  # it comes back with its slices the other way round
            other_way = inv_ornt_aff([(0, 1), (1, 1), (2, -1)], grid.shape)
            grid = Geometry(grid.shape, grid.affine @ other_way)
        assert read_grid(sources(folder)[0]).fits(grid, 1e-4)
        segmentation = read_labels(out / found.file, labels, grid)
        assert segmentation.geometry.fits(grid, 1e-4)
        turned_back = apply_orientation(segmentation.array, io_orientation(grid.affine))
        np.testing.assert_array_equal(turned_back, z > 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("given", [None, *formats.FORMATS], ids=lambda f: f.name if f else "input")
def test_predictions_have_the_format_of_the_input_or_the_one_asked_for(
    tmp_path, suffix, given, scan, predictor, record
):
    formats.write(tmp_path / f"in/x{suffix}", scan, GRID)
    options = PredictOptions(probabilities=True, format=given.name if given else None)
    path = tmp_path / f"in/x{suffix}"
    found = predict_cases(sources(path), predictor, tmp_path / "out", record, options).cases["x"]
    expected = given.suffix if given else suffix
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert found.file == f"x{expected}"
    written = {f"x{expected}", f"x_probabilities{expected}", "predictions.json"}
    assert names == {*written, LIST_NAME}
    several = formats.open_volume(tmp_path / "out" / f"x_probabilities{expected}")
    assert several.shape == (*SHAPE, len(predictor.manifest.labels.names))
    z = (scan - scan.mean()) / scan.std()
    np.testing.assert_array_equal(several.image(1)[0], z > 0)


def test_probabilities_of_an_older_prediction_do_not_stay(tmp_path, scan, predictor, record):
    formats.write(tmp_path / "x.nii.gz", scan, GRID)
    folder = tmp_path / "out"
    options = PredictOptions(probabilities=True, format="nrrd")
    predict_cases(sources(tmp_path / "x.nii.gz"), predictor, folder, record, options)
    assert (folder / "x_probabilities.nrrd").is_file()
    predict_cases(sources(tmp_path / "x.nii.gz"), predictor, folder, record)
    assert not (folder / "x_probabilities.nrrd").exists()


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"), ("a.b.NII", "a.b"), ("a.img.gz", "a"), ("a.hdr", "a"), ("a.nrrd", "a"),
        ("a.nhdr", "a"), ("A.MHA", "A"), ("a.mhd", "a"), ("a.png", None), ("a.raw", None),
        ("a.mha.gz", None), ("nrrd", None),
    ],
)  # fmt: skip
def test_names_end_as_formats_do(tmp_path, name, stem):
    assert formats.stem(tmp_path / name) == stem


def test_one_file_is_a_case_whatever_its_format(tmp_path):
    for name in ("a.nrrd", "b.mhd", "c.img", "d.nii"):
        (tmp_path / name).touch()
    cases = gather_cases(sorted(tmp_path.iterdir()), ["flair"])
    assert [case.id for case in cases] == ["a", "b", "c", "d"]
    (tmp_path / "e.png").touch()
    message = r"e.png: not an image file by its name; expected a folder of cases, a table "
    with pytest.raises(DatasetError, match=message):
        gather_cases([tmp_path / "e.png"], ["flair"])


def test_label_maps_of_a_folder_in_any_format(tmp_path):
    names = ("a.nii.gz", "b.nrrd", "c.mha", "d.hdr", "d.img", "a_probabilities.nrrd", "x.png")
    for name in names:
        (tmp_path / name).touch()
    found = label_files(tmp_path, besides={"a_probabilities"})
    assert {name: path.name for name, path in found.items()} == {
        "a": "a.nii.gz", "b": "b.nrrd", "c": "c.mha", "d": "d.img",
    }  # fmt: skip
    (tmp_path / "a.mha").touch()
    message = (
        r"case a is there twice, as a\.mha and a\.nii\.gz; expected one label map of each case; "
        "move one of them to another folder"
    )
    with pytest.raises(DatasetError, match=message):
        label_files(tmp_path)
    for name in ("a.nii.gz", "a.mha"):
        assert label_files(tmp_path, {name})["a"].name == name


@pytest.mark.parametrize("names", [("SCAN.HDR", "SCAN.IMG"), ("a.hdr", "a.IMG.gz")], ids=str)
def test_a_pair_is_one_label_map_whatever_the_case_of_its_names(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in label_files(tmp_path).values()] == [names[1]]
    assert formats.is_companion(tmp_path / names[0])
    assert {path.name for path in formats.files_of(tmp_path / names[0])} == set(names)


_listening: list[list[str]] = []


def _listen(event, args):
    if event == "open" and _listening:
        _listening[-1].append(str(args[0]))


sys.addaudithook(_listen)  # hears every way to open a file; it stays as long as the process does


@pytest.fixture
def opened():
    """The names of all files that are opened."""
    _listening.append([])
    yield _listening[-1]
    _listening.pop()


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.hdr", "x.img", "x.hdr.gz", "x.img.gz"])
@pytest.mark.parametrize(
    "read", [formats.read_image, formats.read_labels, lambda path: formats.open_volume(path).shape]
)
def test_no_nifti_file_is_opened_more_than_twice(tmp_path, name, read, opened):
    """Once for its header, once for its voxels."""
    if ".nii" in name:
        formats.write(tmp_path / name, VALUES % 3, GRID)
    else:
        pair(tmp_path, ".gz" if name.endswith(".gz") else "", values=VALUES % 3)
    path = tmp_path / name
    opened.clear()
    read(path)
    counts = Counter(Path(file).name for file in opened if str(tmp_path) in file)
    assert counts[name] >= 1
    assert max(counts.values()) <= 2


def test_a_nifti_file_is_no_business_of_pydicom(tmp_path, monkeypatch):
    """No lock is taken, no warnings are caught: files are read side by side."""
    formats.write(tmp_path / "x.nii.gz", VALUES % 3, GRID)

    def refuse(*args, **kwargs):
        raise AssertionError("DICOM's reader is asked about a NIfTI file")

    for name, value in vars(dicom_file).items():
        if isinstance(value, FunctionType) and value.__module__ == dicom_file.__name__:
            monkeypatch.setattr(dicom_file, name, refuse)
    with monkeypatch.context() as patch:  # pytest catches them as well, when the test is over
        patch.setattr(warnings, "catch_warnings", refuse)
        array, _ = formats.read_image(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(array, VALUES % 3)


def test_a_format_that_is_not_written(tmp_path):
    for name in ("x.mhd", "x.img", "x.png"):
        with pytest.raises(OutputError, match=r"ends in \.nii\.gz, \.nii, \.nrrd or \.mha"):
            formats.write(tmp_path / name, VALUES, GRID)
    assert not list(tmp_path.iterdir())


def pair(tmp_path, ending="", image_class=nib.Nifti1Pair, name="x", values=VALUES):
    """A NIfTI pair as nibabel writes it."""
    nib.save(image_class(values, AFFINE), tmp_path / f"{name}.img")
    if ending:
        for suffix in (".hdr", ".img"):
            path = tmp_path / f"{name}{suffix}"
            path.with_name(path.name + ending).write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()


class TestPairs:
    @pytest.mark.parametrize("image_class", [nib.Nifti1Pair, nib.Nifti2Pair])
    @pytest.mark.parametrize("suffix", [".hdr", ".img"])
    @pytest.mark.parametrize("ending", ["", ".gz"])
    def test_either_file_stands_for_both(self, tmp_path, image_class, suffix, ending):
        pair(tmp_path, ending, image_class)
        array, geometry = formats.read_image(tmp_path / f"x{suffix}{ending}")
        np.testing.assert_array_equal(array, VALUES)
        assert geometry == GRID

    def test_a_plain_header_of_packed_voxels(self, tmp_path):
        pair(tmp_path, ".gz")
        packed = tmp_path / "x.hdr.gz"
        (tmp_path / "x.hdr").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
        np.testing.assert_array_equal(formats.open_volume(tmp_path / "x.hdr").labels()[0], VALUES)

    def test_names_in_upper_case(self, tmp_path):
        pair(tmp_path)
        for suffix in (".hdr", ".img"):
            (tmp_path / f"x{suffix}").rename(tmp_path / f"x{suffix.upper()}")
        np.testing.assert_array_equal(formats.open_volume(tmp_path / "x.IMG").labels()[0], VALUES)

    @pytest.mark.parametrize(
        ("there", "missing"), [(".img", ".hdr"), (".hdr", ".img"), (".hdr.gz", ".img")]
    )
    def test_one_without_the_other(self, tmp_path, there, missing):
        pair(tmp_path, ".gz" if there.endswith(".gz") else "")
        for path in list(tmp_path.iterdir()):
            if path.name != f"x{there}":
                path.unlink()
        path, found = tmp_path / f"x{there}", there.removesuffix(".gz")
        with pytest.raises(FileFormatError) as caught:
            formats.read_image(path)
        assert str(caught.value) == (
            f"{path}: {missing} is missing beside this {found}; expected both of a NIfTI pair; "
            f"copy x{missing} into the same folder"
        )

    @pytest.mark.parametrize("damage", ["half", "gzip", "bomb", "empty"])
    def test_voxels_that_are_not_there(self, tmp_path, damage):
        pair(tmp_path, ".gz" if damage == "gzip" else "")
        path = tmp_path / ("x.img.gz" if damage == "gzip" else "x.img")
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "bomb": content}.get(damage, content[: len(content) // 2]))
        if damage == "bomb":
            header = bytearray((tmp_path / "x.hdr").read_bytes())
            header[42:48] = np.array([32767] * 3, "<i2").tobytes()
            (tmp_path / "x.hdr").write_bytes(header)
        message = {"empty": "the file is empty"}.get(damage, "truncated")
        with pytest.raises(FileFormatError, match=message):
            formats.read_image(tmp_path / path.name.replace("img", "hdr"))

    def test_analyze_is_refused(self, tmp_path):
        nib.save(nib.AnalyzeImage(VALUES, np.eye(4)), tmp_path / "x.img")
        for suffix in (".img", ".hdr"):
            with pytest.raises(FileFormatError) as caught:
                formats.read_image(tmp_path / f"x{suffix}")
            assert str(caught.value) == (
                f"{tmp_path}/x.hdr: not a NIfTI file but Analyze 7.5, which does not say which "
                "side is left; expected NIfTI; export it again from its source"
            )

    def test_a_header_that_says_one_piece(self, tmp_path):
        pair(tmp_path)
        (tmp_path / "x.hdr").write_bytes(nib.Nifti1Image(VALUES, AFFINE).to_bytes())
        with pytest.raises(FileFormatError, match=r"in one piece, with x.img beside it"):
            formats.read_image(tmp_path / "x.img")

    def test_another_file_than_nifti(self, tmp_path):
        (tmp_path / "x.nii").write_bytes(b"hello world" * 99)
        with pytest.raises(FileFormatError, match=r"not a NIfTI file; expected NIfTI \(.nii, "):
            formats.read_image(tmp_path / "x.nii")


WITHOUT_SIMPLEITK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "SimpleITK":
            raise ModuleNotFoundError("No module named 'SimpleITK'", name=name)
sys.meta_path.insert(0, Absent())
from vol3dseg.cli.main import main
main()
"""


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_files_are_read_and_written_without_simpleitk(tmp_path, suffix, model_path, scan):
    formats.write(tmp_path / f"x{suffix}", scan, GRID)
    words = ["predict", model_path, tmp_path / f"x{suffix}", "-o", tmp_path / "O"]
    command = [sys.executable, "-c", WITHOUT_SIMPLEITK, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "O" / f"x{suffix}").is_file()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_from_scan_to_report(vol3dseg, tmp_path, suffix, model_path, scan):
    path = tmp_path / f"in/x{suffix}"
    formats.write(path, scan, GRID)
    done = vol3dseg("predict", model_path, path, "-o", tmp_path / "O")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "O/predictions.json").read_text())
    assert record["cases"]["x"]["file"] == f"x{suffix}"
    done = vol3dseg("predict", model_path, f"--image=flair={path}", "--id", "y", "-o",
                    tmp_path / "Y", "--format", "mha")  # fmt: skip
    assert done.returncode == 0, done.stderr
    values, grid = formats.open_volume(tmp_path / f"O/x{suffix}").labels()
    assert len(np.unique(values)) > 1
    assert grid.fits(GRID, 1e-4)
    # An older one of the same name does not count.
    formats.write(tmp_path / "O/x.nii", np.zeros(SHAPE, np.uint8), GRID)
    formats.write(tmp_path / "R/x.nii.gz", values, GRID)
    done = vol3dseg("evaluate", tmp_path / "O", tmp_path / "R", "-o", tmp_path / "S")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "S/summary.json").read_text())
    assert (found["cases"], found["mean_foreground_dice"]) == (1, 1.0)

    done = vol3dseg("predict", model_path, path, "-o", tmp_path / "O", "--resume")
    assert "1 of 1 cases are complete" in done.stdout
    other = "nrrd" if suffix == ".mha" else "mha"
    words = ("-o", tmp_path / "O", "--resume", "--format", other)
    assert "0 of 1 cases are complete" in vol3dseg("predict", model_path, path, *words).stdout
    assert (tmp_path / f"O/x.{other}").is_file()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_show_takes_any_format(tmp_path, suffix, scan):
    pytest.importorskip("matplotlib")
    formats.write(tmp_path / f"x{suffix}", scan, GRID)
    formats.write(tmp_path / f"y{suffix}", (scan > 100).astype(np.uint8), GRID)
    words = [tmp_path / f"x{suffix}", tmp_path / f"y{suffix}", "-o", tmp_path / "p.png"]
    done = CliRunner().invoke(show, [*map(str, words), "-c", "crops32"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_bad_file_is_one_line_and_leaves_nothing(vol3dseg, tmp_path, model_path, scan):
    path = tmp_path / "x.mha"
    formats.write(path, scan, GRID)
    path.write_bytes(path.read_bytes()[:-9])
    done = vol3dseg("predict", model_path, path, "-o", tmp_path / "O")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert {p.name for p in (tmp_path / "O").iterdir()} == {"predictions.json", LIST_NAME}
    error = json.loads((tmp_path / "O/predictions.json").read_text())["cases"]["x"]["error"]
    assert error.startswith(f"{path}: truncated: header promises ")
    assert "\n" not in error


PLANTED = b"DOE^JOHN"


def test_no_header_text_of_the_source_is_carried_over(vol3dseg, tmp_path, model_path, scan):
    formats.write(tmp_path / "a.nrrd", scan, GRID)
    formats.write(tmp_path / "b.mha", scan, GRID)
    content = (tmp_path / "a.nrrd").read_bytes()
    planted = b"NRRD0004\n# DOE^JOHN\ncontent: DOE^JOHN\nPatientName:=DOE^JOHN\n"
    (tmp_path / "a.nrrd").write_bytes(content.replace(b"NRRD0004\n", planted, 1))
    content = (tmp_path / "b.mha").read_bytes()
    planted = b"Comment = DOE^JOHN\nName = DOE^JOHN\nPatientName = DOE^JOHN\nElementDataFile"
    (tmp_path / "b.mha").write_bytes(content.replace(b"ElementDataFile", planted, 1))
    # Headers that are refused: neither do their errors tell.
    content = (tmp_path / "a.nrrd").read_bytes()
    for name, field, value in (
        ("c", b"encoding: gzip", b"encoding: DOE^JOHN"),
        ("d", b"space: left-posterior-superior", b"space: DOE^JOHN"),
        ("e", b"type: int16", b"type: DOE^JOHN"),
        ("f", b"kinds: domain", b"kinds: DOE^JOHN"),
    ):
        assert field in content
        (tmp_path / f"{name}.nrrd").write_bytes(content.replace(field, value))
    inputs = sorted(p for p in tmp_path.iterdir() if p.suffix in (".nrrd", ".mha"))
    assert len(inputs) == 6
    for written in ("nifti", "nrrd", "mha"):
        out = tmp_path / written
        words = ("-o", out, "--format", written, "--probabilities")
        done = vol3dseg("predict", model_path, *inputs, *words)
        assert "2 cases segmented, 4 failed" in done.stdout, done.stdout + done.stderr
        assert "DOE" not in done.stdout + done.stderr
        files = list(out.iterdir())
        assert len(files) == 6  # two of each case, the record, and the list of these
        for path in files:
            whole = path.read_bytes()
            if path.suffix == ".gz":
                whole = gzip.decompress(whole)
            assert b"DOE" not in whole
