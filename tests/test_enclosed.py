"""Holes of a mask are what no path by faces leads out of."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.space.enclosed import ENCLOSED_BYTES, fill_holes


def filled_by_walking(mask):
    """Walk from every face through what is not in the mask."""
    outside = np.zeros(np.array(mask.shape) + 2, dtype=bool)
    passable = np.pad(~mask, 1, constant_values=True)
    waiting = [(0, 0, 0)]
    outside[0, 0, 0] = True
    while waiting:
        at = waiting.pop()
        for axis in range(3):
            for step in (-1, 1):
                to = tuple(n + step * (a == axis) for a, n in enumerate(at))
                inside = all(0 <= n < size for n, size in zip(to, outside.shape, strict=True))
                if inside and passable[to] and not outside[to]:
                    outside[to] = True
                    waiting.append(to)
    return ~outside[1:-1, 1:-1, 1:-1]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    share=st.sampled_from([0.3, 0.6, 0.7, 0.9]),
    order=st.permutations(range(3)),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_filled(shape, share, order, seed):
    mask = (np.random.default_rng(seed).random(shape) < share).transpose(order)
    expected = filled_by_walking(mask)
    fill_holes(mask)
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 130])
@pytest.mark.parametrize("closed", [True, False])
def test_a_long_way_within_and_between_words(length, closed):
    mask = np.ones((3, 3, length + 2), dtype=bool)
    mask[1, 1, 1:-1] = False
    mask[1, 1, -1] = closed
    fill_holes(mask)
    assert mask[1, 1, 1:-1].all() == closed


def test_a_way_that_turns_back_again_and_again():
    mask = np.ones((3, 41, 41), dtype=bool)
    for turn in range(1, 40, 2):
        mask[1, turn, 1:-1] = False
        mask[1, turn + 1, 1 if turn % 4 == 1 else 39] = turn == 39
    mask[1, 1, 0] = False  # the way out
    expected = mask.copy()
    fill_holes(mask)
    np.testing.assert_array_equal(mask, expected)
    mask[1, 1, 0] = True
    fill_holes(mask)
    assert mask.all()


def test_memory_in_noise():
    mask = np.random.default_rng(0).random((90, 100, 120)) < 0.5
    tracemalloc.start()
    fill_holes(mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ENCLOSED_BYTES * mask.size
