"""The trials of missing modalities and partial labels: who learns what, and what is compared."""

import numpy as np
import pytest

from benchmarks import trial_missing, trial_partial
from tests.conftest import write_case
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_case
from vol3dseg.datasets.splits import Split
from vol3dseg.reporting.score_files import PartScores
from vol3dseg.space.labels import Segmentation

pytest.importorskip("scipy")
MODALITIES = ("flair", "t1", "t1ce", "t2")


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    for number in range(1, 4):
        write_case(
            folder, f"Case_{number:03d}", np.random.default_rng(number), modalities=MODALITIES
        )
    return folder


def test_each_modality_is_missing_in_turn(crops, tmp_path, labels):
    split = Split(train=("Case_001",), test=("Case_002", "Case_003"))
    split.write(tmp_path / "split.json")
    asked = []

    def way(name, off):
        def segment(volume, missing):
            asked.append((name, missing))
            _, reference = read_case(find_cases(crops)[1], MODALITIES, labels)
            array = reference.array.copy()
            array[:off] = 0
            return Segmentation(array, volume.geometry, labels)

        return segment

    ways = {trial_missing.PLAIN: way("a", 11), trial_missing.TAUGHT: way("b", 0)}
    found = trial_missing.score(crops, tmp_path / "split.json", MODALITIES, ways)
    assert list(found) == ["", *MODALITIES]
    assert len(asked) == 2 * 2 * 5
    table = trial_missing.report(found)
    assert "| nothing | plain |" in table
    assert "| t1ce: with dropout - plain | +" in table


def test_half_of_the_cases_lose_a_class_and_say_so(crops, tmp_path, labels):
    cases = find_cases(crops, MODALITIES)
    split = Split(train=("Case_001", "Case_002"), validation=("Case_003",))
    without = trial_partial.halved(split)
    assert without == ("Case_001", "Case_003")
    for said in (True, False):
        folder = tmp_path / f"said-{said}"
        trial_partial.blind(cases, without, folder, labels, said)
        for case in find_cases(folder, MODALITIES):
            _, whole = read_case(next(c for c in cases if c.id == case.id), MODALITIES, labels)
            _, found = read_case(case, MODALITIES, labels)
            lost = case.id in without
            enhancing = labels.index("enhancing")
            assert (found.array == enhancing).any() == (not lost)
            assert found.unannotated == (("enhancing",) if lost and said else ())
            rest = whole.array != enhancing
            np.testing.assert_array_equal(found.array[rest], whole.array[rest])


def test_what_the_partial_trial_prints():
    names = load_config("crops32").labels.foreground
    parts = {
        way: PartScores("test", {n: {"a": dice, "b": dice + 0.01} for n in names}, {}, "undefined")
        for way, dice in zip(
            (trial_partial.WHOLE, trial_partial.SAID, trial_partial.UNSAID), (0.8, 0.78, 0.5),
            strict=True,
        )
    }  # fmt: skip
    table = trial_partial.report(parts)
    assert "| half, and said so - all annotated | -0.0200" in table
    assert "| half, left as background - all annotated | -0.3000" in table
