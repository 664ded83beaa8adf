"""A patient withdraws: nothing is removed by mistake, and what is removed is removed everywhere."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest

from vol3dseg import describe
from vol3dseg.config import Config, ModelConfig
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import StoreError
from vol3dseg.formats import read_image
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.withdrawal import strays
from vol3dseg.training.auditing import audit

# Kills itself at the n-th of the steps that removal consists of.
CODE = """
import os, signal, sys
from vol3dseg.cli.main import main
from vol3dseg.preprocessing import prepare_dataset as of

left = int(sys.argv.pop(1))

def dying(step):
    def run(*words):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return step(*words)
    return run

of.remove_ours, of.forget_absent = dying(of.remove_ours), dying(of.forget_absent)
of._Run._save = dying(of._Run._save)
main()
"""


@pytest.fixture
def config(recipe, labels):
    return Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1))


@pytest.fixture
def prepared(brats_folder, tmp_path, config):
    """Three prepared cases."""
    preprocess(brats_folder, tmp_path / "P", config)
    return tmp_path / "P"


@pytest.fixture
def gone(prepared, brats_folder):
    """A data set that Case_002 has left."""
    shutil.rmtree(brats_folder / "Case_002")
    return brats_folder


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def holding(folder, text):
    """The files that hold a text, in their bytes or their name."""
    return [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if text in path.name or (path.is_file() and text.encode() in path.read_bytes())
    ]


def test_who_has_left_the_data_set_is_named_and_nothing_is_touched(gone, prepared):
    before = content(prepared)
    with pytest.raises(StoreError) as caught:
        preprocess(gone, prepared)
    assert str(caught.value) == (
        f"{prepared}: holds 1 of 3 prepared cases that the data set has no more: Case_002; "
        "expected a data set with every case that was prepared of it; if it is the right one and "
        "they have withdrawn, --remove-withdrawn removes what was prepared of them; else name the "
        "whole data set"
    )
    assert content(prepared) == before


def test_another_data_set_empties_no_folder(prepared, brats_folder, tmp_path):
    before = content(prepared)
    other = tmp_path / "other"
    shutil.copytree(brats_folder / "Case_001", other / "Case_900")
    for path in (other / "Case_900").iterdir():
        path.rename(path.with_name(path.name.replace("Case_001", "Case_900")))
    for remove in (False, True):
        with pytest.raises(StoreError, match="3 prepared cases, none of which the data set has"):
            preprocess(other, prepared, remove_withdrawn=remove)
    assert content(prepared) == before


def test_who_withdraws_is_removed_to_the_last_byte(gone, prepared):
    said = []
    assert len(holding(prepared, "Case_002")) == 3  # the file, the index, the list of files
    index = preprocess(
        gone, prepared, remove_withdrawn=True, progress=lambda o, total: said.append(o)
    )
    assert holding(prepared, "Case_002") == []
    assert [entry.id for entry in index.cases] == ["Case_001", "Case_003"]
    assert load_index(prepared) == index
    assert {o.case_id: o.removed for o in said if o.removed} == {
        "Case_002": "is no longer in the data set; its prepared file was removed"
    }
    before = content(prepared / "cases")
    assert preprocess(gone, prepared) == index  # as ever
    assert content(prepared / "cases") == before


def test_the_others_are_still_known_as_ours(gone, prepared):
    """Or a case that changes could not be prepared again."""
    preprocess(gone, prepared, remove_withdrawn=True)
    path = gone / "Case_003" / "Case_003_t1.nii.gz"
    array, grid = read_image(path)
    nifti.write(path, array + 1, grid)
    index = preprocess(gone, prepared)
    assert index.failed == {}
    assert strays(prepared, index).unknown == ()


def test_of_who_failed_before_nothing_stays_either(prepared, brats_folder):
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    assert list(preprocess(brats_folder, prepared).failed) == ["Case_002"]
    shutil.rmtree(brats_folder / "Case_002")
    preprocess(brats_folder, prepared, remove_withdrawn=True)
    assert holding(prepared, "Case_002") == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("step", range(3), ids=["file", "list", "index"])
def test_a_removal_that_is_killed_goes_on(gone, prepared, step):
    words = ("preprocess", gone, "-o", prepared, "--workers", 1, "--remove-withdrawn")
    command = [sys.executable, "-c", CODE, str(step), *map(str, words)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert "Case_002" in (prepared / "index.json").read_text()  # so it is known what is left to do
    preprocess(gone, prepared, remove_withdrawn=True)
    assert holding(prepared, "Case_002") == []
    assert [entry.id for entry in load_index(prepared).cases] == ["Case_001", "Case_003"]


def test_what_was_changed_is_left_and_said_and_ends_with_1(vol3dseg, gone, prepared):
    changed, aside = (prepared / "cases" / f"Case_002{end}" for end in (".h5", ".set-aside-1.h5"))
    changed.write_bytes(changed.read_bytes() + b"!")
    aside.write_bytes(b"of before")
    notes = prepared / "cases" / "notes.txt"
    notes.write_text("mine")
    done = vol3dseg("preprocess", gone, "-o", prepared, "--workers", 1)
    assert done.returncode == 1
    assert "--remove-withdrawn" in done.stderr
    done = vol3dseg("preprocess", gone, "-o", prepared, "--workers", 1, "--remove-withdrawn")
    assert done.returncode == 1
    assert f"removed: case Case_002: is no longer in the data set; {changed} differs" in done.stderr
    left = [line for line in done.stderr.splitlines() if line.startswith("left: ")]
    assert [line.split()[1] for line in left] == [str(changed), str(aside)]
    assert f"note: {notes} is not of this prepared folder and was left alone" in done.stdout
    assert "2 cases prepared" in done.stdout
    changed.unlink()
    aside.unlink()
    assert vol3dseg("preprocess", gone, "-o", prepared, "--workers", 1).returncode == 0


def test_info_lists_strays(vol3dseg, prepared):
    assert "Strays" not in vol3dseg("info", prepared).stdout
    (prepared / "cases" / "Case_001.h5").unlink()
    (prepared / "notes.txt").write_text("mine")
    unfinished = prepared / "cases" / ".vol3dseg-tmp-0123456789abcdef"
    unfinished.mkdir()
    assert describe(prepared).document["strays"] == {
        "unknown": [str(prepared / "notes.txt")],
        "unfinished": [str(unfinished)],
        "lost": ["Case_001"],
    }
    page = "".join(re.findall(r"[^\s│]", vol3dseg("info", prepared).stdout.split("Strays")[1]))
    assert "notes.txt" in page
    assert "Case_001" in page
    notes = audit(prepared).notes
    assert f"{prepared / 'notes.txt'} is of no case of the index" in notes
    assert any(str(unfinished) in note for note in notes)


def test_info_names_the_cases_of_a_run(vol3dseg, tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    split = {"train": [f"Case_{n:03}" for n in range(30)], "validation": ["Case_100"], "test": []}
    (tmp_path / "split.json").write_text(json.dumps(split))
    page = vol3dseg("info", tmp_path).stdout
    table = page[page.index("Cases that it was made with") :]
    assert "30: Case_000" in table
    assert "and 10 more, which --json names" in " ".join(table.replace("│", " ").split())
    assert "1: Case_100" in table
    assert json.loads(vol3dseg("info", tmp_path, "--json").stdout)["split"] == split
    fingerprint = manifest.members[0].data_fingerprint
    assert f"data of fingerprint {fingerprint[:12]}" in page


def test_info_names_the_cases_of_folds(tmp_path, manifest):
    several = manifest.model_copy(update={"members": manifest.members * 2})
    (tmp_path / "manifest.json").write_text(several.model_dump_json())
    for number, ids in enumerate((["b", "c"], ["a", "c"]), start=1):
        fold = tmp_path / f"fold-{number}"
        fold.mkdir()
        (fold / "split.json").write_text(json.dumps({"train": ids}))
    assert describe(tmp_path).facts["split"] == {"train": ["a", "b", "c"]}


def test_cases_may_be_given_in_any_number(prepared, brats_folder, config):
    """A program hands over cases: fewer than before are refused as well."""
    with pytest.raises(StoreError, match="1 of 3 prepared cases"):
        preprocess(find_cases(brats_folder)[1:], prepared, config)
