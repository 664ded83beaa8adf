"""What is left of a training is known from what its steps and epochs have taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.training.timing import Timing, duration


def run(timing, epochs, steps, step_s, rest_s, first=0):
    """Return what is said to be left after each step and epoch, and what is, if all are alike."""
    return list(_run(timing, epochs, steps, step_s, rest_s, first))


def _run(timing, epochs, steps, step_s, rest_s, first):
    now, whole = 0.0, (epochs - first) * (steps * step_s + rest_s)
    for _ in range(first, epochs):
        for _ in range(steps):
            now += step_s
            timing.step_ended(now)
            yield timing.left_s, whole - now
        now += rest_s
        timing.epoch_ended(now)
        yield timing.left_s, whole - now


@given(
    st.integers(1, 6), st.integers(0, 5), st.integers(1, 9), st.floats(0.1, 50), st.floats(0, 50)
)
def test_what_is_left_of_an_even_training_is_exact_once_an_epoch_has_ended(
    epochs, first, steps, step_s, rest_s
):
    first = min(first, epochs - 1)
    seen = run(Timing(epochs, first, steps, judged=0), epochs, steps, step_s, rest_s, first)
    # An epoch of one step tells what comes after it, but not what a step takes.
    for left, truth in seen[steps + 1 if steps > 1 else 3 :]:
        assert left == pytest.approx(truth, abs=1e-6 * (1 + seen[0][1]))


def test_nothing_is_said_before_three_steps_and_two_seconds_and_the_first_does_not_count():
    timing, quick = (Timing(epochs=10, first=0, steps=20, judged=3) for _ in range(2))
    said = []
    for now in (30.0, 30.7, 31.4, 32.1):  # TensorFlow built its graph for half a minute
        timing.step_ended(now)
        said.append((timing.left_s is not None, timing.settled))
    assert said == [(False, False), (False, False), (False, False), (True, True)]
    # What is judged takes a third of what is learned from.
    assert timing.left_s == pytest.approx((196 + 10 * 3 / 3) * 0.7)
    for now in (0.0, 0.1, 0.2, 0.3):
        quick.step_ended(now)
    assert (quick.left_s is not None, quick.settled) == (True, False)


def test_what_comes_after_some_epochs_only_counts_by_its_share():
    timing, now = Timing(epochs=8, first=0, steps=2, judged=0, every=4), 0.0
    for epoch in range(1, 6):
        for _ in range(2):
            now += 1.0
            timing.step_ended(now)
        now += 10.0 if epoch == 4 else 2.0  # whole volumes are judged
        timing.epoch_ended(now)
    assert timing.left_s == pytest.approx(3 * (2 * 1.0 + (2 + 2 + 2 + 10) / 4))


def test_steps_that_become_slower_count_within_an_epoch():
    timing = Timing(epochs=4, first=0, steps=5, judged=0)
    run(timing, 1, 5, 1.0, 0.0)
    now = 5.0
    for _ in range(5):
        now += 3.0
        timing.step_ended(now)
    timing.epoch_ended(now)
    assert timing.left_s == pytest.approx(2 * 5 * 3.0)


def test_steps_of_small_patches_tell_what_whole_ones_take():
    timing = Timing(epochs=4, first=0, steps=4, judged=0, shares=[0.25, 0.25, 1, 1])
    for now in (0.0, 0.5, 1.0, 1.5):
        timing.step_ended(now)
    assert timing.step_s == pytest.approx(2.0)
    assert timing.left_s == pytest.approx(4 * 0.5 + 8 * 2.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"), (40, "40 s"), (99.4, "99 s"), (99.6, "2 min"), (720, "12 min"),
        (5960, "99 min"), (6000, "1 h 40 min"), (7200, "2 h"), (12_050, "3 h 20 min"),
        (100_000, "27 h 45 min"),
    ],
)  # fmt: skip
def test_times_are_said_as_exactly_as_an_estimate_is(seconds, said):
    assert duration(seconds) == said
