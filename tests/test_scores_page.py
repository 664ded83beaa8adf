"""The page of an evaluation: what stands in it, how it acts in a browser, how large it gets."""

import json
import os
import re
import shutil
import subprocess
import sys
from math import nan
from pathlib import Path

import numpy as np
import pytest

from vol3dseg.datasets.case import Case
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.lesions import lesion_rule
from vol3dseg.evaluation.scoring import CaseScores, summarise
from vol3dseg.evaluation.structure_scores import SCORES
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.reporting.evaluation_page.score_pictures import chosen_cases
from vol3dseg.reporting.evaluation_page.scores_page import Sources, page
from vol3dseg.reporting.evaluation_page.telling_slices import Exhibit
from vol3dseg.reporting.matching import Cohort
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.reporting.score_report import Evaluation
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet

HOSTILE = "<img src=x onerror=alert(1)>_001"
GRID = Geometry((20, 18, 12), np.diag([-1.0, 1.0, 2.5, 1.0]))
PARTS = [
    "Summary", "Distributions", "Volumes", "Confusion of classes", "Worst and best cases",
    "Was the model right to be sure?", "All cases", "Look closer", "Provenance",
]  # fmt: skip


def press(path, script):
    """Add a script that acts as a user does; return the new page."""
    acted = path.with_name(f"acted-{path.name}")
    text = path.read_text("utf-8").replace("</body>", f"<script>{script}</script></body>")
    acted.write_text(text, "utf-8")
    return acted


def many(labels, count, name="case-{:04d}"):
    """Return so many scored cases with every score, some undefined; nothing of them can be read."""
    rng = np.random.default_rng(0)
    judging = Judging(surface="area", lesions=lesion_rule("plain"))
    cases = []
    for number in range(count):
        structures = {}
        for structure in (*labels.foreground, *labels.regions):
            dice, ml = rng.beta(8, 2), float(rng.lognormal(1, 1.5))
            scores = {s.name: dice if s.is_share else rng.exponential(4) for s in SCORES}
            scores |= {"reference_ml": ml, "prediction_ml": ml * rng.normal(1, 0.1)}
            structures[structure] = dict.fromkeys(scores, nan) if dice < 0.6 else scores
        matrix = rng.integers(1, 1000, (len(labels.classes),) * 2)
        cases.append(CaseScores(name.format(number), structures, matrix, labels, judging))
    return tuple(cases)


def write_page(path, cases, cohort=None):
    """Write the page of cases whose files are gone."""

    def gone():
        raise FileNotFoundError("the label map is gone")

    exhibits = {c.case_id: Exhibit(Case(c.case_id, "", {}), Path("gone"), gone) for c in cases}
    found = Evaluation({"all": cases}, {"all": summarise(cases)}, None, cohort or Cohort())
    sources = Sources(Path("P"), Path("R"))
    path.write_text(page(found, "all", exhibits, sources, path.parent), "utf-8")
    return path


@pytest.fixture
def folders(tmp_path, labels):
    """Four cases with images, references and predictions, these with entropy and probabilities."""
    rng = np.random.default_rng(1)
    for number in range(4):
        name = f"Case_00{number + 1}"
        reference = np.zeros(GRID.shape, np.uint8)
        reference[4:12, 4:12, 3:9], reference[6:10, 6:10, 4:7] = 2, 1
        prediction = np.roll(reference, number, axis=0)
        image = rng.normal(100, 10, GRID.shape).astype(np.float32) + 50 * reference
        classes = np.eye(4, dtype=np.float32)[prediction] * 0.7 + 0.075
        for place, array in {
            f"D/{name}/{name}_t1.nii.gz": image,
            f"D/{name}/{name}_seg.nii.gz": reference,
            f"P/{name}.nii.gz": prediction,
            f"P/{name}_entropy.nii.gz": np.full(GRID.shape, 0.5, np.float32),
            f"P/{name}_probabilities.nii.gz": classes,
        }.items():
            path = tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            nifti.write(path, array, GRID)
    return tmp_path


@pytest.fixture
def recorded(folders, record):
    """The same, with predictions.json, which says what stands beside label maps."""
    from vol3dseg.inference.record import CaseRecord

    names = [f"Case_00{n}" for n in range(1, 5)]
    beside = {n: {f"{n}_{k}.nii.gz": "0" for k in ("entropy", "probabilities")} for n in names}
    cases = {n: CaseRecord(file=f"{n}.nii.gz", beside=beside[n]) for n in names}
    record.with_cases(cases).save(folders / "P")
    return folders


def headings(dom):
    return re.findall(r'<h2 id="\w+">(.*?)</h2>', dom)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_offline_and_shows_everything(browse, recorded, tmp_path, scheme):
    evaluate(recorded / "P", recorded / "D", tmp_path / "R", lesions="plain")
    files = {p.name for p in (tmp_path / "R").glob("[!.]*")}
    assert files == {"report.html", "cases.csv", "summary.json", "summary.md"}
    dark = "--blink-settings=preferredColorScheme=0"
    dom, console = browse(tmp_path / "R" / "report.html", *[dark] * (scheme == "dark"))
    assert not console
    assert headings(dom) == PARTS
    assert "rows 1 to 24 of 24, page 1 of 1" in dom
    assert dom.count('<article class="case">') == 4
    assert dom.count('<image id="grey-') == 4 * 3
    assert dom.count('<use href="#grey-') == 4 * 3 * 3
    assert dom.count('aria-label="Case_001, axial slice 4: entropy"') == 1
    assert "vol3dseg view ../D --seg ../P --report ." in dom
    assert "#case=Case_004&amp;mm=" in dom
    assert "0" * 64 in dom  # the model


def test_nothing_is_loaded_from_anywhere(recorded, tmp_path):
    evaluate(recorded / "P", recorded / "D", tmp_path / "R")
    text = (tmp_path / "R" / "report.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert not re.search(r"url\(|@import|https?://", text)
    assert str(tmp_path) not in text


def test_pictures_are_of_the_worst_and_the_best(labels):
    cases = many(labels, 40)
    worst, best = chosen_cases(cases)
    dice = [np.nanmean([c.structures[n]["dice"] for n in labels.foreground]) for c in cases]
    order = [cases[n].case_id for n in np.argsort(dice)]
    assert [c.case_id for c in worst] == order[:6]
    assert [c.case_id for c in best] == order[:-4:-1]
    assert [len(part) for part in chosen_cases(cases[:2])] == [2, 0]


def test_an_image_that_cannot_be_read_is_left_out_and_said(browse, recorded, tmp_path):
    (recorded / "D/Case_001/Case_001_t1.nii.gz").write_bytes(b"")
    evaluate(recorded / "P", recorded / "D", tmp_path / "R")
    dom, console = browse(tmp_path / "R" / "report.html")
    assert not console
    assert "without the image t1: " in dom
    assert dom.count('<image id="grey-') == 3 * 3
    assert dom.count('aria-label="Case_001, axial slice 4: reference"') == 1


def test_label_maps_alone_are_shown_on_black(folders, tmp_path):
    (folders / "L").mkdir()
    for path in (folders / "D").glob("*/*_seg.nii.gz"):
        shutil.copy(path, folders / "L" / path.name.replace("_seg", ""))
    for path in (folders / "P").glob("*_[ep]*"):
        path.unlink()
    evaluate(folders / "P", folders / "L", tmp_path / "R", config="crops32")
    text = (tmp_path / "R" / "report.html").read_text()
    assert "grey-" not in text
    assert ": reference" in text
    assert "vol3dseg view" not in text
    assert "Was the model right" not in text


def test_hostile_names_are_text(browse, labels, tmp_path):
    cases = many(labels, 3, HOSTILE + "{}")
    dom, console = browse(write_page(tmp_path / "r.html", cases, Cohort({HOSTILE: HOSTILE})))
    assert not console
    assert "<img src=x" not in dom.lower()
    assert "&lt;img src=x onerror=alert(1)&gt;_0010" in dom
    assert dom.count("no picture: the label map is gone") == 3


def rows_of(dom):
    body = re.search(r'<table id="rows">.*?<tbody>(.*?)</tbody>', dom, re.DOTALL).group(1)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    return [(case, structure, dice) for case, structure, dice, *_ in cells]


def test_rows_are_sorted_filtered_and_turned(browse, labels, tmp_path):
    cases = many(labels, 30)
    path = write_page(tmp_path / "r.html", cases)
    dom, _ = browse(path)
    assert "rows 1 to 50 of 180, page 1 of 4" in dom
    assert len(rows_of(dom)) == 50
    assert dom.count('aria-sort="none"') == dom.count('<th scope="col" aria-sort=')
    sort = 'document.querySelectorAll("#rows th button")[2].click();'
    dom, _ = browse(press(path, sort))
    every = [s["dice"] for c in cases for s in c.structures.values()]
    known = sorted(value for value in every if value == value)
    assert [float(dice) for *_, dice in rows_of(dom)] == pytest.approx(known[:50], abs=1e-4)
    assert dom.count(' aria-sort="ascending"') == 1
    dom, _ = browse(press(path, sort + sort))
    assert [float(dice) for *_, dice in rows_of(dom)] == pytest.approx(known[:-51:-1], abs=1e-4)
    dom, _ = browse(press(path, sort + sort + 'document.getElementById("last").click()'))
    undefined = len(every) - len(known)
    assert undefined
    assert [dice for *_, dice in rows_of(dom)][-undefined:] == ["–"] * undefined
    choose = (
        'const s = document.getElementById("search"); s.value = "CASE-001";'
        's.dispatchEvent(new Event("input"));'
        'const k = document.getElementById("structure"); k.value = "1";'
        'k.dispatchEvent(new Event("change"));'
    )
    dom, console = browse(press(path, choose))
    assert not console
    assert "rows 1 to 10 of 10, page 1 of 1" in dom
    assert {(case[:8], structure) for case, structure, _ in rows_of(dom)} == {("case-001", "edema")}


def test_five_hundred_cases_stay_small_and_quick(browse, labels, tmp_path):
    path = write_page(tmp_path / "r.html", many(labels, 500))
    assert path.stat().st_size < 15e6  # 30 MB, less what nine cases in pictures take
    tell = (
        "addEventListener('load', () => setTimeout(() => {"
        "const paint = performance.getEntriesByName('first-contentful-paint')[0];"
        "document.title = 'painted after ' + (paint ? paint.startTime : -1)}, 3000))"
    )
    dom, console = browse(press(path, tell))
    assert not console
    assert "rows 1 to 50 of 3000, page 1 of 60" in dom
    painted_ms = float(re.search(r"<title>painted after (.*?)</title>", dom).group(1))
    assert 0 < painted_ms < 2000


def test_many_classes_make_no_endless_page(browse, tmp_path):
    classes = [Label(name=f"part {n}", read=(n,), write=n) for n in range(1, 105)]
    whole = LabelSet(classes=(Label(name="background", read=(0,), write=0), *classes))
    path = write_page(tmp_path / "r.html", many(whole, 60))
    dom, console = browse(path)
    assert not console
    assert path.stat().st_size < 6e6
    assert "Confusion" not in dom
    assert dom.count("Bland-Altman plot of") == 12
    assert " · 96 more</p>" in dom


def test_one_case_without_anything_to_find(browse, folders, tmp_path):
    for path in {*folders.glob("*/Case_00[234]*"), *folders.glob("P/*_[ep]*")}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in ("D/Case_001/Case_001_seg.nii.gz", "P/Case_001.nii.gz"):
        (folders / path).unlink()
        nifti.write(folders / path, np.zeros(GRID.shape, np.uint8), GRID)
    evaluate(folders / "P", folders / "D", tmp_path / "R", config="crops32")
    dom, console = browse(tmp_path / "R" / "report.html")
    assert not console
    assert "rows 1 to 6 of 6, page 1 of 1" in dom
    assert headings(dom) == [PARTS[n] for n in (0, 1, 3, 6, 7, 8)]


def test_it_prints(labels, tmp_path):
    text = write_page(tmp_path / "r.html", many(labels, 2)).read_text()
    assert "@media print" in text
    assert "@media (prefers-color-scheme: dark)" in text


def test_each_part_of_a_split_has_its_own(recorded, tmp_path):
    parts = {"train": ["Case_001", "Case_002"], "validation": ["Case_003"], "test": ["Case_004"]}
    (tmp_path / "split.json").write_text(json.dumps(parts))
    evaluate(recorded / "P", recorded / "D", tmp_path / "R")
    evaluate(recorded / "P", recorded / "D", tmp_path / "R", split=tmp_path / "split.json")
    assert not (tmp_path / "R" / "report.html").exists()  # of an evaluation without parts
    text = (tmp_path / "R" / "train" / "report.html").read_text()
    assert "<h1>Scores of part train: 2 cases</h1>" in text
    assert "vol3dseg view ../../D --seg ../../P --report ." in text
    assert "Case_004" not in text


def test_a_page_that_is_not_ours_is_not_replaced(recorded, tmp_path):
    from vol3dseg.errors import OutputError

    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "report.html").write_text("mine")
    with pytest.raises(OutputError, match=r"would replace report\.html"):
        evaluate(recorded / "P", recorded / "D", tmp_path / "R")
    assert [p.name for p in (tmp_path / "R").iterdir()] == ["report.html"]


def test_it_needs_no_extra(recorded, tmp_path):
    code = f"""
import sys
extras = {{"matplotlib", "PIL", "scipy", "tensorflow", "keras", "SimpleITK"}}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in extras:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import vol3dseg
vol3dseg.evaluate({str(recorded / "P")!r}, {str(recorded / "D")!r}, {str(tmp_path / "R")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
    assert '<image id="grey-0-2"' in (tmp_path / "R" / "report.html").read_text()
