import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.errors import GridError
from vol3dseg.space.box import Box, grid_boxes, read_padded

starts = st.tuples(*[st.integers(-5, 5)] * 3)
shapes = st.tuples(*[st.integers(0, 6)] * 3)
boxes = st.builds(Box.at, starts, shapes)
full_boxes = st.builds(Box.at, starts, st.tuples(*[st.integers(1, 6)] * 3))


@st.composite
def coverings(draw):
    shape = draw(st.tuples(*[st.integers(1, 14)] * 3))
    size = draw(st.tuples(*[st.integers(1, 10)] * 3))
    step = tuple(draw(st.integers(1, n)) for n in size)
    return shape, size, step


@given(coverings())
def test_grid_boxes_cover_every_voxel(covering):
    shape, size, step = covering
    seen = np.zeros(shape, dtype=int)
    for box in grid_boxes(shape, size, step):
        assert box.shape == size
        seen[box.intersection(Box.whole(shape)).slices] += 1
    assert seen.min() >= 1


@given(coverings())
def test_grid_boxes_reach_beyond_short_axes_only(covering):
    shape, size, step = covering
    for box in grid_boxes(shape, size, step):
        for axis in range(3):
            before, behind = -box.start[axis], box.stop[axis] - shape[axis]
            if shape[axis] >= size[axis]:
                assert before <= 0 >= behind
            else:
                assert 0 <= behind - before <= 1  # in the middle


@given(coverings())
def test_grid_boxes_are_all_different(covering):
    found = list(grid_boxes(*covering))
    assert len(set(found)) == len(found)


def test_grid_boxes_by_hand():
    found = [(b.start[0], b.stop[0]) for b in grid_boxes((10, 2, 4), (4, 4, 4), (3, 4, 4))]
    assert found == [(0, 4), (3, 7), (6, 10)]
    assert {b.start[1] for b in grid_boxes((10, 2, 4), (4, 4, 4), (3, 4, 4))} == {-1}


@pytest.mark.parametrize("step", [pytest.param(0, id="none"), pytest.param(5, id="gaps")])
def test_grid_boxes_refuse_steps_that_leave_gaps(step):
    with pytest.raises(GridError, match="expected 1 to the box's size"):
        list(grid_boxes((9, 9, 9), (4, 4, 4), (4, 4, step)))


@given(boxes)
def test_a_box_comes_back_from_its_text(box):
    assert Box.parse(str(box)) == box


@pytest.mark.parametrize("text", ["", "1:2", "1:2 3:4 5", "1:2 3:4 5:6 7:8", "0:4 0:4 0:\u00b2"])
def test_text_that_is_no_box(text):
    with pytest.raises(GridError, match="expected three start:stop pairs"):
        Box.parse(text)


def test_stop_before_start():
    with pytest.raises(GridError, match="stop lies before start"):
        Box((0, 0, 2), (1, 1, 1))


@given(full_boxes, full_boxes)
def test_union_holds_both_and_intersection_is_held(a, b):
    assert a.union(b) == b.union(a)
    assert a.intersection(a.union(b)) == a
    assert a.union(a.intersection(b)) == a or 0 in a.intersection(b).shape


@given(boxes, starts)
def test_shifting_back(box, offset):
    assert box.shifted(offset).shifted([-d for d in offset]) == box
    assert box.relative_to(box).start == (0, 0, 0)


@given(full_boxes, full_boxes)
def test_the_box_around_a_filled_box(outer, inner):
    place = inner.intersection(outer).relative_to(outer)
    mask = np.zeros(outer.shape, dtype=bool)
    if 0 in place.shape:
        assert Box.around(mask) is None
    else:
        mask[place.slices] = True
        assert Box.around(mask) == place


@given(full_boxes, st.integers(0, 2))
def test_reading_with_padding_equals_padding_then_reading(box, channels):
    source = np.arange(1, 1 + 4 * 5 * 3).reshape(4, 5, 3)
    if channels:
        source = np.stack([source] * channels, axis=-1)
    widths = [(12, 12)] * 3 + [(0, 0)] * (source.ndim - 3)
    padded = np.pad(source, widths, constant_values=-7)
    expected = padded[box.shifted((12, 12, 12)).slices]
    np.testing.assert_array_equal(read_padded(source, box, fill=-7), expected)
