"""`vol3dseg plan`, and `preprocess` without a config, on small data sets."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("scipy")

from vol3dseg.cli.main import cli
from vol3dseg.config import dump_config, load_config, parse_config
from vol3dseg.config.yaml_text import values_of_yaml
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.errors import DatasetError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.planning import step_speed
from vol3dseg.planning.fingerprint import take_fingerprint
from vol3dseg.planning.make_plan import plan
from vol3dseg.planning.workload import Speed
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.space.geometry import Geometry

FAST = Speed(1e11, how="given by a test")
GRID = Geometry((24, 20, 9), np.diag([1.0, 1.0, 4.0, 1.0]))


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.write(path, array, GRID)


@pytest.fixture
def decathlon(tmp_path):
    """Four cases with two classes in one piece and in three."""
    folder, rng = tmp_path / "Task", np.random.default_rng(0)
    label = np.zeros(GRID.shape, np.uint8)
    label[4:12, 4:12, 2:6] = 1
    label[15, 15, [1, 4, 7]] = 2
    names = [f"case_{n}" for n in range(4)]
    for name in names:
        image = rng.normal(100, 20, GRID.shape).astype(np.float32)
        write(folder / f"imagesTr/{name}.nii.gz", image)
        write(folder / f"labelsTr/{name}.nii.gz", label)
    entries = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in names]
    content = {
        "modality": {"0": "T1"}, "labels": {"0": "rest", "1": "organ", "2": "lesion"},
        "training": entries, "test": [],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_a_data_set_is_measured(decathlon):
    found = take_fingerprint(find_cases(decathlon))
    assert found.values == [1, 2]
    assert found.cases[0].shape == (24, 20, 9)
    assert found.cases[0].spacing_mm == pytest.approx((1, 1, 4))
    assert found.cases[0].classes[1].pieces == (256,)
    assert found.cases[0].classes[2].pieces == (1, 1, 1)
    assert found.foreground == pytest.approx(259 / (24 * 20 * 9))
    assert found.cases[0].images["T1"].nonzero == 1
    assert found.cases[0].images["T1"].foreground.size == 259


def test_a_plan_is_written_and_read(decathlon, tmp_path):
    made = plan(decathlon, tmp_path / "plan.yaml", speed=FAST, memory_mb=4000)
    assert load_config(tmp_path / "plan.yaml") == made.config
    assert made.config.labels.names == ("rest", "organ", "lesion")
    assert made.config.recipe.modalities == ("T1",)
    assert made.config.model.kernels[0] == (3, 3, 1)
    assert "named by dataset.json" in made.text


def test_preprocess_plans_where_it_is_given_no_config(decathlon, tmp_path, monkeypatch):
    monkeypatch.setattr(step_speed, "find_spec", lambda name: None)
    index = preprocess(decathlon, tmp_path / "P")
    assert not index.failed
    assert load_config(tmp_path / "P" / "plan.yaml") == index.config
    (tmp_path / "P" / "plan.yaml").unlink()
    again = preprocess(decathlon, tmp_path / "P")  # takes the one that it was made with
    assert again.config == index.config == load_index(tmp_path / "P").config
    assert not (tmp_path / "P" / "plan.yaml").exists()


def test_cases_that_cannot_be_read_or_have_no_label_are_passed_over_and_said(decathlon):
    (decathlon / "labelsTr/case_0.nii.gz").write_bytes(b"no image")
    content = json.loads((decathlon / "dataset.json").read_text())
    del content["training"][1]["label"]
    (decathlon / "dataset.json").write_text(json.dumps(content))
    found = take_fingerprint(find_cases(decathlon))
    assert [case.case_id for case in found.cases] == ["case_2", "case_3"]
    without, passed = found.notes
    assert "1 of 4 cases have no label map: case_1" in without
    assert "case case_0 was passed over" in passed


def test_images_of_a_large_data_set_are_sampled(decathlon, monkeypatch):
    from vol3dseg.planning import fingerprint

    monkeypatch.setattr(fingerprint, "MOST_IMAGED", 2)
    found = take_fingerprint(find_cases(decathlon))
    assert [case.case_id for case in found.imaged] == ["case_0", "case_2"]
    assert len(found.cases) == 4
    assert "images of 2 of 4 labelled cases were read" in found.notes[0]


def test_a_data_set_without_label_maps(tmp_path):
    make_phantoms(tmp_path, cases=1, seed=0, shape=(16, 16, 16))
    (tmp_path / "Phantom_001/Phantom_001_seg.nii.gz").unlink()
    with pytest.raises(DatasetError, match="none of 1 cases has a label map"):
        plan(tmp_path, speed=FAST)


def test_a_data_set_whose_label_maps_are_empty(decathlon):
    for n in range(4):
        write(decathlon / f"labelsTr/case_{n}.nii.gz", np.zeros(GRID.shape, np.uint8))
    with pytest.raises(DatasetError, match="hold background only"):
        plan(decathlon, speed=FAST)


def test_modalities_that_not_every_case_has_are_left_out(tmp_path):
    make_phantoms(tmp_path, cases=2, seed=0, shape=(16, 16, 16))
    (tmp_path / "Phantom_002/Phantom_002_t2.nii.gz").unlink()
    rows = [f"Phantom_00{n},Phantom_00{n}/Phantom_00{n}" for n in (1, 2)]
    table = "id,flair,t2,label\n" + "".join(
        f"{row}_flair.nii.gz,{'' if n else row.split(',')[1] + '_t2.nii.gz'},"
        f"{row.split(',')[1]}_seg.nii.gz\n"
        for n, row in enumerate(rows)
    )
    (tmp_path / "table.csv").write_text(table)
    cases = find_cases(tmp_path)
    made = plan(cases, speed=FAST, memory_mb=4000)
    assert made.config.recipe.modalities == ("flair", "t1", "t1ce")
    assert any("modality t2 is left out: 1 of 2" in note for note in made.notes)


@pytest.fixture
def run(monkeypatch):
    """Run a command in this process, on a machine whose speed is not measured by TensorFlow."""
    monkeypatch.setattr(step_speed, "find_spec", lambda name: None)
    return lambda *words: CliRunner().invoke(cli, [*map(str, words), "-j", "1"])


def test_a_plan_is_printed_where_it_has_no_file(decathlon, run):
    done = run("plan", decathlon, "--memory", "4GB", "--minutes", 5)
    assert done.exit_code == 0, done.output
    config = parse_config(values_of_yaml(done.stdout), "what is printed")
    assert config.labels.names == ("rest", "organ", "lesion")
    assert "planned: 2 classes, 1 modality, patches of" in done.stderr


def test_preprocess_says_in_a_line_what_it_has_planned(decathlon, tmp_path, run):
    done = run("preprocess", decathlon, "-o", tmp_path / "P")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("planned: ") == 1
    assert "4 cases prepared" in done.stdout
    again = run("preprocess", decathlon, "-o", tmp_path / "P")
    assert "planned" not in again.stdout


def test_preprocess_warns_of_a_patch_that_is_larger_than_all_scans(decathlon, tmp_path, run):
    made = plan(decathlon, speed=FAST, memory_mb=4000)
    data = made.config.model_dump(mode="json")
    data["recipe"]["patch_size"] = [96, 96, 96]
    config = parse_config(data, "test")
    (tmp_path / "c.yaml").write_text(dump_config(config))
    done = run("preprocess", decathlon, "-o", tmp_path / "P", "-c", tmp_path / "c.yaml")
    assert "warning: patches of 96x96x96 voxels are larger than every scan" in done.stderr


def test_thick_slices_of_one_patient(shared_data):
    """Their mask is a series in a folder that is called like one."""
    pytest.importorskip("pydicom")
    made = plan(shared_data / "dicom" / "glioblastoma", speed=FAST, memory_mb=4000)
    assert made.config.recipe.modalities == ("FLAIRreg", "T1post", "T1prereg", "T2reg")
    assert made.config.labels.names == ("background", "class 1")
    assert made.config.model.kernels[:3] == ((3, 3, 1),) * 3
    assert made.config.model.strides[:3] == ((2, 2, 1),) * 3
    assert made.config.split.validation == 0
    assert "nothing says how good the model is on others" in made.notes[0]
