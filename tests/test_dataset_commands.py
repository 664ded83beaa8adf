"""Layouts and tables through the commands: prepared, segmented, inspected, judged."""

import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from vol3dseg import formats
from vol3dseg.cli.main import main
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.table import write_table
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.preprocessing.index import load_index

NUMBERS = {"flair": "0000", "t1": "0001"}
SUFFIXES = {"flair": "FLAIR", "t1": "T1w"}


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    exit_code: int
    output: str  # of both streams
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process."""

    def run(*words):
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # which it sets, and which shall not stay
        monkeypatch.setattr(sys, "argv", ["vol3dseg", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        stdout, stderr = capsys.readouterr()
        return Done(ended.value.code or 0, stdout + stderr, stderr)

    return run


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def as_nnunet(cases, folder):
    for case in cases:
        for modality, source in case.images.items():
            move(source.path, folder / f"imagesTr/{case.id}_{NUMBERS[modality]}.nii.gz")
        move(case.label, folder / f"labelsTr/{case.id}.nii.gz")
    names = {int(number): modality for modality, number in NUMBERS.items()}
    (folder / "dataset.json").write_text(json.dumps({"channel_names": names}))
    return folder


def as_bids(cases, folder):
    for number, case in enumerate(cases, start=1):
        place, name = f"sub-{number}/ses-1/anat", f"sub-{number}_ses-1"
        for modality, source in case.images.items():
            move(source.path, folder / place / f"{name}_{SUFFIXES[modality]}.nii.gz")
        move(case.label, folder / "derivatives/raters" / place / f"{name}_dseg.nii.gz")
    return folder


def as_table(cases, folder):
    write_table(cases, folder / "cases.csv")
    return folder / "cases.csv"


@pytest.mark.parametrize("arrange", [as_nnunet, as_bids, as_table])
def test_every_layout_gives_the_same_arrays(
    run, arrange, brats_folder, config_path, model_path, tmp_path
):
    done = run("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
    assert done.exit_code == 0, done.output
    run("predict", model_path, brats_folder, "-o", tmp_path / "O")
    dataset = arrange(find_cases(brats_folder), tmp_path / "dataset")

    done = run("preprocess", dataset, "-o", tmp_path / "Q", "-c", config_path, "-j", 1)
    assert done.exit_code == 0, done.output
    before, after = load_index(tmp_path / "P"), load_index(tmp_path / "Q")
    assert [entry.class_voxels for entry in after.cases] == [e.class_voxels for e in before.cases]
    assert [entry.shape for entry in after.cases] == [entry.shape for entry in before.cases]

    done = run("predict", model_path, dataset, "-o", tmp_path / "R")
    assert "3 cases segmented, 0 failed" in done.output
    for entry, same in zip(before.cases, after.cases, strict=True):
        expected, _ = formats.open_volume(tmp_path / f"O/{entry.id}.nii.gz").labels()
        found, _ = formats.open_volume(tmp_path / f"R/{same.id}.nii.gz").labels()
        np.testing.assert_array_equal(found, expected)

    done = run("evaluate", tmp_path / "R", dataset, "-o", tmp_path / "S")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("arrange", [as_nnunet, as_bids, as_table])
def test_every_layout_is_inspected(run, arrange, brats_folder, tmp_path):
    pytest.importorskip("PIL", reason="inspect needs the extra [report]")
    dataset = arrange(find_cases(brats_folder), tmp_path / "dataset")
    done = run("inspect", dataset, "-o", tmp_path / "I", "-j", 1)
    assert done.exit_code == 0, done.output
    assert "3 cases" in done.output


@pytest.fixture
def table(brats_folder, tmp_path):
    """A table whose first case has NaN in T1; returns how to change a column of it."""
    path = tmp_path / "cases.csv"
    cases = find_cases(brats_folder)
    array, grid = formats.read_image(cases[0].images["t1"].path)
    array[:2, 3, 4] = np.nan
    nifti.write(cases[0].images["t1"].path, array, grid)
    write_table(cases, path)
    header, *rows = path.read_text().splitlines()

    def with_column(name, values):
        lines = [f"{header},{name}", *(f"{r},{v}" for r, v in zip(rows, values, strict=True))]
        path.write_text("\n".join(lines))
        return path

    return with_column


def test_replaced_voxels_are_counted(run, table, config_path, model_path, tmp_path):
    path = table("t1_nan", ["", "", ""])
    done = run("preprocess", path, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
    assert done.exit_code == 1
    assert "Case_001_t1.nii.gz: 2 voxels are NaN or infinite" in done.output

    path = table("t1_nan", ["0", "0", "0"])
    done = run("preprocess", path, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
    assert done.exit_code == 0, done.output
    assert (
        "note: case Case_001: 2 voxels of t1 were NaN or infinite and were replaced" in done.output
    )
    counts = [entry.replaced for entry in load_index(tmp_path / "P").cases]
    assert counts == [{"t1": 2}, {}, {}]

    done = run("predict", model_path, path, "-o", tmp_path / "O")
    assert "2 voxels of t1 were NaN or infinite and were replaced" in done.output
    record = json.loads((tmp_path / "O/predictions.json").read_text())
    assert [case["replaced"] for case in record["cases"].values()] == [{"t1": 2}, {}, {}]


def prepared_again(run, path, config_path, folder):
    """Return which cases `preprocess` made anew."""
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "cases").glob("*.h5")}
    done = run("preprocess", path, "-o", folder, "-c", config_path, "-j", 1)
    assert done.exit_code == 0, done.output
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "cases").glob("*.h5")}
    return [name for name in sorted(after) if after[name] != before.get(name)]


def test_a_changed_cell_prepares_its_case_again(run, table, config_path, tmp_path):
    folder = tmp_path / "P"
    path = table("t1_nan", ["0", "", ""])
    assert len(prepared_again(run, path, config_path, folder)) == 3
    assert prepared_again(run, path, config_path, folder) == []
    path = table("t1_nan", ["5", "", ""])
    assert prepared_again(run, path, config_path, folder) == ["Case_001.h5"]
    content = path.read_text()
    path.write_text(content.replace("Case_002,Case_002", "Case_002,Case_003"))
    assert prepared_again(run, path, config_path, folder) == ["Case_002.h5"]
    assert [e.subject for e in load_index(folder).cases] == ["Case_001", "Case_003", "Case_003"]
    content = path.read_text()
    path.write_text(content.replace("flair,t1,", "t1,flair,").replace("t1_nan", "flair_nan"))
    assert prepared_again(run, path, config_path, folder) == [
        "Case_001.h5", "Case_002.h5", "Case_003.h5",
    ]  # fmt: skip


def test_a_wrong_table_is_one_line(run, table, config_path, model_path, tmp_path):
    path = table("t1_nann", ["0", "", ""])
    wrong = "unknown column 't1_nann', did you mean 't1_nan'?"
    expected = f"error: {path}: {wrong}; correct the table\n"
    for words in (
        ("preprocess", path, "-o", tmp_path / "X", "-c", config_path),
        ("predict", model_path, path, "-o", tmp_path / "X"),
        ("evaluate", path.parent / "brats/Case_001", path, "-o", tmp_path / "X"),
    ):
        done = run(*words)
        assert done.exit_code == 1
        assert done.stderr.endswith(expected)
    assert not (tmp_path / "X").exists()


@pytest.mark.parametrize("cell", ["0", ""])
def test_inspect_reads_as_the_table_asks(run, table, tmp_path, cell):
    pytest.importorskip("PIL", reason="inspect needs the extra [report]")
    done = run("inspect", table("t1_nan", [cell, "", ""]), "-o", tmp_path / "I", "-j", 1)
    assert done.exit_code == 0, done.output
    refused = "2 voxels are NaN or infinite" in (tmp_path / "I/suspects.json").read_text()
    assert refused == (cell == "")


def test_references_that_are_wrong_say_so(run, table, model_path, brats_folder, tmp_path):
    run("predict", model_path, table("t1_nan", ["0"] * 3), "-o", tmp_path / "O")
    dataset = as_nnunet(find_cases(brats_folder), tmp_path / "dataset")
    (dataset / "dataset.json").unlink()
    done = run("evaluate", tmp_path / "O", dataset, "-o", tmp_path / "R")
    assert done.exit_code == 1
    assert f"{dataset}/dataset.json: is missing; expected JSON with channel_names" in done.stderr


def test_references_in_one_folder_may_look_like_one_case(run, brats_folder, model_path, tmp_path):
    run("predict", model_path, brats_folder, "-o", tmp_path / "O")
    for case in find_cases(brats_folder):
        move(case.label, tmp_path / f"labels/{case.id}_seg.nii.gz")
        move(tmp_path / f"O/{case.id}.nii.gz", tmp_path / f"named/{case.id}_seg.nii.gz")
    words = ("evaluate", tmp_path / "named", tmp_path / "labels", "-o", tmp_path / "R")
    done = run(*words, "-c", "crops32")
    assert done.exit_code == 0, done.output
