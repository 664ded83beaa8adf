"""The table of distances beside others: what it holds, and when it fails."""

import nibabel as nib
import numpy as np
import pytest

from benchmarks.contestants.ours_metrics import make
from benchmarks.measuring import Measured
from benchmarks.metrics import TOLERANCE_MM, contestants, prepare, report
from benchmarks.workers import Reply

REGIONS = {"whole tumour": [1, 2, 3]}


def measured(seconds, values=(1.0, 2.0, 0.5)):
    """Every contestant with its best round, and the scores of the last."""
    found = []
    for contestant, best in zip(contestants("masks.npz", REGIONS), seconds, strict=True):
        scores = {"whole tumour": list(values if contestant.name == "MONAI" else (1.0, 2.0, 0.5))}
        replies = [Reply(second, None, scores) for second in (best * 2, best)]
        found.append(Measured(contestant, replies=replies))
    return found


def test_ratios_stand_beside_what_is_asked():
    table, problems = report(measured([0.1, 0.2, 0.3, 1.2]))
    assert "| surface-distance | 0.30 | 3.0 (ours, by area) | 2 |" in table
    assert "| MONAI | 1.20 | 6.0 (ours, by voxels) | 5 |" in table
    assert not problems


@pytest.mark.parametrize(
    ("seconds", "values", "said"),
    [
        ([0.2, 0.2, 0.3, 1.2], (1.0, 2.0, 0.5), "1.5 times as fast as surface-distance, not 2"),
        ([0.1, 0.3, 0.3, 1.2], (1.0, 2.0, 0.5), "4.0 times as fast as MONAI, not 5"),
        ([0.1, 0.2, 0.3, 1.2], (1.0, 2.1, 0.5), "whole tumour: MONAI has"),
    ],
)
def test_who_is_too_slow_or_says_something_else_is_named(seconds, values, said):
    _, problems = report(measured(seconds, values))
    assert len(problems) == 1
    assert said in problems[0]


def test_a_case_is_held_against_a_moved_copy(tmp_path):
    array = np.zeros((24, 20, 16), dtype=np.uint8)
    array[6:14, 6:14, 5:11], array[8:12, 8:12, 6:9] = 2, 4
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a_seg.nii.gz")
    regions = prepare(tmp_path, tmp_path / "masks.npz")
    assert set(regions) == {"whole tumour", "tumour core", "enhancing tumour"}
    settings = {"file": tmp_path / "masks.npz", "regions": regions, "tolerance": TOLERANCE_MM}
    scores = make(settings | {"surface": "area"})["run"]()
    for hd95, assd, nsd in scores.values():
        assert 1 <= hd95 <= 4
        assert 0 < assd < hd95
        assert 0 < nsd < 1
