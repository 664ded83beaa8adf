"""The comparison with nnU-Net on adopted models: who takes part, what they are given, its rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import measuring
from benchmarks.adopted import compared, section
from benchmarks.adopted_rows import BASELINES, BY_CLASS, NNUNET, Place, contestants
from benchmarks.adopted_setups import FULL, SMALL, Setup, head
from benchmarks.measuring import Measured
from benchmarks.rows import Contestant
from benchmarks.table import markdown
from benchmarks.workers import Reply
from vol3dseg.formats import open_volume
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.geometry import Geometry

ROOT = Path(__file__).resolve().parents[1]
SETUPS = [pytest.param(each, id=f"{each.name}-{n}") for n, each in enumerate((*FULL, *SMALL))]
TINY = Setup("tiny", "Tiny", (4, 4, 5), (4, 4, 5), 1, 3, (4, 4, 4), (2,), limit_mb=200.0)


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("mirror", [False, True])
def test_all_have_a_worker_the_same_scan_and_settings_that_travel(setup, mirror, tmp_path):
    place = Place(tmp_path, tmp_path / "model", tmp_path / "a.onnx", {"m": tmp_path / "m.nii.gz"})
    found = contestants(setup, place, mirror, 2, 1000.0)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = {each.name for each in found}
    assert len(names) == len(found) == 6
    for each in found:
        assert (ROOT / "benchmarks" / "contestants" / f"{each.module}.py").is_file()
        assert f"$(BENCH)/{each.environment}/.ready:" in makefile
        assert json.loads(json.dumps(dict(each.settings))) == dict(each.settings)
        assert each.settings["images"] == {"m": str(tmp_path / "m.nii.gz")}
        assert each.settings["mirror"] is mirror
        assert set(each.asked) <= names
        assert bool(each.asked) == each.is_ours
    assert len({each.settings["output"] for each in found}) == len(found)
    assert NNUNET in names
    assert names & set(BASELINES) == names - {each.name for each in found if each.is_ours} - {
        "nnU-Net, channels last"
    }
    limits = {each.settings["max_memory_mb"] for each in found if each.is_ours}
    assert limits == {4e9 / 2**20 if setup.ct else None}


def test_small_and_full_compare_the_same_and_plans_of_networks_fit_their_patches():
    assert [each.name for each in SMALL] == [each.name for each in FULL]
    assert [each.classes for each in SMALL] == [each.classes for each in FULL]
    assert {each.classes for each in FULL if each.ct} == {25, 117}
    for each in (*FULL, *SMALL):
        halved = 2 ** (len(each.widths) - 1)
        assert all(side % halved == 0 and side // halved >= 2 for side in each.patch_size)


def test_what_is_not_zero_of_a_head_fills_its_box():
    image = head((24, 20, 16), (13, 14, 7), seed=1)
    for axis, side in enumerate((13, 14, 7)):
        there = np.flatnonzero(image.any(axis=tuple({0, 1, 2} - {axis})))
        assert len(there) == there[-1] - there[0] + 1
        assert len(there) in (side - 1, side, side + 1)  # a middle that lies between voxels
    assert not np.array_equal(image, head((24, 20, 16), (13, 14, 7), seed=2))


def test_scans_are_written_once_and_a_ct_is_at_the_spacing_it_is_said_to_be(tmp_path):
    ct = next(each for each in SMALL if each.ct)
    (file,) = ct.write_images(tmp_path / "ct").values()
    volume = open_volume(file)
    np.testing.assert_allclose(volume.geometry(None).spacing_mm, 0.8, rtol=1e-6)
    assert volume.geometry(None).shape == ct.shape
    before = file.stat().st_mtime_ns
    assert ct.write_images(tmp_path / "ct") == {"CT": file}
    assert file.stat().st_mtime_ns == before
    brats = next(each for each in SMALL if each.modalities == 4)
    files = brats.write_images(tmp_path / "brats")
    assert [path.name for path in files.values()] == [f"case_000{n}.nii.gz" for n in range(4)]


@pytest.fixture
def answer(tmp_path):
    """Write a label map of two classes in which some voxels are others than in the first."""

    def write(name, differing):
        labels = np.zeros(TINY.shape, dtype=np.uint8)
        labels[:2] = 1
        labels.ravel()[:differing] = 2
        path = tmp_path / f"{name}.nii.gz"
        nifti.write(path, labels, Geometry(TINY.shape, np.eye(4)))
        return path

    return write


def measured(name, file=None, problem="", seconds=1.0, peak_mb=100.0):
    module = "ours_adopted" if name.startswith("ours") else "nnunet_adopted"
    settings = {"most_mb": 9000.0}
    entry = Measured(Contestant(name, "torch", module, settings, how="a loop"), problem=problem)
    if file:
        entry.replies.append(Reply(seconds, peak_mb, {"file": str(file)}))
    return entry


def test_labels_are_counted_in_all_voxels_and_in_those_of_foreground(answer):
    assert compared(answer("a", 3), answer("b", 0)) == (1 - 3 / 80, 3, 40)
    assert compared(answer("a", 3), answer("a", 3)) == (1, 0, 40)


def test_rows_are_held_against_nnunet_in_time_memory_and_labels(answer):
    theirs = measured(NNUNET, answer("theirs", 0), seconds=3.0, peak_mb=400.0)
    ours = measured("ours, OpenVINO float32", answer("ours", 4))
    found = section(TINY, True, [theirs, ours])
    assert found.title == "Tiny, mirroring on, 8 views"
    assert [row.agreement for row in found.rows] == [1, 1 - 4 / 80]
    text = markdown(found)
    assert "| ours, OpenVINO float32 | 1.000 | 1.000 | 3.00 |" in text
    assert "4 labels differ, 10.0000% of those of foreground" in text
    assert "- agreement is with the labels of nnU-Net" in text.splitlines()
    assert "share of that of nnU-Net (asked: at most 50%): ours, OpenVINO float32 25%" in text
    assert "ours, OpenVINO float32: 50% of the limit at its peak" in text


@pytest.mark.parametrize(
    "problem",
    [
        "run: MemoryError: Unable to allocate 34.3 GiB",
        "run: _ArrayMemoryError: Unable to allocate",
        "run: RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
        "run: RuntimeError: not enough memory: you tried to allocate 9 bytes",
        "benchmarks.contestants.nnunet_adopted ended with code -9; its last words: nothing",
    ],
)
def test_who_needs_more_memory_than_there_is_has_a_row_that_says_so(problem, answer, monkeypatch):
    monkeypatch.setattr(measuring, "python_of", lambda environment: Path("python"))
    slow = measured(BY_CLASS, answer("slow", 0), seconds=2.0)
    ours = measured("ours, onnxruntime", answer("ours", 0))
    found = section(TINY, False, [measured(NNUNET, problem=problem), slow, ours])
    assert not any(row.failed or row.problem for row in found.rows)
    lines = markdown(found).splitlines()
    assert any(
        line.startswith("| nnU-Net | - |") and "out of memory: needs more than 9000 MB" in line
        for line in lines
    )
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert f"- agreement is with the labels of {BY_CLASS}" in lines
    assert any(f"a share of that of {BY_CLASS}" in line for line in lines)


def test_other_failures_are_failures(answer, monkeypatch):
    monkeypatch.setattr(measuring, "python_of", {"torch": Path("python")}.get)
    broken = measured(NNUNET, problem="run: RuntimeError: Encountered inf in predicted array")
    found = section(TINY, False, [broken, measured("ours, onnxruntime", answer("ours", 0))])
    assert found.rows[0].failed
    assert "- left out: nnU-Net: run: RuntimeError" in markdown(found)
    assert "- agreement is with the labels of ours, onnxruntime" in markdown(found)
    assert section(TINY, False, [broken]).notes == [], "nothing to compare with"
