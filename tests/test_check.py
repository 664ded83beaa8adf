import json
from dataclasses import replace

import numpy as np
import pytest

from vol3dseg import formats
from vol3dseg.datasets.case import ImageSource, allow_repairs
from vol3dseg.datasets.checks import check, check_case, preflight
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.formats.image_file import ImageFile
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.preprocessing.index import load_index
from vol3dseg.space.geometry import Geometry

MODALITIES = ("flair", "t1")


@pytest.fixture
def case(brats_folder):
    """The first of three good cases."""
    return find_cases(brats_folder)[0]


def spoil(path, change):
    """Write an image or label map anew, its array changed."""
    array, grid = formats.open_volume(path).labels()
    nifti.write(path, change(np.array(array, dtype=np.float32)), grid)


def moved(path, mm):
    array, grid = formats.open_volume(path).labels()
    affine = grid.affine.copy()
    affine[0, 3] += mm
    nifti.write(path, array, Geometry(grid.shape, affine))


def without_orientation(path):
    array, grid = formats.open_volume(path).labels()
    plain = path.with_name(path.name.removesuffix(".gz"))
    nifti.write(plain, array, grid)
    data = bytearray(plain.read_bytes())
    data[252:256] = bytes(4)
    plain.unlink()
    path.write_bytes(bytes(data))  # not packed, though its name says so: noted as well


def test_nothing_is_found_where_all_is_well(case, labels):
    assert check_case(case, MODALITIES, labels) == []
    assert check_case(case, MODALITIES, voxels=False) == []


def test_all_that_is_wrong_is_found_at_once(case, labels):
    other = case.images["t1"].path.with_name("other.nii.gz")
    other.write_bytes(b"hello")
    case = replace(case, images={**case.images, "t2": ImageSource(other)})
    moved(case.images["t1"].path, 5)
    spoil(case.label, lambda array: np.where(array > 0, 7, array))
    found = check_case(case, (*MODALITIES, "t2", "pd"), labels)
    assert [f.severity for f in found] == ["error"] * 4
    assert [str(f).partition(", ")[0].partition(" has ")[0] for f in found] == [
        "case Case_001: modality pd is missing; found flair",
        f"{other}: not a NIfTI file; expected NIfTI (.nii",
        f"case Case_001: flair and t1 lie on different grids: {case.images['flair'].path}",
        f"{case.label}: holds label values 7 (488 voxels); expected the values that the config "
        "reads",
    ]
    assert {f.case for f in found} == {case.id}


def test_headers_alone_read_no_voxel(case, monkeypatch):
    monkeypatch.setattr(ImageFile, "_voxels", None)
    moved_path = case.images["t1"].path
    assert check_case(case, MODALITIES, voxels=False) == []
    monkeypatch.undo()
    moved(moved_path, 5)
    monkeypatch.setattr(ImageFile, "_voxels", None)
    (finding,) = check_case(case, MODALITIES, voxels=False)
    assert finding.where == f"case {case.id}"
    assert finding.expected == "one grid"
    assert "t1_resample" in finding.remedy


def test_voxels_are_checked_where_headers_are_well(case, labels):
    spoil(case.images["flair"].path, lambda array: np.full_like(array, 3))
    spoil(case.images["t1"].path, lambda array: np.where(array == array.max(), np.nan, array))
    spoil(case.label, np.zeros_like)
    assert check_case(case, MODALITIES, voxels=False) == []
    found = check_case(case, MODALITIES, labels)
    assert [f.severity for f in found] == ["error", "error", "warning"]
    flat, bad, empty = found
    assert flat.found == "all voxels of flair have one value"
    assert "NaN or infinite" in bad.found
    assert "_nan of a dataset table" in bad.remedy
    assert empty.found == "the label map is empty: all of it is background"


def test_a_flat_image_of_a_case_to_predict_is_a_warning(case, labels):
    spoil(case.images["flair"].path, lambda array: np.full_like(array, 3))
    (finding,) = check_case(replace(case, label=None), MODALITIES, labels)
    assert finding.severity == "warning"


def test_a_class_that_is_required_and_lacking_is_noted(case, labels):
    needed = labels.model_copy(update={"required": ("enhancing",)})
    assert check_case(case, MODALITIES, needed) == []
    spoil(case.label, lambda array: np.where(array == 4, 1, array))
    (finding,) = check_case(case, MODALITIES, needed)
    assert finding.severity == "note"
    assert "lacks the required class enhancing" in finding.found


def test_a_data_set_is_checked_case_by_case(brats_folder, labels):
    cases = find_cases(brats_folder)
    spoil(cases[0].images["flair"].path, lambda array: np.full_like(array, 3))
    spoil(cases[2].label, np.zeros_like)
    moved(cases[2].images["t1"].path, 5)
    calls = []
    found = check(cases, labels=labels, progress=lambda: calls.append(1))
    assert [(f.severity, f.case) for f in found] == [
        ("error", "Case_001"), ("error", "Case_003"), ("warning", "Case_003"),
    ]  # fmt: skip
    assert len(calls) == len(cases)
    wanting = [replace(cases[1], images=cases[1].select(["t1"]).images), cases[1]]
    (finding,) = check(wanting)
    assert finding.found == "modality flair is missing; found t1"
    assert check(wanting, ["t1"]) == []


def test_preflight_tells_what_reading_would_say(brats_folder):
    cases = find_cases(brats_folder)
    moved(cases[1].label, 5)
    cases[2].images["t1"].path.unlink()
    assert list(preflight(cases, MODALITIES)) == [cases[1].id, cases[2].id]
    assert list(preflight(cases, MODALITIES, labelled=False)) == [cases[2].id]


def test_a_repair_is_a_note_where_it_is_allowed(case, labels):
    without_orientation(case.label)
    found = check_case(case, MODALITIES, labels)
    assert [f.severity for f in found] == ["error"]
    assert "or give --repair: it is then read as LAS" in found[0].remedy
    (allowed,) = allow_repairs([case])
    found = check_case(allowed, MODALITIES, labels)
    assert ("note", f"{case.label.name}") in [
        (f.severity, f.where.rpartition("/")[2]) for f in found
    ]
    assert sum("(repaired)" in f.found for f in found) == 1


class TestCommand:
    def test_what_is_well(self, vol3dseg, brats_folder, config_path):
        done = vol3dseg("check", brats_folder, "-c", config_path, "-j", 1)
        assert done.stdout == (
            f"{brats_folder}: BraTS layout, 3 cases, 3 with a label map: 0 refused (0 errors, "
            "0 warnings, 0 notes)\n"
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_findings_by_weight_and_together(self, vol3dseg, brats_folder, config_path):
        cases = find_cases(brats_folder)
        for case in cases:
            path = case.images["t1"].path
            array, grid = formats.read_image(path)
            nifti.write(path, array[..., None], grid)
        moved(cases[2].images["flair"].path, 5)
        spoil(cases[1].label, np.zeros_like)
        done = vol3dseg("check", brats_folder, "-c", config_path, "-j", 1)
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert [line.partition(":")[0] for line in lines[:-1]] == ["error"] * 2 + [
            "warning", "note"
        ]  # fmt: skip
        assert lines[0].startswith("error: case Case_003: flair and t1 lie on different grids: ")
        assert "flair and label lie on different grids" in lines[1]
        assert lines[2].startswith("warning: case Case_002: ")
        assert lines[3] == (
            "note: 3 of 3 cases (Case_001, Case_002, Case_003): <id>/<id>_t1.nii.gz: has 4 "
            "axes, of which the last are single; read as 3"
        )
        assert lines[-1].endswith("1 refused (2 errors, 1 warnings, 3 notes)")

    def test_numbers_do_not_part_what_is_alike(self, vol3dseg, brats_folder, config_path):
        for number, case in enumerate(find_cases(brats_folder), start=1):
            array, grid = formats.read_image(case.images["t1"].path)
            array[:number, 0, 0] = np.nan
            nifti.write(case.images["t1"].path, array, grid)
        done = vol3dseg("check", brats_folder, "-c", config_path, "-j", 1)
        assert done.stdout.splitlines()[0].startswith(
            "error: 3 of 3 cases (Case_001, Case_002, Case_003): <id>/<id>_t1.nii.gz: 1, 2 or 3 "
            "voxels are NaN or infinite; expected finite intensities; give the number"
        )
        assert done.stdout.count("\n") == 2

    def test_which_case_has_no_label_map(self, vol3dseg, brats_folder, config_path):
        first, second, _ = find_cases(brats_folder)
        first.label.unlink()
        second.label.rename(second.label.with_name("Case_002_mask.nii.gz"))
        done = vol3dseg("check", brats_folder, "-c", config_path, "-j", 1)
        assert done.returncode == 0
        assert done.stdout.splitlines()[:2] == [
            f"warning: case Case_002: {brats_folder}/Case_002/Case_002_mask.nii.gz: looks like a "
            "label map, but its case has none by the names of files; name it as the layout has "
            "it, or in the column label of a dataset table",
            "note: case Case_001: has no label map",
        ]
        second.label.with_name("Case_002_mask.nii.gz").unlink()
        find_cases(brats_folder)[2].label.unlink()
        done = vol3dseg("check", brats_folder, "-c", config_path, "-j", 1)
        assert done.stdout.count("\n") == 1  # who has none at all means to predict

    def test_for_programs(self, vol3dseg, brats_folder, config_path):
        path = find_cases(brats_folder)[0].images["t1"].path
        path.write_bytes(b"hello")
        done = vol3dseg("check", brats_folder, "-c", config_path, "--json", "-j", 1)
        assert done.returncode == 1
        content = json.loads(done.stdout)
        assert (content["layout"], content["cases"]) == ("BraTS", 3)
        assert content["findings"] == [
            {
                "severity": "error",
                "case": "Case_001",
                "where": str(path),
                "found": "not a NIfTI file",
                "expected": "NIfTI (.nii, .nii.gz, or .hdr with .img), NRRD or MetaImage",
                "remedy": "export the scan as one of them",
                "listed": "",
                "traceback": "",
            }
        ]

    def test_the_table_is_the_data_set(self, vol3dseg, brats_folder, config_path, tmp_path):
        done = vol3dseg("check", brats_folder, "--table", tmp_path / "t.csv", "-j", 1)
        assert (done.returncode, done.stderr) == (0, "")
        assert find_cases(tmp_path / "t.csv") == find_cases(brats_folder)


class TestRepair:
    def test_each_is_recorded(self, vol3dseg, brats_folder, config_path, model_path, tmp_path):
        path = brats_folder / "Case_002/Case_002_seg.nii.gz"
        for name in (*MODALITIES, "seg"):
            without_orientation(path.with_name(f"Case_002_{name}.nii.gz"))
        prepare = ("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
        done = vol3dseg(*prepare)
        assert done.returncode == 1
        assert f"failed: case Case_002: {path}: header says nothing of orientation" in done.stderr
        assert not (tmp_path / "P/cases/Case_002.h5").exists()
        done = vol3dseg(*prepare, "--repair")
        assert done.returncode == 0
        assert "repaired: case Case_002: label: header says nothing of orientation" in done.stdout
        entry = load_index(tmp_path / "P").entry("Case_002")
        assert [line.partition(":")[0] for line in entry.repairs] == ["flair", "t1", "label"]
        assert [line.partition(":")[0] for line in entry.notes] == ["flair", "t1", "label"]
        assert load_index(tmp_path / "P").entry("Case_001").repairs == ()

        done = vol3dseg(*prepare)  # what was repaired does not stand where repairs are not allowed
        assert done.returncode == 1
        assert "Case_002" in load_index(tmp_path / "P").failed

        predict = ("predict", model_path, brats_folder, "-o", tmp_path / "O")
        assert vol3dseg(*predict).returncode == 1
        assert not (tmp_path / "O/Case_002.nii.gz").exists()
        done = vol3dseg(*predict, "--repair")
        assert done.returncode == 0
        assert "  repaired: flair: header says nothing of orientation" in done.stderr
        record = json.loads((tmp_path / "O/predictions.json").read_text())["cases"]["Case_002"]
        assert len(record["repairs"]) == 2


def test_a_flat_modality_is_refused_for_training_and_warned_of_in_prediction(
    vol3dseg, brats_folder, config_path, model_path, tmp_path
):
    path = find_cases(brats_folder)[1].images["t1"].path
    spoil(path, lambda array: np.full_like(array, 3))
    done = vol3dseg("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
    assert done.returncode == 1
    assert (
        f"failed: case Case_002: {path}: all voxels of t1 have one value; expected a scan; export "
        "it again, or leave the case out" in done.stderr
    )
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    assert done.returncode == 0
    assert "  warning: all voxels of t1 have one value" in done.stderr


def test_evaluate_repairs_where_it_is_allowed(vol3dseg, brats_folder, config_path, tmp_path):
    for number in (1, 2, 3):
        path = brats_folder / f"Case_00{number}/Case_00{number}_seg.nii.gz"
        without_orientation(path)
        (tmp_path / "O").mkdir(exist_ok=True)
        (tmp_path / f"O/Case_00{number}.nii.gz").write_bytes(path.read_bytes())
    judge = ("evaluate", tmp_path / "O", brats_folder, "-o", tmp_path / "R", "-c", config_path)
    done = vol3dseg(*judge)
    assert done.returncode == 1
    assert "header says nothing of orientation" in done.stderr
    assert not (tmp_path / "R").exists()
    assert vol3dseg(*judge, "--repair").returncode == 0


def test_inspect_suspects_what_was_repaired(vol3dseg, brats_folder, tmp_path):
    pytest.importorskip("PIL")
    for kind in ("flair", "t1", "seg"):
        without_orientation(brats_folder / f"Case_002/Case_002_{kind}.nii.gz")
    done = vol3dseg("inspect", brats_folder, "-o", tmp_path / "D", "--repair", "-j", 1)
    assert done.returncode == 0
    suspects = json.loads((tmp_path / "D/suspects.json").read_text())
    (case,) = [s for s in suspects["suspects"] if s["case"] == "Case_002"]
    said = [r["text"] for r in case["reasons"] if r["text"].endswith("(repaired)")]
    assert len(said) == 3
    assert "header says nothing of orientation" in said[0]
