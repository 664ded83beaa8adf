import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from vol3dseg.config import load_config
from vol3dseg.errors import GridError, LabelError
from vol3dseg.space import memory_layout as layout
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Label, LabelSet, Segmentation, is_labelled

BACKGROUND = Label(name="background", read=(0,), write=0)
BRATS = LabelSet(
    classes=(
        BACKGROUND,
        Label(name="necrotic core", read=(1,), write=1),
        Label(name="edema", read=(2,), write=2),
        Label(name="enhancing", read_either=(4, 3), write=4),
    ),
    regions={"tumour core": ("necrotic core", "enhancing")},
)


@given(arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 3)))
def test_writing_and_reading_keeps_every_voxel(indices):
    written = BRATS.decode(indices)
    assert set(np.unique(written)) <= {0, 1, 2, 4}
    np.testing.assert_array_equal(BRATS.encode(written, "x"), indices)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64])
def test_values_of_any_type(dtype):
    values = np.array([[[0, 4, 2, 1]]], dtype=dtype)
    encoded = BRATS.encode(values, "x")
    assert encoded.dtype == np.uint8
    assert encoded.ravel().tolist() == [0, 3, 2, 1]


@given(
    arrays(np.int16, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 4])),
    st.permutations(range(3)),
    st.sampled_from([-1, 1]),
)
def test_the_order_of_axes_in_memory_does_not_matter(values, order, step):
    view = np.transpose(values, order)[:, ::step]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_PORTION", 7)
        encoded = BRATS.encode(view, "x")
        grid = Geometry(encoded.shape, np.eye(4))
        counts = Segmentation(encoded, grid, BRATS).counts()
    np.testing.assert_array_equal(encoded, np.array([0, 1, 2, 0, 3])[view])
    assert counts == tuple(np.bincount(encoded.ravel(), minlength=4).tolist())


def test_counting_takes_no_memory_of_the_size_of_the_map():
    labels = Segmentation(
        np.ones((128, 128, 128), np.uint8), Geometry((128,) * 3, np.eye(4)), BRATS
    )
    labels.array[::2] = 3
    tracemalloc.start()
    assert labels.counts() == (0, 64 * 128**2, 0, 64 * 128**2)
    assert tracemalloc.get_traced_memory()[1] < labels.array.nbytes
    tracemalloc.stop()


def test_alternatives_between_files():
    assert BRATS.encode(np.array([3, 0]), "x").tolist() == [3, 0]
    assert BRATS.encode(np.array([4, 0]), "x").tolist() == [3, 0]
    with pytest.raises(LabelError, match=r"holds \[4, 3\].*'enhancing'.*resection cavity"):
        BRATS.encode(np.array([3, 4]), "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            [0, 5, 7],
            r"x: holds label values 5, 7 \(2 voxels\); .*reads, \[0, 1, 2, 3, 4\]",
            id="unknown",
        ),
        pytest.param([-1], r"label values -1 \(", id="negative"),
        pytest.param([0.0, 0.5, 0.5], r"holds 0.5, .*2 such voxels.*nearest", id="half"),
        pytest.param([0.0, np.nan], "holds NaN or infinity", id="NaN"),
        pytest.param([np.inf], "holds NaN or infinity", id="infinity"),
    ],
)
def test_values_outside_the_map(values, message):
    with pytest.raises(LabelError, match=message):
        BRATS.encode(np.array(values), "x")


def test_the_hint_for_brats():
    labels = LabelSet(classes=(BACKGROUND, Label(name="tumour", read=(1,), write=1)))
    with pytest.raises(LabelError, match=r"use the brats2020 preset.*use the brats2024 preset"):
        labels.encode(np.array([0, 1, 4]), "x")


def test_brats2024_tells_a_cavity_from_what_enhances():
    """In 2020 3 and 4 are the same class, in 2023 4 is refused."""
    labels = load_config("brats2024").labels
    names = [labels.names[n] for n in labels.encode(np.array([1, 2, 3, 4]), "x")]
    assert names == list(labels.foreground)
    assert labels.decode(np.arange(5, dtype=np.uint8)).tolist() == [0, 1, 2, 3, 4]


def test_floats_near_whole_numbers():
    assert BRATS.encode(np.array([0.9999, 2.0001]), "x").tolist() == [1, 2]


def test_names_and_indices():
    assert BRATS.foreground == ("necrotic core", "edema", "enhancing")
    assert BRATS.indices(BRATS.regions["tumour core"]) == (1, 3)


@pytest.mark.parametrize(
    ("classes", "more", "message"),
    [
        pytest.param([("a", [0], 0), ("a", [1], 1)], {}, "names are used twice", id="name"),
        pytest.param([("a", [0], 0), ("b", [0], 1)], {}, "to read are used twice", id="read"),
        pytest.param([("a", [0], 0), ("b", [1], 0)], {}, "to write are used twice", id="write"),
        pytest.param([("a", [1], 1), ("b", [0], 0)], {}, "first class must be the", id="order"),
        pytest.param([("a", [0], 0)], {}, "at least 2", id="background alone"),
        pytest.param([("a", [0], 0), ("b", [1], 256)], {}, "less than or equal to 255", id="byte"),
        pytest.param(
            [("a", [0], 0), ("b", [1], 1)],
            {"regions": {"r": ["c"]}},
            "unknown classes",
            id="region",
        ),
        pytest.param(
            [("a", [0], 0), ("b", [1], 1)], {"required": ["c"]}, "unknown classes", id="required"
        ),
    ],
)
def test_label_sets_that_contradict_themselves(classes, more, message):
    listed = [{"name": n, "read": r, "write": w} for n, r, w in classes]
    with pytest.raises(ValidationError, match=message):
        LabelSet.model_validate({"classes": listed, **more})


def test_label_sets_differ_in_what_matters_alone():
    other = BRATS.model_copy(
        update={
            "classes": tuple(c.model_copy(update={"write": c.write + 20}) for c in BRATS.classes),
            "regions": {"tumour core": ("enhancing", "necrotic core"), "rim": ("edema",)},
            "required": ("edema",),
        }
    )
    assert BRATS.differences(other, "order", "read") == ""
    assert BRATS.differences(other, "regions") == ("regions.rim: None and ['edema']")


@pytest.mark.parametrize(
    ("change", "aspects", "found"),
    [
        pytest.param({"read": (9, 1)}, ["read"], "values.edema: [2] and [1, 9]", id="values"),
        pytest.param({"read": (9,)}, ["order", "regions"], "", id="values that do not matter"),
        pytest.param({"name": "rim"}, [], "'edema', 'enhancing', 'necrotic core'] and", id="name"),
    ],
)
def test_label_sets_of_other_classes(change, aspects, found):
    classes = list(BRATS.classes)
    classes[2] = classes[2].model_copy(update=change)
    other = BRATS.model_copy(update={"classes": tuple(classes)})
    words = BRATS.differences(other, *aspects)
    assert found in words
    assert bool(found) == bool(words)


def test_the_order_of_classes_matters_where_indices_are_compared():
    turned = BRATS.model_copy(update={"classes": (*BRATS.classes[:1], *BRATS.classes[:0:-1])})
    assert BRATS.differences(turned) == ""
    assert "['background', 'necrotic core'" in BRATS.differences(turned, "order")


def test_segmentation_counts_and_checks_its_shape():
    array = np.array([[[0, 1, 1, 3]]], dtype=np.uint8)
    assert Segmentation(array, Geometry((1, 1, 4), np.eye(4)), BRATS).counts() == (1, 2, 0, 1)
    with pytest.raises(GridError, match=r"array of \(1, 1, 4\); expected \(4, 1, 1\), as its grid"):
        Segmentation(array, Geometry((4, 1, 1), np.eye(4)), BRATS)


MERGED = LabelSet(
    classes=(
        Label(name="background", read=(0, 20), write=0),
        Label(name="tumour", read=(10, 21, -3), write=1),
        Label(name="cavity", read_either=(1, 30), write=2),
    ),
    ignore=(99, 255),
)


def test_values_of_one_class_may_stand_side_by_side():
    indices = MERGED.encode(np.array([0, 20, 10, 21, -3, 30], np.int16), "x")
    assert indices.tolist() == [0, 0, 1, 1, 1, 2]
    assert MERGED.decode(indices).tolist() == [0, 0, 1, 1, 1, 2]


def test_alternatives_are_for_different_files():
    with pytest.raises(
        LabelError, match=r"holds \[1, 30\], of which either is 'cavity'; .* to its `read`"
    ):
        MERGED.encode(np.array([1, 30]), "x")


def test_what_is_not_judged_is_of_no_class():
    found = MERGED.encode(np.array([99, 255, 1, 10, 0, 0]), "x")
    assert found.tolist() == [IGNORED, IGNORED, 2, 1, 0, 0]
    mask = Segmentation(found.reshape(1, 2, 3), Geometry((1, 2, 3), np.eye(4)), MERGED)
    assert mask.counts() == (2, 1, 1)
    assert is_labelled(found).tolist() == [False, False, True, True, False, False]
    nothing = np.full((1, 2, 3), IGNORED, np.uint8)
    assert Segmentation(nothing, mask.geometry, MERGED).counts() == (0, 0, 0)


def test_ignored_values_belong_to_no_class():
    with pytest.raises(ValidationError, match="values to read are used twice: 10"):
        LabelSet.model_validate({**MERGED.model_dump(), "ignore": [10]})


@pytest.mark.parametrize("read", [{}, {"read": (1,), "read_either": (2, 3)}])
def test_a_class_is_read_in_one_way(read):
    with pytest.raises(ValidationError, match=r"needs one of read .* and read_either"):
        Label(name="a", write=1, **read)


def test_label_sets_that_read_otherwise():
    assert MERGED.differences(MERGED.model_copy(update={"ignore": ()}), "read") == (
        "ignore: [99, 255] and []"
    )
    both = MERGED.classes[2].model_copy(update={"read": (1, 30), "read_either": ()})
    other = MERGED.model_copy(update={"classes": (*MERGED.classes[:2], both)})
    assert MERGED.differences(other, "read") == "alternatives: ['cavity'] and []"


def test_predictions_are_read_by_what_is_written():
    """1 is written for a tumour, and read as a cavity."""
    ours, theirs = MERGED.of_predictions(ours=True), MERGED.of_predictions(ours=False)
    ignored = {99: IGNORED, 255: IGNORED}
    assert ours.by_value == {0: 0, 1: 1, 2: 2}
    assert theirs.by_value == {0: 0, 20: 0, 10: 1, 21: 1, -3: 1, 1: 2, 30: 2, 2: 2, **ignored}
    assert ours.names == theirs.names == MERGED.names
