"""Copies block by block equal plain ones, whatever the order of axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.space import memory_layout as layout
from vol3dseg.space.memory_layout import contiguous, copy_voxels, in_portions

orders = st.permutations(range(3))
flips = st.tuples(*[st.sampled_from([-1, 1])] * 3)
shapes = st.tuples(*[st.integers(1, 9)] * 3)


def laid(values, order, signs=(1, 1, 1)):
    """The same values, with axes in another order in memory, perhaps backwards."""
    back = tuple(slice(None, None, sign) for sign in signs)
    result = np.ascontiguousarray(np.transpose(values[back], order))
    return np.transpose(result, np.argsort(order))[back]


@given(shapes, orders, orders, flips, st.sampled_from([np.uint8, np.float32]))
def test_a_copy_block_by_block_is_a_copy(shape, ours, theirs, signs, dtype):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    source = laid(values, theirs, signs)
    np.testing.assert_array_equal(source, values)
    target = laid(np.full(shape, 255, dtype), ours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_ALONG", 2)
        patch.setattr(layout, "_ACROSS", 3)
        copy_voxels(target, source)
        found = contiguous(source)
    np.testing.assert_array_equal(target, values)
    np.testing.assert_array_equal(found, values)
    assert found.flags.c_contiguous


@given(st.lists(st.integers(1, 5), min_size=0, max_size=5))
def test_any_number_of_axes_is_copied(shape):
    values = np.random.default_rng(0).random(shape)
    np.testing.assert_array_equal(contiguous(values.T), values.T)


def test_what_is_contiguous_is_not_copied():
    values = np.zeros((2, 3, 4))
    assert contiguous(values) is values


@given(shapes, orders)
def test_portions_are_views_of_every_voxel_once(shape, order):
    values = laid(np.arange(np.prod(shape)).reshape(shape), order)
    result = np.zeros_like(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_PORTION", 5)
        for part, place in in_portions(values, result):
            assert part.size <= 5
            place += part + 1
    np.testing.assert_array_equal(result, values + 1)
