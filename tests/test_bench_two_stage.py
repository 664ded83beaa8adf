"""The trial of a pair: what it is tried on, and when it is content."""

import numpy as np
import pytest

from benchmarks.bodies import write_body
from benchmarks.trial_two_stage import Measured, kept, report
from vol3dseg import formats


def test_a_body_has_one_small_organ_within_it(tmp_path):
    files = tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"
    write_body(*files, (60, 60, 70), 6.0, seed=3)
    image, grid = formats.read_image(files[0])
    label, _ = formats.read_image(files[1])
    assert grid.spacing_mm == pytest.approx((6, 6, 6))
    assert image.min() == -1000
    inside = image[label == 1]
    assert 0 < label.mean() < 0.01
    assert 150 < inside.mean() < 190  # HU, brighter than what is beside it, darker than bone
    assert np.count_nonzero((image > 80) & (image < 160)) > 10 * inside.size
    before = files[0].read_bytes()
    write_body(*files, (60, 60, 70), 6.0, seed=4)  # is there already
    assert files[0].read_bytes() == before


@pytest.mark.parametrize(
    ("seconds", "peak_mb", "dice", "expected"),
    [(3, 900, 0.8, True), (3, 900, 0.796, True), (4, 900, 0.8, False), (3, 1100, 0.8, False),
     (3, 900, 0.79, False)],
)  # fmt: skip
def test_what_is_asked_of_a_pair(seconds, peak_mb, dice, expected):
    found = {
        "alone": Measured(9.0, 1000.0, {"organ": 0.8}),
        "pair": Measured(seconds, peak_mb, {"organ": dice}),
    }
    assert kept(found) == expected
    assert f"{9 / seconds:.1f} times as fast" in report(found)
