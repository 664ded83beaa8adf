"""The benchmark of evaluate: the same report on one core and two, and what it refuses."""

import re

import pytest

from benchmarks import evaluating


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluating, "_CT", (24, 24, 30))
    monkeypatch.setattr(evaluating, "_BRATS", (24, 24, 16))
    return tmp_path


def test_it_measures_both_and_says_what_is_too_slow(small, capsys):
    """Two tiny cases are no faster on two cores."""
    with pytest.raises(SystemExit, match=r"less than 1\.8 times as fast"):
        evaluating.main(small, cases=2)
    table = capsys.readouterr().out
    assert 30 < float(re.search(r"peak \[MB\] \| (\d+) \|", table)[1]) < 500
    assert "| 2 BraTS-sized cases, one core [s] |" in table
    scores = [(small / f"report-{n}" / "cases.csv").read_text() for n in (1, 2)]
    assert scores[0] == scores[1]
    assert len(scores[0].splitlines()) == 1 + 2 * 6  # a row for each class and region


def test_other_scores_are_an_error(small, monkeypatch):
    measured = evaluating._evaluate

    def differently(folder, output, config, cores):
        found = measured(folder, output, config, 1)
        if cores == 2:
            (output / "cases.csv").write_text("other\n")
        return found

    monkeypatch.setattr(evaluating, "_evaluate", differently)
    with pytest.raises(SystemExit, match="depend on the number of cores"):
        evaluating.main(small, cases=1)
