"""Several sets of predictions, compared case by case where they were judged alike."""

import json
import math
import re

import numpy as np
import pytest

pytest.importorskip("scipy")

from click.testing import CliRunner

from vol3dseg.cli.evaluate import evaluate as command
from vol3dseg.errors import EvaluationError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.reporting.predictions_compared import compare_evaluations, names_of
from vol3dseg.reporting.score_files import CASE_MEAN
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.space.geometry import Geometry

GRID = Geometry((12, 12, 12), np.diag([1.0, 1.0, 2.0, 1.0]))


@pytest.fixture
def folders(tmp_path):
    """References, and predictions that are off by one voxel and by two."""
    for number in range(6):
        array = np.zeros(GRID.shape, np.uint8)
        array[2:7, 2 : 6 + number % 3, 3:8] = 2
        array[4:6, 3:5, 4:6] = 1
        array[7:9, 2:6, 4:6] = 4
        for name, off in (("references", 0), ("near", 1), ("far", 2)):
            moved = np.roll(array, off, axis=1)
            nifti.write(tmp_path / name / f"case_{number}.nii.gz", moved, GRID)
    return {name: str(tmp_path / name) for name in ("near", "far", "references")}


def judged(folders, *names, **options):
    references = folders["references"]
    return {n: evaluate(folders[n], references, config="crops32", **options) for n in names}


def test_the_nearer_is_better_in_every_score(folders):
    found = compare_evaluations(judged(folders, "near", "far"))
    pairs = {pair.score: pair for pair in found.pairs}
    assert set(pairs) == {"dice", "hd95_mm", "surface_dice"}
    for score, pair in pairs.items():
        assert (pair.first, pair.second) == ("near", "far")
        for difference in pair.differences:
            assert difference.cases == 6
            assert (difference.mean < 0) == (score == "hd95_mm"), (score, difference)
    names = [difference.structure for difference in pairs["dice"].differences]
    assert names[-1] == CASE_MEAN
    assert "enhancing tumour" not in names  # a region of one class is no test of its own


def test_the_difference_is_that_of_the_means(folders):
    evaluations = judged(folders, "near", "far")
    found = compare_evaluations(evaluations)
    for pair in found.pairs:
        for difference in pair.differences[:-1]:
            means = [
                each.summaries["all"].statistics[difference.structure][pair.score].mean
                for each in evaluations.values()
            ]
            assert difference.mean == pytest.approx(means[0] - means[1], abs=1e-6)


def test_p_is_adjusted_over_all_tests(folders):
    found = compare_evaluations(judged(folders, "near", "far"))
    every = [d for pair in found.pairs for d in pair.differences if not math.isnan(d.p)]
    smallest = min(every, key=lambda d: d.p)
    assert smallest.p_holm == pytest.approx(min(1, smallest.p * len(every)))


def test_other_rules_are_not_compared(folders):
    evaluations = judged(folders, "near") | judged(folders, "far", empty="one")
    with pytest.raises(EvaluationError, match="near and far were not judged alike: case_0"):
        compare_evaluations(evaluations)


def test_other_references_are_not_compared(folders):
    one = judged(folders, "near")
    other = {"self": evaluate(folders["near"], folders["far"], config="crops32")}
    with pytest.raises(EvaluationError, match="were not judged alike"):
        compare_evaluations(one | other)


def test_one_alone_is_nothing_to_compare(folders):
    with pytest.raises(EvaluationError, match="at least two"):
        compare_evaluations(judged(folders, "near"))


def test_folders_are_called_by_what_tells_them_apart(tmp_path):
    paths = [tmp_path / "a" / "predictions", tmp_path / "b" / "predictions"]
    assert list(names_of(paths)) == ["a-predictions", "b-predictions"]
    assert list(names_of([paths[0], tmp_path / "b" / "other"])) == ["predictions", "other"]


def test_the_command_writes_each_report_and_the_comparison(folders, tmp_path):
    out = tmp_path / "report"
    words = [folders["near"], folders["far"], "--against", folders["references"], "-o", str(out)]
    result = CliRunner().invoke(command, [*words, "--config", "crops32"])
    assert result.exit_code == 0, result.output
    assert (out / "near" / "summary.json").is_file()
    assert (out / "far" / "cases.csv").is_file()
    data = json.loads((out / "comparison.json").read_text())
    assert data["predictions"] == {"near": None, "far": None}  # no record says by which model
    text = (out / "comparison.md").read_text()
    assert "| near - far | HD95 \\[mm\\] | edema | 6 |" in text
    assert "Empty masks (undefined):" in text


def test_references_are_asked_for(folders):
    result = CliRunner().invoke(command, [folders["near"], "-o", "nowhere"])
    assert result.exit_code == 2
    assert "--against REFERENCES" in result.output


def test_the_page_shows_each_and_each_two(folders, tmp_path, browse):
    hostile = "<img src=x onerror=alert(1)>"
    found = judged(folders, "near", "far", lesions="plain")
    compare_evaluations({"near": found["near"], hostile: found["far"]}, tmp_path)
    dom, console = browse(tmp_path / "comparison.html")
    assert not console
    assert "<img" not in dom
    headings = re.findall(r'<h2 id="\w+">(.*?)</h2>', dom)
    assert headings == ["Means", "Differences", "Distributions", "All cases", "Provenance"]
    charts = re.findall(r'<svg class="chart"[^>]*aria-label="([^"]*)"', dom)
    assert len([each for each in charts if each.startswith("Mean differences of")]) == 5
    assert "Dice of edema in each case, by predictions" in charts
    assert len(charts) == 5 + 5 * 6  # of each score, and of each score and structure
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', dom)
    table = json.loads(data)
    assert table["columns"][:3] == ["Dice, near", f"Dice, {hostile}", f"Dice, near − {hostile}"]
    edema = table["structures"].index("edema")
    (row,) = (r for r in table["rows"] if r[:2] == [0, edema])
    one, other = (
        found[name].cases["all"][0].structures["edema"]["dice"] for name in ("near", "far")
    )
    assert row[2:5] == pytest.approx([one, other, one - other], abs=1e-4)
    assert "rows 1 to 36 of 36" in dom


def test_the_page_has_a_section_for_each_part(folders, tmp_path):
    parts = {"train": [f"case_{n}" for n in range(4)], "test": ["case_4", "case_5"]}
    (tmp_path / "split.json").write_text(json.dumps(parts))
    found = judged(folders, "near", "far", split=tmp_path / "split.json", surface="none")
    compare_evaluations(found, tmp_path)
    text = (tmp_path / "comparison.html").read_text()
    headings = re.findall(r"<h2[^>]*>(Means.*?)</h2>", text)
    assert headings == ["Means, part train", "Means, part test"]
    assert text.count("of edema in each case") == 2
    assert '"case_5"' in text


def test_pooled_scores_come_last(folders, tmp_path):
    for predictions in (["near"], ["near", "far"]):
        out = tmp_path / f"report-{len(predictions)}"
        words = [*(folders[name] for name in predictions), "--against", folders["references"]]
        done = CliRunner().invoke(command, [*words, "-o", str(out), "--config", "crops32"])
        assert done.exit_code == 0, done.output
        assert done.output.count("Pooled scores:") == 1
        before, _, after = done.output.partition("Pooled scores:")
        assert "Scores per case: mean ± standard deviation over cases [95 % interval" in before
        assert "Empty masks (undefined):" in before
        assert "Scores per case" not in after
        assert "Differences:" not in after
    means = [line for line in before.splitlines() if "Dice, edema" in line]
    assert re.search(r" ± 0\.\d+ \[0\.\d+, 0\.\d+\]", means[0])


def test_lesions_without_other_distances_say_by_which_surfaces(folders, tmp_path):
    words = [folders["near"], folders["references"], "-o", str(tmp_path / "R")]
    more = ["--config", "crops32", "--surface", "none", "--lesions", "plain"]
    done = CliRunner().invoke(command, [*words, *more])
    assert done.exit_code == 0, done.output
    said = "Distances of lesions are between surfaces by area, in mm; no others were asked for."
    assert said in " ".join(done.output.split())
    assert said in (tmp_path / "R" / "summary.md").read_text()
    page = (tmp_path / "R" / "report.html").read_text()
    assert said in page
    assert "of lesions alone, by area" in page
