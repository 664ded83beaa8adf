"""What can be said of pictures without looking at them: size, sides, colours, refusals."""

import subprocess
import sys

import numpy as np
import pytest

from vol3dseg.errors import EvaluationError, MissingExtraError, OutputError
from vol3dseg.volumes.box import Box
from vol3dseg.volumes.geometry import Geometry
from vol3dseg.volumes.labels import Segmentation

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb
from matplotlib.image import imread

from vol3dseg.evaluation.figures import COLOURS, save_curves, save_overlay, save_split

SHAPE = (20, 24, 12)
RAS = Geometry(SHAPE, np.eye(4))


@pytest.fixture
def image():
    array = np.zeros(SHAPE, np.float32)
    array[2:-2, 2:-2, 1:-1] = 300
    return array


@pytest.fixture
def tumour(labels):
    """Edema at the subject's right and front, core in a smaller slice of its own."""
    array = np.zeros(SHAPE, np.uint8)
    array[13:17, 16:20, 6] = 2
    array[13:15, 16:18, 3] = 1
    return Segmentation(array, RAS, labels)


def where(path, colour):
    """Return the centre of what is drawn in about this colour, as shares of width and height."""
    picture = imread(path)[..., :3]
    legend = int(0.9 * len(picture))
    near = np.abs(picture[:legend] - np.array(colour)).max(axis=2) < 0.12
    assert near.any(), "nothing has this colour"
    rows, columns = np.nonzero(near)
    return columns.mean() / picture.shape[1], rows.mean() / len(picture)


def on_white(number):
    """Return a class's colour where it covers a voxel of white."""
    return 0.7 * np.array(to_rgb(COLOURS[number])) + 0.3


def test_the_subjects_right_is_on_the_left_and_the_front_is_up(image, tumour, tmp_path):
    save_overlay(tmp_path / "o.png", image, None, tumour, "x")
    column, row = where(tmp_path / "o.png", on_white(1))
    assert 0.5 < column < 0.75  # of the second panel the left half
    assert row < 0.5


ORIENTATIONS = [
    pytest.param((0, 1, 2), (1, 1, 1), id="RAS"),
    pytest.param((0, 1, 2), (-1, -1, 1), id="LPS"),
    pytest.param((2, 0, 1), (1, -1, -1), id="SLP"),
]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_picture_does_not_depend_on_the_order_of_axes(
    order, signs, image, tumour, labels, tmp_path
):
    save_overlay(tmp_path / "ras.png", image, tumour, tumour, "x")
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        affine[old, new], affine[old, 3] = sign, 0 if sign == 1 else SHAPE[old] - 1
    step = tuple(slice(None, None, sign) for sign in signs)
    turned = [array.transpose(order)[step] for array in (image, tumour.array)]
    other = Segmentation(turned[1], Geometry(turned[1].shape, affine), labels)
    save_overlay(tmp_path / "other.png", turned[0], other, other, "x")
    np.testing.assert_array_equal(imread(tmp_path / "ras.png"), imread(tmp_path / "other.png"))


def test_all_classes_of_the_slice_with_most_foreground_are_drawn(image, tumour, tmp_path):
    save_overlay(tmp_path / "o.png", image, tumour, tumour, "x")
    where(tmp_path / "o.png", on_white(1))
    with pytest.raises(AssertionError, match="nothing has this colour"):
        where(tmp_path / "o.png", on_white(0))  # lies in a smaller slice


def test_an_empty_reference_leaves_the_slice_to_the_prediction(image, tumour, labels, tmp_path):
    empty = Segmentation(np.zeros(SHAPE, np.uint8), RAS, labels)
    save_overlay(tmp_path / "o.png", image, empty, tumour, "x")
    assert where(tmp_path / "o.png", on_white(1))[0] > 2 / 3


def test_slices_of_long_voxels_are_drawn_in_proportion(image, tumour, labels, tmp_path):
    long = Segmentation(tumour.array, Geometry(SHAPE, np.diag([1.0, 2.0, 1.0, 1.0])), labels)
    save_overlay(tmp_path / "cube.png", image, None, tumour, "x")
    save_overlay(tmp_path / "long.png", image, None, long, "x")
    assert len(imread(tmp_path / "long.png")) > 1.6 * len(imread(tmp_path / "cube.png"))


ODD = [
    pytest.param(np.zeros(SHAPE, np.float32), 0, "x", id="nothing to see"),
    pytest.param(np.full(SHAPE, -3.0, np.float32), 1, "x", id="one negative value"),
    pytest.param(np.ones(SHAPE, np.float32), 3, r"$a_$ \frac{", id="a title like TeX"),
]


@pytest.mark.parametrize(("array", "value", "title"), ODD)
def test_odd_pictures_are_drawn(array, value, title, labels, tmp_path):
    label = Segmentation(np.full(SHAPE, value, np.uint8), RAS, labels)
    save_overlay(tmp_path / "o.png", array, label, label, title)
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_other_grids_are_refused(image, tumour, labels, tmp_path):
    crop = RAS.cropped(Box((1, 0, 0), (21, 24, 12)))
    moved = Segmentation(tumour.array, crop, labels)
    for array, reference in ((image[1:], None), (image, moved)):
        with pytest.raises(EvaluationError, match=r"x: .* must lie on one grid"):
            save_overlay(tmp_path / "o.png", array, reference, tumour, "x")
    assert not any(tmp_path.iterdir())


SPLITS = [
    pytest.param({"train": "abcde", "validation": "fg", "test": "h"}, id="three parts"),
    pytest.param({"train": "abcde", "validation": "", "test": ""}, id="one part"),
    pytest.param({"train": "", "validation": "", "test": ""}, id="no cases"),
]


@pytest.mark.parametrize("parts", SPLITS)
def test_split(parts, tmp_path):
    save_split(tmp_path / "split.png", {name: list(ids) for name, ids in parts.items()})
    picture = imread(tmp_path / "split.png")[..., :3]
    bar = picture[len(picture) // 2]
    total = max(sum(map(len, parts.values())), 1)
    for number, ids in enumerate(parts.values()):
        width = (np.abs(bar - np.array(to_rgb(COLOURS[number]))).max(axis=1) < 0.02).mean()
        assert width == pytest.approx(len(ids) / total, abs=0.05)


LOGS = [
    pytest.param(
        "epoch,dice,dice_edema,loss,val_dice,val_dice_edema,val_loss\n"
        "0,0.1,0.2,1.5,0.1,0.1,1.6\n1,0.4,0.5,1.1,0.3,0.4,1.2\n",
        id="usual",
    ),
    pytest.param("epoch,dice,loss\n0,0.1,1.5\n", id="one epoch without validation"),
    pytest.param("epoch,loss,val_loss\n0,1.5,\n1,nan,1.2\n", id="no Dice and gaps"),
]


@pytest.mark.parametrize("log", LOGS)
def test_curves(log, tmp_path):
    (tmp_path / "training.log").write_text(log)
    save_curves(tmp_path / "curves.png", tmp_path / "training.log")
    assert imread(tmp_path / "curves.png").std() > 0.05


def test_curves_of_nothing_are_refused(tmp_path):
    (tmp_path / "training.log").write_text("")
    with pytest.raises(EvaluationError, match=r"training\.log: holds no epoch"):
        save_curves(tmp_path / "curves.png", tmp_path / "training.log")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"split\.png: cannot be written"):
        save_split(tmp_path / "file" / "split.png", {"train": ["a"]})


def test_pictures_leave_pyplot_alone(tmp_path):
    code = f"""
import sys
from pathlib import Path
from vol3dseg.evaluation.figures import save_split
save_split(Path({str(tmp_path)!r}) / "split.png", {{"train": ["a"]}})
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vol3dseg\[report\]'"):
        save_split(tmp_path / "split.png", {"train": ["a"]})
