"""What can be said of an overlay without looking at it: sides, colours, outlines, refusals."""

import tracemalloc

import numpy as np
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.errors import EvaluationError, GridError, IntensityError, MemoryLimitError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.reporting.slices import slices_of
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.volume import Volume

pytest.importorskip("matplotlib")

from matplotlib.image import imread

from vol3dseg.reporting import drawing_files, overlay
from vol3dseg.reporting.drawing_files import draw_files
from vol3dseg.reporting.figures import class_colour
from vol3dseg.reporting.overlay import Look, save_case_overlay, save_overlay

SHAPE = (20, 24, 12)
RAS = Geometry(SHAPE, np.eye(4))
CORE, EDEMA, RIM = 1, 2, 3


def volume(array, grid=RAS):
    return Volume(np.asarray(array, np.float32)[..., None], grid, ("t1",))


@pytest.fixture
def image():
    array = np.zeros(SHAPE, np.float32)
    array[2:-2, 2:-2, 1:-1] = 300
    return volume(array)


@pytest.fixture
def tumour(labels):
    """Edema at the subject's right and front, core in a smaller slice of its own."""
    array = np.zeros(SHAPE, np.uint8)
    array[13:17, 16:20, 6] = EDEMA
    array[13:15, 16:18, 3] = CORE
    return Segmentation(array, RAS, labels)


def axial_view(*given, **options):
    """The slice with most foreground, which is the last one of these tests."""
    return slices_of(*given, **options).views[-1]


def empty(labels):
    return Segmentation(np.zeros(SHAPE, np.uint8), RAS, labels)


def drawn(path, number):
    """Tell where a picture has the colour of a class over white, above the legend."""
    picture = imread(path)[..., :3]
    colour = overlay._OPACITY * np.array(class_colour(number)) + 1 - overlay._OPACITY
    near = np.abs(picture - colour).max(axis=2) < 0.12
    near[int(0.93 * len(picture)) :] = False
    return near


@pytest.fixture
def words(monkeypatch):
    """All titles, captions and names of the next overlay."""
    found = []

    def keep(figure, path):
        texts = [axes.get_title() for axes in figure.axes if axes.get_title()]
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        found.extend([figure.get_suptitle(), *texts, *legend])

    monkeypatch.setattr(overlay, "save_figure", keep)
    return found


def test_original_manual_prediction_then_each_class(image, tumour, tmp_path, words):
    save_overlay(tmp_path / "o.png", image, tumour, tumour, "Case_7")
    title, *rest = words
    assert title.startswith("Case_7: axial slices 4, 7 of 12 from below, R: the subject's right")
    assert "reference outlined" in " ".join(title.split())
    assert rest == [
        "t1\nslice 4", "reference\nslice 4", "prediction\nslice 4",
        "t1\nslice 7", "reference\nslice 7", "prediction\nslice 7",
        "necrotic core: Dice 1.000\nslice 4", "edema: Dice 1.000\nslice 7",
        "enhancing: in neither\nin none of these slices",
        "necrotic core", "edema", "enhancing",
    ]  # fmt: skip


def test_without_a_reference_no_view_and_no_dice(image, tumour, tmp_path, words):
    save_overlay(tmp_path / "o.png", image, tumour, None, "x", Look(slices=(7,)))
    assert words[1:4] == ["t1", "prediction", "necrotic core\nnot in this slice"]
    assert not [text for text in words if "Dice" in text or "reference" in text]


def test_dice_is_of_the_whole_case(image, tumour, labels, tmp_path, words):
    array = tumour.array.copy()
    array[13:15, 16:18, 4] = CORE  # as much again, in another slice than the one drawn
    save_overlay(tmp_path / "o.png", image, Segmentation(array, RAS, labels), tumour, "x")
    assert any(text.startswith("necrotic core: Dice 0.667") for text in words)


def test_the_subjects_right_is_on_the_left_and_the_front_is_up(image, tumour):
    view = axial_view(image, tumour, None)
    rows, columns = np.nonzero(view.prediction)
    height, width = view.grey.shape
    assert columns.mean() < 0.4 * width
    assert rows.mean() < 0.4 * height


def test_the_picture_shows_the_view_as_it_is(image, tumour, tmp_path):
    save_overlay(tmp_path / "o.png", image, tumour, None, "x", Look(slices=(7,)))
    rows, columns = np.nonzero(drawn(tmp_path / "o.png", EDEMA - 1))
    picture = imread(tmp_path / "o.png")
    second_of_three = (columns > picture.shape[1] / 3) & (columns < picture.shape[1] * 2 / 3)
    assert second_of_three.any()
    assert columns[second_of_three].max() < picture.shape[1] / 2
    assert rows[second_of_three].max() < len(picture) / 4


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
    turned = [a.transpose(order)[step] for a in (image.array[..., 0], tumour.array)]
    grid = Geometry(turned[1].shape, affine)
    other = Segmentation(turned[1], grid, labels)
    save_overlay(tmp_path / "other.png", volume(turned[0], grid), other, other, "x")
    np.testing.assert_array_equal(imread(tmp_path / "ras.png"), imread(tmp_path / "other.png"))


def test_each_class_is_drawn_in_the_slice_that_has_most_of_it(image, tumour, tmp_path):
    save_overlay(tmp_path / "o.png", image, tumour, tumour, "x")
    assert drawn(tmp_path / "o.png", EDEMA - 1).any()
    assert drawn(tmp_path / "o.png", CORE - 1).any()  # lies in another slice
    save_overlay(tmp_path / "one.png", image, tumour, tumour, "x", Look(slices=(7,)))
    assert not drawn(tmp_path / "one.png", CORE - 1).any()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
@pytest.mark.parametrize(
    ("plane", "numbers"), [("axial", [4, 7]), ("coronal", [17]), ("sagittal", [14])]
)
def test_classes_that_lie_apart_bring_slices(plane, numbers, order, image, tumour, labels):
    """However the axes lie in memory; two classes side by side need one slice."""
    affine = np.eye(4)[:, [*order, 3]]
    arrays = [a.transpose(order) for a in (image.array[..., 0], tumour.array)]
    grid = Geometry(arrays[1].shape, affine)
    found = Segmentation(arrays[1], grid, labels)
    slices = slices_of(volume(arrays[0], grid), found, None, plane)
    assert [view.number for view in slices.views] == numbers
    assert len({view.grey.shape for view in slices.views}) == 1
    view, there = slices.best(CORE)
    assert there
    assert np.count_nonzero(view.prediction == CORE) == (4 if plane == "axial" else 2)


def test_a_slice_with_little_of_a_class_does_not_stand_for_it(image, tumour, labels):
    array = tumour.array.copy()
    array[2:9, 2:9, 9] = RIM
    array[13, 21, 6] = RIM  # beside the edema
    array[13:15, 16:18, 6] = CORE
    slices = slices_of(image, Segmentation(array, RAS, labels), None)
    assert [view.number for view in slices.views] == [7, 10]


def test_a_false_find_does_not_stand_for_a_class_of_the_reference(image, tumour, labels):
    array = tumour.array.copy()
    array[3:9, 3:9, 6] = CORE  # where the reference has none of it
    slices = slices_of(image, Segmentation(array, RAS, labels), tumour)
    assert [view.number for view in slices.views] == [4, 7]
    assert slices.best(CORE)[0].number == 4


@pytest.mark.parametrize("number", [0, 13])
def test_a_slice_that_is_not_there_is_refused(number, image, tumour):
    with pytest.raises(GridError, match=rf"no axial slice {number}; expected 1 to 12; .*--slice"):
        slices_of(image, tumour, None, "axial", [number])


def test_front_is_left_and_above_is_up_in_sagittal_slices(image, tumour):
    view = slices_of(image, tumour, None, "sagittal").views[0]
    rows, columns = np.nonzero(view.prediction == EDEMA)
    height, width = view.grey.shape
    assert columns.mean() < 0.4 * width
    assert rows.mean() == pytest.approx(height - 1 - 6 - (12 - height) / 2, abs=1)


def test_a_window_is_black_below_and_white_above(image, tumour, tmp_path, words, monkeypatch):
    shown = []
    draw = overlay._draw_image
    monkeypatch.setattr(overlay, "_draw_image", lambda *a: (shown.append(a[3]), draw(*a)))
    save_overlay(tmp_path / "o.png", image, tumour, None, "x", Look(window=(100, 250)))
    assert {each[:2] for each in shown} == {(100, 250)}
    assert words[1].startswith("t1, 100 to 250")


LEVELS = [
    pytest.param(lambda t, e: (t, None), 6, id="no reference"),
    pytest.param(lambda t, e: (t, e), 6, id="empty reference"),
    pytest.param(lambda t, e: (e, t), 6, id="empty prediction"),
    pytest.param(lambda t, e: (e, e), 6, id="both empty: the middle"),
    pytest.param(lambda t, e: (t, t.moved), 7, id="the reference goes first"),
]


@pytest.mark.parametrize(("maps", "level"), LEVELS)
def test_which_slice(maps, level, image, tumour, labels):
    class Tumour:
        moved = Segmentation(np.roll(tumour.array, 1, axis=2), RAS, labels)

        def __getattr__(self, name):
            return getattr(tumour, name)

    prediction, reference = maps(Tumour(), empty(labels))
    assert level + 1 in [view.number for view in slices_of(image, prediction, reference).views]


def test_an_outline_is_the_reference_and_nothing_else(image, tumour, labels):
    from matplotlib.figure import Figure

    def edges(mask):
        axes = Figure().subplots()
        overlay._outline(axes, mask)
        return {tuple(map(tuple, segment)) for segment in axes.collections[0].get_segments()}

    mask = np.zeros((4, 5), bool)
    mask[0, 3:] = True  # two voxels, at the border of the picture
    across = {((x, y), (x + 1, y)) for x in (2.5, 3.5) for y in (-0.5, 0.5)}
    assert edges(mask) == across | {((x, -0.5), (x, 0.5)) for x in (2.5, 4.5)}
    assert edges(np.zeros((4, 5), bool)) == set()


def test_an_outline_is_drawn_where_the_class_was_not_found(image, tumour, labels, tmp_path):
    one = Look(slices=(7,))
    save_overlay(tmp_path / "found.png", image, empty(labels), tumour, "x", one)
    save_overlay(tmp_path / "none.png", image, empty(labels), empty(labels), "x", one)
    black = [(imread(tmp_path / f"{n}.png")[..., :3] < 0.1).all(axis=2) for n in ("found", "none")]
    half = len(black[0]) // 2
    assert (black[0] & ~black[1])[half:].sum() > 200


def test_zeros_around_are_cut_off_but_no_label(image, tumour, labels):
    array = tumour.array.copy()
    array[0, 0, 6] = RIM  # outside the body, in the corner
    assert axial_view(image, tumour, None).grey.shape == (24, 20)
    small = np.zeros(SHAPE, np.float32)
    small[9, 9, 6] = 1
    assert axial_view(volume(small), empty(labels), None).grey.shape == (7, 7)
    view = axial_view(volume(small), Segmentation(array, RAS, labels), None)
    assert set(np.unique(view.prediction)) == {0, EDEMA, RIM}


def test_slices_of_long_voxels_are_drawn_in_proportion(image, tumour, labels, tmp_path):
    long = Geometry(SHAPE, np.diag([1.0, 2.0, 1.0, 1.0]))
    view = axial_view(
        volume(image.array[..., 0], long), Segmentation(tumour.array, long, labels), None
    )
    assert (view.aspect, view.size_mm) == (2, (20, 48))


def test_a_view_takes_memory_for_its_slice_and_not_for_the_volume(labels):
    shape = (96, 96, 160)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])[:, [2, 0, 1, 3]]  # as many CTs are: turned and flipped
    grid = Geometry(shape, affine)
    scan = volume(np.ones(shape, np.float32), grid)
    array = np.zeros(shape, np.uint8)
    array[20:60, 20:60, 30:40] = EDEMA
    found = Segmentation(array, grid, labels)
    tracemalloc.start()
    axial_view(scan, found, found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.size  # a byte a voxel; the image alone has four


TEN = LabelSet(classes=[{"name": f"organ {n}", "read": [n], "write": n} for n in range(11)])
ONE = LabelSet(
    classes=[
        {"name": "background", "read": [0], "write": 0},
        {"name": r"_$a_$ \frac{" + "very long " * 9, "read": [1], "write": 1},
    ]
)
ODD = [
    pytest.param(np.zeros(SHAPE, np.float32), 0, TEN, "x", id="nothing to see, ten classes"),
    pytest.param(np.full(SHAPE, -3.0, np.float32), 1, ONE, "x", id="one negative value"),
    pytest.param(np.ones(SHAPE, np.float32), 9, TEN, r"$a_$ \frac{", id="a title like TeX"),
    pytest.param(np.ones((1, 24, 1), np.float32), 1, ONE, "x", id="one voxel wide"),
    pytest.param(np.ones((24, 1, 1), np.float32), 1, ONE, "x" * 300, id="one voxel high"),
]


@pytest.mark.parametrize(("array", "value", "classes", "title"), ODD)
def test_odd_pictures_are_drawn(array, value, classes, title, tmp_path):
    grid = Geometry(array.shape, np.eye(4))
    label = Segmentation(np.full(array.shape, value, np.uint8), grid, classes)
    save_overlay(tmp_path / "o.png", volume(array, grid), label, label, title)
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_other_grids_are_refused(image, tumour, labels, tmp_path):
    moved = RAS.cropped(Box((1, 0, 0), (21, 24, 12)))
    other = Segmentation(tumour.array, moved, labels)
    with pytest.raises(GridError, match=r"case x: image and reference lie on different"):
        save_overlay(tmp_path / "o.png", image, tumour, other, "x")
    with pytest.raises(GridError, match=r"image and prediction .*from \(1, 0, 0\) mm; .*; draw"):
        save_overlay(tmp_path / "o.png", image, other, None, "x")
    assert not any(tmp_path.iterdir())


def test_files_that_do_not_fit_into_memory_are_named(case, labels, tmp_path, monkeypatch):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr(drawing_files, "read_labels", full)
    with pytest.raises(MemoryLimitError, match=r"seg\.nii\.gz: image and label maps do not fit"):
        draw_files(case.label, case.label, tmp_path / "o.png", config="crops32")


def test_other_classes_are_refused(image, tumour, tmp_path):
    other = Segmentation(tumour.array % 2, RAS, ONE)
    with pytest.raises(EvaluationError, match=r"case x: .* read both with one label set"):
        save_overlay(tmp_path / "o.png", image, tumour, other, "x")


@pytest.fixture
def case(tumour, tmp_path):
    path = tmp_path / "case" / "seg.nii.gz"
    nifti.write(path, tumour.labels.decode(tumour.array), RAS)
    return Case("C", "C", {"t1": ImageSource(path)}, path)


def test_a_case_is_drawn_beside_its_own_label_map(case, image, tumour, tmp_path, words):
    assert save_case_overlay(tmp_path / "o.png", case, image, tumour, "t1") == ""
    assert "reference\nslice 7" in words


def test_label_maps_without_names_are_drawn_by_their_values(case, tumour, tmp_path, words):
    other = tmp_path / "other" / "x.nii.gz"
    nifti.write(other, (tumour.array == EDEMA).astype(np.uint8) * 7, RAS)
    draw_files(case.label, case.label, tmp_path / "o.png", reference=other)
    assert words[-3:] == ["value 1", "value 2", "value 7"]
    assert "value 2: Dice 0.000\nslice 7" in words


def test_the_window_of_the_config_is_shown(case, tmp_path, words):
    config = tmp_path / "ct.yaml"
    config.write_text("""extends: crops32
recipe: {normalisation: {method: window, low: -100, high: 200}}
""")
    draw_files(case.label, case.label, tmp_path / "o.png", config=config)
    assert words[1].startswith("seg, -100 to 200")
    draw_files(case.label, case.label, tmp_path / "o.png", config=config, window=(0, 5))
    assert "seg, 0 to 5\nslice 7" in words
    for window in ((5, 0), (1, 1), (0, float("inf")), (float("nan"), 1)):
        with pytest.raises(IntensityError, match=r"the lower one first; choose another --window"):
            draw_files(case.label, case.label, tmp_path / "o.png", window=window)


def test_the_modality_asked_for_is_drawn(case, image, tumour, tmp_path, words, monkeypatch):
    shown = []

    def seen(volume, *maps):
        shown.append(volume.array)
        return slices_of(volume, *maps)

    monkeypatch.setattr(overlay, "slices_of", seen)
    stack = Volume(np.concatenate([image.array, image.array + 7], axis=3), RAS, ("t1", "flair"))
    save_case_overlay(tmp_path / "o.png", case, stack, tumour, "flair")
    assert words[1].startswith("flair")
    np.testing.assert_array_equal(shown[0], image.array + 7)


def test_a_label_map_that_cannot_be_read_is_left_out_and_said(case, image, tumour, tmp_path, words):
    case.label.write_bytes(b"")
    note = save_case_overlay(tmp_path / "o.png", case, image, tumour, "t1")
    assert note.startswith("drawn without reference: ")
    assert "seg.nii.gz: the file is empty" in note
    assert "reference" not in words


def test_a_whole_scan_is_shown_where_its_tumour_is_largest(shared_data, labels):
    for case in find_cases(shared_data / "brats"):
        scan = read_volume(case, ["flair"])
        reference = read_segmentation(case, labels, scan.geometry)
        areas = (reference.array > 0).sum(axis=(0, 1))
        (view,) = slices_of(scan, reference, reference).views
        assert np.count_nonzero(view.reference) == areas.max()
        assert view.number == areas.argmax() + 1
        assert max(view.grey.shape) < 200  # of 240 x 240: the empty border is cut off
