"""Which validation cases are segmented while training, and after which epochs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

from vol3dseg.training.whole_volumes import VolumeDice, choose_cases  # noqa: E402 - after the skip

VOLUMES_ML = {f"case {n}": float(n % 7) for n in range(20)}


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_cases_are_spread_over_foreground_volumes(count, seed):
    chosen = choose_cases(VOLUMES_ML, count, seed)
    assert chosen == choose_cases(dict(reversed(VOLUMES_ML.items())), count, seed)
    assert len(set(chosen)) == len(chosen) == min(count, 20)
    volumes = [VOLUMES_ML[case] for case in chosen]
    assert volumes == sorted(volumes)
    # Whichever is chosen, no volume lies further from one of the chosen than a part is wide.
    ranks = [sorted(VOLUMES_ML.values()).index(volume) for volume in volumes]
    assert max(np.diff([0, *ranks, 19])) <= 2 * -(-20 // count) + 2


def test_another_seed_chooses_others_and_none_means_all():
    assert len({tuple(choose_cases(VOLUMES_ML, 3, seed)) for seed in range(8)}) > 4
    assert sorted(choose_cases(VOLUMES_ML, None, 0)) == sorted(VOLUMES_ML)
    assert choose_cases({}, 3, 0) == []


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [
        pytest.param(2, 5, [2, 4, 5], id="the last as well"),
        pytest.param(1, 2, [1, 2], id="each"),
        pytest.param(9, 3, [3], id="more than there are"),
    ],
)
def test_epochs_are_judged_when(every, epochs, expected):
    judged = VolumeDice(lambda: 0.5, every, epochs)
    logs = [{} for _ in range(epochs)]
    for epoch, log in enumerate(logs):
        judged.on_epoch_end(epoch, log)
    assert [n for n, log in enumerate(logs, 1) if log["val_volume_dice"] == 0.5] == expected


def test_cases_without_any_foreground_have_no_dice():
    log = {}
    VolumeDice(lambda: None, 1, 1).on_epoch_end(0, log)
    assert np.isnan(log["val_volume_dice"])
