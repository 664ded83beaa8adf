"""From DICOM series to DICOM-SEG with the command."""

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("onnxruntime")
pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

import pydicom

from vol3dseg import formats
from vol3dseg.cli.main import cli
from vol3dseg.datasets.checks import check_case
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.formats.dicom import series
from vol3dseg.formats.dicom.seg_reading import read_seg
from vol3dseg.inference.loading import load_predictor
from vol3dseg.written import sha256_file


@pytest.fixture
def table(tmp_path, dicom_series):
    """A patient with two series in one folder, chosen in a table."""
    folder = tmp_path / "patient"
    folder.mkdir()
    for number, name in ((3, "FLAIR axial"), (4, "T1 axial")):
        array = np.random.default_rng(number).integers(1, 999, (16, 12, 9)).astype(np.int16)
        uid = f"1.2.3.{number}"
        named = {"SeriesInstanceUID": uid, "SeriesNumber": number, "SeriesDescription": name}
        for k, slice_ in enumerate(dicom_series(array, step=(0, 0, 6.5), **named)):
            slice_.save_as(folder / f"{number}-{k}.dcm", enforce_file_format=True)
    path = tmp_path / "cases.csv"
    path.write_text("id,flair,flair_series,t1,t1_series\nx,patient,FLAIR*,patient,4\n")
    return path


def run(*words):
    return CliRunner().invoke(cli, ["predict", *map(str, words)])


def test_a_patient_becomes_a_dicom_seg_and_a_nifti_file(table, model_path, manifest, tmp_path):
    seg, plain = tmp_path / "seg", tmp_path / "plain"
    dicom = ["--device", "cpu", "--format", "dicom-seg"]
    for out, more in ((seg, dicom), (plain, ["--device", "cpu"])):
        done = run(model_path, table, "-o", out, *more)
        assert done.exit_code == 0, done.output
    volume = read_volume(find_cases(table)[0], ("flair", "t1"))
    assert volume.geometry.spacing_mm == (1, 1, 6.5)
    expected = load_predictor(model_path, "cpu")(volume).segmentation
    assert expected.array.any()
    found = read_seg(seg / "x.dcm", manifest.labels, volume.geometry)
    np.testing.assert_array_equal(found.array, expected.array)
    values, grid = formats.open_volume(plain / "x.nii.gz").labels()
    assert grid.fits(volume.geometry)
    np.testing.assert_array_equal(manifest.labels.encode(values, "x"), expected.array)
    record = json.loads((seg / "predictions.json").read_text())
    assert record["cases"]["x"]["file"] == "x.dcm"
    header = pydicom.dcmread(seg / "x.dcm")
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.3"
    assert header.PatientName == "DOE^JOHN"
    (made,) = header.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert made.AlgorithmVersion == record["model_sha256"] == sha256_file(model_path)
    again = run(model_path, table, "-o", seg, *dicom, "--resume")
    assert "1 of 1 cases are complete" in again.output


def test_nobody_is_named_when_asked_for(table, model_path, tmp_path):
    options = ["-o", tmp_path / "out", "--device", "cpu", "--format", "dicom-seg", "--deidentify"]
    done = run(model_path, table, *options)
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "out").glob("[!.]*"):
        assert b"DOE" not in path.read_bytes()


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="no dciodvfy: install dicom3tools")
def test_dciodvfy_finds_no_error(table, model_path, tmp_path):
    run(model_path, table, "-o", tmp_path / "out", "--device", "cpu", "--format", "dicom-seg")
    command = ["dciodvfy", tmp_path / "out/x.dcm"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Error" not in told.stdout + told.stderr


def test_what_is_no_dicom_has_no_dicom_seg(brats_folder, model_path, tmp_path):
    done = run(model_path, brats_folder, "-o", tmp_path / "out", "--format", "dicom-seg")
    assert done.exit_code == 1
    scan = brats_folder / "Case_001/Case_001_flair.nii.gz"
    assert (
        f"failed: case Case_001: {scan}: is no DICOM series, which a DICOM-SEG must refer to; "
        "expected a folder with one; choose another --format"
    ) in done.output
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["predictions.json"]


def test_deidentify_is_for_dicom_seg(brats_folder, model_path, tmp_path):
    done = run(model_path, brats_folder, "-o", tmp_path / "out", "--deidentify")
    assert done.exit_code == 2
    assert "--deidentify is for --format dicom-seg; other formats hold no names" in done.output


def test_a_series_without_its_copies_has_a_dicom_seg(table, model_path, manifest, tmp_path):
    options = (
        model_path,
        table,
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
        "--format",
        "dicom-seg",
    )
    shutil.copy(tmp_path / "patient/3-4.dcm", tmp_path / "patient/again.dcm")
    done = run(*options)
    assert "holds copies of slices: again.dcm of 3-4.dcm; expected each slice once" in done.output
    assert done.exit_code == 1
    done = run(*options, "--repair")
    assert done.exit_code == 0, done.output
    assert "repaired: " in done.output
    assert len(pydicom.dcmread(tmp_path / "out/x.dcm").ReferencedSeriesSequence) == 1


def test_a_folder_is_searched_once_for_all_its_series(table, monkeypatch):
    (case,) = find_cases(table)
    looked_at, look_at = [], series.is_dicom_file
    monkeypatch.setattr(series, "is_dicom_file", lambda p: looked_at.append(p) or look_at(p))
    onto = replace(case.images["t1"], onto=case.images["flair"])
    for images in (case.images, {**case.images, "t1": onto}):
        changed = replace(case, images=images)
        read_volume(changed, ("flair", "t1"))
        assert check_case(changed, ("flair", "t1"), voxels=False) == []
    assert Counter(looked_at) == dict.fromkeys((table.parent / "patient").iterdir(), 1)
