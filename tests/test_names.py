"""What cases are called: by their own names, each once, and whatever bytes these are."""

import json
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vol3dseg import formats
from vol3dseg.config import Config
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.checks import check_case
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.selection import gather_cases, label_files
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import DatasetError
from vol3dseg.inference.predicting import predict
from vol3dseg.preprocessing.index import load_index

LATIN = os.fsdecode(b"M\xfcller")  # as unpacked from an archive of a Latin-1 system
TOLD = "M\\udcfcller"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def renamed(folder, name):
    """Call a case of a BraTS data set otherwise, files too."""
    for path in folder.iterdir():
        path.rename(folder / path.name.replace(folder.name, name))
    return folder.rename(folder.with_name(name))


class TestLinks:
    """A link is called what it is called, wherever it leads."""

    def store(self, tmp_path, files):
        (tmp_path / "cases").mkdir()
        for number, name in enumerate(("P1", "P2")):
            touch(tmp_path / f"store/{number}/nifti", *files)
            (tmp_path / "cases" / name).symlink_to(tmp_path / f"store/{number}/nifti")
        return tmp_path / "cases"

    def test_folders_of_cases(self, tmp_path, monkeypatch):
        folder = self.store(tmp_path, ["scan_flair.nii.gz", "scan_seg.nii.gz"])
        assert [case.id for case in find_cases(folder)] == ["P1", "P2"]

    def test_the_working_folder(self, tmp_path, monkeypatch):
        folder = self.store(tmp_path, ["P1_flair.nii.gz"])
        monkeypatch.chdir(folder / "P1")
        monkeypatch.setenv("PWD", str(folder / "P1"))
        assert [case.id for case in find_cases(Path())] == ["P1"]

    def test_folders_of_series(self, tmp_path, dicom_slice):
        folder = self.store(tmp_path, ["note"])
        slice_ = dicom_slice(np.zeros((4, 4), np.int16))
        for name in ("P1", "P2"):
            (folder / name / "flair").mkdir(parents=True)
            slice_.save_as(folder / name / "flair/1.dcm", enforce_file_format=True)
        assert [case.id for case in find_cases(folder)] == ["P1", "P2"]
        (one,) = gather_cases([folder / "P1/flair"], ["flair"])
        assert one.id == "flair"

    def test_files_that_were_not_fetched_are_not_passed_over(self, tmp_path):
        touch(tmp_path, "a/a_flair.nii.gz")
        (tmp_path / "a/a_seg.nii.gz").symlink_to("../.git/annex/nowhere")
        (case,) = find_cases(tmp_path)
        assert case.label == tmp_path / "a/a_seg.nii.gz"


LAYOUTS = {
    "BraTS": ["HGG/{}/x_flair.nii.gz", "LGG/{}/x_flair.nii.gz"],
    "BIDS": ["sub-{}/anat/sub-{}_T1w.nii"],
    "nnU-Net": ["imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"],
}


@pytest.mark.parametrize(
    ("layout", "first", "second"),
    [
        *(pytest.param(layout, "Pa", "pa", id=layout) for layout in LAYOUTS),
        pytest.param("BraTS", *(unicodedata.normalize(f, "ü") for f in ("NFC", "NFD")), id="ü"),
    ],
)  # fmt: skip
def test_ids_that_are_one_file_elsewhere(tmp_path, layout, first, second):
    for name in (first, second):
        touch(tmp_path, *(file.replace("{}", name) for file in LAYOUTS[layout]))
    if layout == "nnU-Net":
        (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T1"}}')
    with pytest.raises(DatasetError, match="differ only in capitals or in how letters are encoded"):
        find_cases(tmp_path)


def test_ids_of_a_table(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    (tmp_path / "t.csv").write_text("id,t1\nA,a.nii\na,b.nii\n")
    with pytest.raises(DatasetError, match="cases A and a differ only in capitals"):
        find_cases(tmp_path / "t.csv")


def test_label_maps_whose_names_are_one(tmp_path):
    touch(tmp_path, "a.nii.gz", "A.nii.gz")
    with pytest.raises(DatasetError, match="several inputs are named A, a"):
        label_files(tmp_path)


def test_cases_given_from_python(model_path, tmp_path):
    twice = [Case("a", "a", {}), Case("A", "a", {})]
    with pytest.raises(DatasetError, match="several inputs are named a, A"):
        predict(model_path, twice, tmp_path / "out")


class TestBytes:
    """Names that are no text cost their case one line, and no other anything."""

    @pytest.mark.parametrize("name", [LATIN, "a\nb", "a\\b", "a\u200bb"], ids=ascii)
    def test_a_case(self, brats_folder, labels, name):
        renamed(brats_folder / "Case_001", name)
        cases = {case.id: case for case in find_cases(brats_folder)}
        told = Case(name, name, {}).id
        assert told.isprintable()
        (finding,) = check_case(cases[told], ("flair", "t1"), labels)
        assert (finding.where, finding.remedy) == (f"case {told}", "rename its folder or files")
        assert len(cases) == 3

    def test_the_others_go_on(self, vol3dseg, brats_folder, config_path, model_path, tmp_path):
        renamed(brats_folder / "Case_001", LATIN)
        line = f"failed: case {TOLD}: its name cannot become that of other files; expected text in "
        done = vol3dseg(
            "preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(line)
        index = load_index(tmp_path / "P")
        assert ([entry.id for entry in index.cases], list(index.failed)) == (
            ["Case_002", "Case_003"], [TOLD],
        )  # fmt: skip
        done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
        assert (done.returncode, line in done.stderr) == (1, True)
        record = json.loads((tmp_path / "O/predictions.json").read_text())
        assert list(record["cases"]) == [TOLD, "Case_002", "Case_003"]

    def test_files_and_folders(self, vol3dseg, brats_folder, config_path, model_path, tmp_path):
        """Only ids become names of files: others may be any bytes."""
        for path in (brats_folder / "Case_001").iterdir():
            path.rename(path.with_name(path.name.replace("Case_001", LATIN)))
        given, out = brats_folder.rename(tmp_path / LATIN), tmp_path / f"O{LATIN}"
        done = vol3dseg("preprocess", given, "-o", out / "P", "-c", config_path, "-j", 1)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(
            f"3 cases prepared, 0 left out, 0 failed -> {tmp_path}/O{TOLD}/P\n"
        )
        done = vol3dseg("predict", model_path, given, "-o", out / "S")
        assert done.returncode == 0
        done = vol3dseg("evaluate", out / "S", given, "-o", out / "R")
        assert (done.returncode, done.stderr) == (0, "")

    def test_label_maps(self, tmp_path):
        touch(tmp_path, f"{LATIN}.nii.gz")
        assert list(label_files(tmp_path)) == [TOLD]

    @pytest.mark.train
    def test_the_prepared_folder_of_a_run(self, recipe, labels, tmp_path):
        from vol3dseg.training.run_folder import origin_of

        data = SimpleNamespace(split=Split(train=("a",)), index=None)
        data.index = SimpleNamespace(entry=lambda name: SimpleNamespace(contents="0"))
        origin = origin_of(Config(labels=labels, recipe=recipe), tmp_path / LATIN, data, None)
        assert TOLD.replace("\\", "\\\\") in origin.model_dump_json()

    def test_what_is_said_of_a_file(self, tmp_path):
        with pytest.raises(formats.opening.FileFormatError) as caught:
            formats.open_volume(tmp_path / f"{LATIN}.nii")
        assert str(caught.value).startswith(f"{tmp_path}/{TOLD}.nii: does not exist")

    def test_a_terminal_that_knows_ascii_alone(
        self, vol3dseg, brats_folder, model_path, tmp_path, monkeypatch
    ):
        renamed(brats_folder / "Case_001", "Müller")
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
        assert (done.returncode, "M\\xfcller: " in done.stderr) == (0, True)
