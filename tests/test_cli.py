"""The command line as a user meets it: the line of deployment, one clear line per refusal."""

import errno
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import pytest
import yaml

from vol3dseg import formats
from vol3dseg.cli import main as command_line
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.model.model_file import with_manifest
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.quality.training_data import describe_data


def refused(done, *parts):
    """Check one line on stderr, exit code 1, no traceback."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def test_the_line_of_deployment(vol3dseg, brats_folder, config_path, model_path, tmp_path):
    done = vol3dseg("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 2)
    assert done.returncode == 0, done.stderr
    assert "3 cases prepared, 0 left out, 0 failed" in done.stdout
    done = vol3dseg("info", tmp_path / "P", "--json")
    assert len(json.loads(done.stdout)["cases"]) == 3

    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O", "--probabilities")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "O" / "predictions.json").read_text())
    assert record["provider"] in done.stdout
    assert set(record["cases"]) == {"Case_001", "Case_002", "Case_003"}
    assert set(record["cases"]["Case_001"]["seconds"]) == {
        "read", "prepare", "infer", "restore", "write",
    }  # fmt: skip
    source = nib.load(brats_folder / "Case_001" / "Case_001_t1.nii.gz")
    ours = nib.load(tmp_path / "O" / "Case_001.nii.gz")
    np.testing.assert_array_equal(ours.affine, source.affine)
    assert ours.shape == source.shape
    assert set(np.unique(ours.dataobj).tolist()) <= {0, 1, 2, 4}
    assert nib.load(tmp_path / "O" / "Case_001_probabilities.nii.gz").shape == (24, 20, 18, 4)

    done = vol3dseg("evaluate", tmp_path / "O", brats_folder, "-o", tmp_path / "R")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "R").glob("[!.]*")} == {
        "cases.csv", "report.html", "summary.json", "summary.md",
    }  # fmt: skip


def test_nothing_in_deployment_imports_tensorflow(brats_folder, config_path, model_path, tmp_path):
    code = f"""
import sys
extras = {{"tensorflow", "keras", "tf2onnx", "SimpleITK", "matplotlib", "scipy"}}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in extras:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import vol3dseg
from pathlib import Path
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.inference.predicting import predict
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.cli.train import train
from vol3dseg.errors import MissingExtraError
data, out = Path({str(brats_folder)!r}), Path({str(tmp_path)!r})
preprocess(data, out / "P", {str(config_path)!r})
predict({str(model_path)!r}, [data], out / "O")
evaluate(out / "O", data, out / "R")
try:
    options = {{option.name: None for option in train.params}}
    options |= {{"prepared": out / "P", "output": out / "run", "configs": ()}}
    train.callback(**options)
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'vol3dseg[train]'" in done.stdout
    assert not (tmp_path / "run").exists()


def test_help_answers_at_once(vol3dseg):
    vol3dseg("--help")  # compiled files are there from now on
    started = time.perf_counter()
    done = vol3dseg("--help")
    taken = time.perf_counter() - started
    for command in (
        "preprocess",
        "train",
        "export-onnx",
        "predict",
        "evaluate",
        "show",
        "info",
        "demo",
    ):
        assert command in done.stdout
    modules = subprocess.run(
        [sys.executable, "-c", "import vol3dseg.cli.main, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"numpy", "pydantic", "onnx", "h5py", "tensorflow"} & set(modules)
    assert taken < 0.5


def test_a_scan_that_is_unlike_is_said_so(vol3dseg, brats_folder, manifest, model_path, tmp_path):
    cases = [read_volume(case, ("flair", "t1")) for case in find_cases(brats_folder)]
    looks = [prepare(volume, manifest.recipe).appearance for volume in cases]
    data = describe_data(looks * 4, [], {})
    model = onnx.load_model_from_string(model_path.read_bytes())
    known = manifest.model_copy(update={"training_data": data})
    model_path.write_bytes(with_manifest(model, known))
    path = brats_folder / "Case_002" / "Case_002_t1.nii.gz"
    array, grid = formats.read_image(path)
    nifti.write(path, (array * 100).astype(np.int32), grid)
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    assert done.returncode == 0, done.stderr
    assert "note: what is typical was learnt from only 12 training cases\n" in done.stdout
    assert "3 cases segmented (1 with warnings), 0 failed" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "warning: " in line]
    assert line.startswith("  warning: t1 has an unusually wide range of intensities: ")
    assert line.endswith("; are the units right?")
    record = json.loads((tmp_path / "O" / "predictions.json").read_text())
    assert record["cases"]["Case_002"]["warnings"] == [line.removeprefix("  warning: ")]
    assert record["cases"]["Case_001"]["warnings"] == []


def test_one_case_by_named_images(vol3dseg, brats_folder, model_path, tmp_path):
    case = brats_folder / "Case_002"
    images = [f"--image={m}={case}/Case_002_{m}.nii.gz" for m in ("t1", "flair")]
    done = vol3dseg("predict", model_path, *images, "--id", "x", "-o", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    vol3dseg("predict", model_path, case, "-o", tmp_path / "two")
    one, two = (tmp_path / "one/x.nii.gz", tmp_path / "two/Case_002.nii.gz")
    assert one.read_bytes() == two.read_bytes()


def test_a_part_of_a_split(vol3dseg, brats_folder, model_path, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(
        json.dumps({"train": ["Case_001"], "validation": ["Case_002"], "test": ["Case_003"]})
    )
    words = ("--split", split, "--part", "test")
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O", *words)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "O").glob("*.nii.gz")) == ["Case_003.nii.gz"]


def test_split_shows_what_train_would_do(vol3dseg, brats_folder, config_path, tmp_path):
    pytest.importorskip("matplotlib")
    vol3dseg("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
    done = vol3dseg("split", tmp_path / "P", "-o", tmp_path / "S", "--stratify")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "S" / "split.md").read_text()
    assert "stratified by foreground volume" in table
    (train,) = [line for line in table.splitlines() if line.startswith("| train")]
    assert train in done.stdout
    array, grid = formats.open_volume(brats_folder / "Case_001" / "Case_001_seg.nii.gz").labels()
    assert f"{np.count_nonzero(array) * grid.voxel_volume_mm3 / 1000:.4g}" in train
    assert (tmp_path / "S" / "split.png").read_bytes().startswith(b"\x89PNG")

    data = yaml.safe_load(config_path.read_text())
    data["split"] = {"file": str(tmp_path / "S" / "split.json")}
    config_path.write_text(yaml.safe_dump(data))
    done = vol3dseg("split", tmp_path / "P", "-o", tmp_path / "T", "-c", config_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "T/split.json").read_text() == (tmp_path / "S/split.json").read_text()
    anew = ("-o", tmp_path / "U", "-c", config_path, "--stratify")
    vol3dseg("split", tmp_path / "P", *anew)
    assert "stratified by foreground volume" in (tmp_path / "U" / "split.md").read_text()


SPLIT = {"train": ["Case_001"], "validation": ["Case_002"], "test": ["Case_003"]}
PARTS = [
    pytest.param([], ["Case_001", "Case_002", "Case_003"], id="all parts"),
    pytest.param(["test", "train"], ["Case_001", "Case_003"], id="two parts"),
]


@pytest.mark.parametrize(("parts", "expected"), PARTS)
def test_several_parts_of_a_split(parts, expected, vol3dseg, brats_folder, model_path, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    words = ["--split", tmp_path / "split.json", *(f"--part={part}" for part in parts)]
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O", *words)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads((tmp_path / "O/predictions.json").read_text())["cases"]) == expected


def test_resume_does_what_is_missing(vol3dseg, brats_folder, model_path, tmp_path):
    words = ("predict", model_path, brats_folder, "-o", tmp_path / "O", "--device", "cpu")
    vol3dseg(*words)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "O").glob("*.nii.gz")}
    (tmp_path / "O" / "Case_001.nii.gz").unlink()
    (tmp_path / "O" / "Case_002.nii.gz").unlink()
    kept = (tmp_path / "O" / "Case_003.nii.gz").stat().st_mtime_ns
    done = vol3dseg(*words, "--resume")
    assert "1 of 3 cases are complete" in done.stdout
    assert "2 cases segmented, 0 failed" in done.stdout
    assert {p.name: p.read_bytes() for p in (tmp_path / "O").glob("*.nii.gz")} == whole
    assert (tmp_path / "O" / "Case_003.nii.gz").stat().st_mtime_ns == kept
    record = json.loads((tmp_path / "O" / "predictions.json").read_text())
    assert sorted(record["cases"]) == ["Case_001", "Case_002", "Case_003"]

    other = onnx.load(model_path)
    other.doc_string = "another file"
    onnx.save(other, tmp_path / "other.onnx")
    words = ("predict", tmp_path / "other.onnx", brats_folder, "-o", tmp_path / "O", "--resume")
    refused(vol3dseg(*words), "predictions.json", "was made with model", "another folder")


def test_explain_tells_the_plan_and_writes_nothing(vol3dseg, brats_folder, model_path, tmp_path):
    words = ("predict", model_path, brats_folder, "-o", tmp_path / "O")
    done = vol3dseg(*words, "--explain", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("one pass over") == 3
    assert " MB, about " in done.stdout
    assert not (tmp_path / "O").exists()
    done = vol3dseg(*words, "--explain", "--max-memory", "20MB")
    assert done.returncode == 1
    assert done.stdout.count("and 20MB are given; give --max-memory ") == 3


@pytest.mark.parametrize("text", ["2", "GB", "0GB", "2 bananas", "-1GB"])
def test_amounts_of_memory_have_a_unit(text, vol3dseg, brats_folder, model_path, tmp_path):
    words = ("predict", model_path, brats_folder, "-o", tmp_path / "O", f"--max-memory={text}")
    done = vol3dseg(*words)
    assert done.returncode == 2
    assert "expected one as 2GB or 900MB" in done.stderr


def test_a_part_without_a_split_is_wrong_usage(vol3dseg, brats_folder, model_path, tmp_path):
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O", "--part", "test")
    assert done.returncode == 2
    assert "--split" in done.stderr


def test_an_empty_part_is_passed_over_unless_asked_for(
    vol3dseg, brats_folder, model_path, tmp_path
):
    (tmp_path / "split.json").write_text(json.dumps({"train": ["Case_001"]}))
    words = ("predict", model_path, brats_folder, "-o", tmp_path / "O")
    done = vol3dseg(*words, "--split", tmp_path / "split.json")
    assert "1 case segmented" in done.stdout
    done = vol3dseg(*words, "--split", tmp_path / "split.json", "--part", "test")
    refused(done, "split.json", "part test is empty")


def test_pictures_beside_predictions(vol3dseg, brats_folder, model_path, tmp_path):
    pytest.importorskip("matplotlib")
    (brats_folder / "Case_002" / "Case_002_seg.nii.gz").unlink()
    (brats_folder / "Case_003" / "Case_003_seg.nii.gz").write_bytes(b"")
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O", "--picture")
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "O" / "predictions.json").read_text())["cases"]
    assert (cases["Case_002"]["picture"], cases["Case_002"]["picture_note"]) == (
        "Case_002.png", "",
    )  # fmt: skip
    assert "drawn without reference: " in cases["Case_003"]["picture_note"]
    for name in ("Case_002", "Case_003"):
        assert (tmp_path / "O" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_a_modality_that_the_model_does_not_have(
    vol3dseg, brats_folder, model_path, tmp_path
):
    words = ("-o", tmp_path / "O", "--picture-modality", "t2")
    done = vol3dseg("predict", model_path, brats_folder, *words)
    assert done.returncode == 2
    assert "flair, t1" in done.stderr
    assert not (tmp_path / "O").exists()


def test_show_draws_what_predict_wrote(vol3dseg, brats_folder, model_path, config_path, tmp_path):
    pytest.importorskip("matplotlib")
    case, png = brats_folder / "Case_001", tmp_path / "x.png"
    vol3dseg("predict", model_path, case, "-o", tmp_path / "O")
    image, label = (case / f"Case_001_{kind}.nii.gz" for kind in ("t1", "seg"))
    done = vol3dseg("show", image, tmp_path / "O" / "Case_001.nii.gz", label, "-o", png)
    assert done.returncode == 0, done.stderr
    assert png.read_bytes().startswith(b"\x89PNG")
    options = ("--plane", "coronal", "--slice", "9", "--slice", "4", "--window", "-50", "90.5")
    assert vol3dseg("show", image, label, "-o", png, *options).returncode == 0
    refused(vol3dseg("show", image, label, "-o", png, "--slice", "99"), "no axial slice 99")
    assert vol3dseg("show", image, label, "-o", png, "-c", config_path).returncode == 0
    refused(vol3dseg("show", image, label, "-o", tmp_path / "x.jpg", "-c", config_path), ".png")


def test_show_refuses_another_grid(vol3dseg, brats_folder, config_path, tmp_path):
    pytest.importorskip("matplotlib")
    one, other = (brats_folder / f"Case_00{n}" / f"Case_00{n}" for n in (1, 2))
    words = (f"{one}_t1.nii.gz", f"{other}_seg.nii.gz", "-o", tmp_path / "x.png", "-c", config_path)
    refused(vol3dseg("show", *words), "Case_002_seg", "different grids")
    assert not (tmp_path / "x.png").exists()


def test_a_missing_matplotlib_is_said_before_the_first_case(brats_folder, model_path, tmp_path):
    code = f"""
import sys
sys.modules["matplotlib.figure"] = None
sys.argv = ["vol3dseg", "predict", {str(model_path)!r}, {str(brats_folder)!r}, "-o",
            {str(tmp_path / "O")!r}, "--picture"]
from vol3dseg.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    refused(done, "pip install 'vol3dseg[report]'")
    assert not (tmp_path / "O").exists()


def test_a_case_that_fails_is_named_and_the_rest_goes_on(
    vol3dseg, brats_folder, model_path, tmp_path
):
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"\x1f\x8b\x08\x00")
    done = vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    assert done.returncode == 1
    assert "failed: case Case_002" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in (tmp_path / "O").glob("*.nii.gz")) == [
        "Case_001.nii.gz",
        "Case_003.nii.gz",
    ]


def test_a_case_that_failed_does_not_vanish_from_the_mean(
    vol3dseg, brats_folder, model_path, tmp_path
):
    good = (brats_folder / "Case_002" / "Case_002_t1.nii.gz").read_bytes()
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(good)
    words = ("evaluate", tmp_path / "O", brats_folder, "-o", tmp_path / "R")
    refused(vol3dseg(*words), "Case_002")
    # Nor does a file that an earlier prediction left in the same folder stand in for it.
    shutil.copy(tmp_path / "O" / "Case_001.nii.gz", tmp_path / "O" / "Case_002.nii.gz")
    refused(vol3dseg(*words), "Case_002")


def test_parts_of_a_split_side_by_side(vol3dseg, brats_folder, model_path, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    split = ("--split", tmp_path / "split.json")
    parts = ("--part", "train", "--part", "validation")
    vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O", *split, *parts)
    done = vol3dseg("evaluate", tmp_path / "O", brats_folder, "-o", tmp_path / "R", *split)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "R").glob("[!.]*")) == [
        "summary.md", "train", "validation",
    ]  # fmt: skip
    assert (tmp_path / "R" / "train" / "cases.csv").is_file()
    assert done.stdout.index("Scores per case") < done.stdout.index("Pooled scores")
    assert "not comparable" in done.stdout
    assert "left out: part test has no predictions" in done.stdout
    done = vol3dseg("evaluate", tmp_path / "O", brats_folder, "-o", tmp_path / "W")
    assert "note: The means mix parts of a split (1 train, 1 validation)" in done.stdout
    recorded = json.loads((tmp_path / "O" / "predictions.json").read_text())["parts"]
    assert recorded == {part: SPLIT[part] for part in ("train", "validation")}
    assert json.loads((tmp_path / "W" / "summary.json").read_text())["parts"] == recorded


def test_a_prediction_in_no_part_is_refused(vol3dseg, brats_folder, model_path, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({**SPLIT, "test": []}))
    vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    words = ("-o", tmp_path / "R", "--split", tmp_path / "split.json")
    refused(vol3dseg("evaluate", tmp_path / "O", brats_folder, *words), "in no part: Case_003")
    assert not (tmp_path / "R").exists()


def test_a_failed_case_of_a_part_does_not_vanish_from_its_mean(
    vol3dseg, brats_folder, model_path, tmp_path
):
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    good = (brats_folder / "Case_002" / "Case_002_t1.nii.gz").read_bytes()
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(good)
    words = ("-o", tmp_path / "R", "--split", tmp_path / "split.json")
    refused(vol3dseg("evaluate", tmp_path / "O", brats_folder, *words), "Case_002")


def test_no_header_text_of_the_source_is_carried_over(vol3dseg, brats_folder, model_path, tmp_path):
    for path in brats_folder.rglob("*.nii.gz"):
        image = nib.load(path)
        image.header["descrip"] = b"DOE^JOHN"
        image.header["db_name"] = b"DOE^JOHN"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN"))
        array = np.asarray(image.dataobj)
        nib.save(nib.Nifti1Image(array, image.affine, image.header), path)
    vol3dseg("predict", model_path, brats_folder, "-o", tmp_path / "O")
    files = list((tmp_path / "O").iterdir())
    assert len(files) == 5
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = nib.load(path).to_bytes()
        assert b"DOE" not in content


REFUSALS = [
    pytest.param(
        lambda f, m, c, t: ("preprocess", t / "none", "-o", t / "P", "-c", c),
        ("none", "does not exist"),
        id="no data set",
    ),
    pytest.param(
        lambda f, m, c, t: ("preprocess", f, "-o", t / "P", "-c", "brats202"),
        ("did you mean 'brats202",),
        id="no preset",
    ),
    pytest.param(
        lambda f, m, c, t: ("train", t, "-o", t / "run"),
        ("index.json", "vol3dseg preprocess"),
        id="train on no prepared folder",
    ),
    pytest.param(
        lambda f, m, c, t: ("info", t / "empty"), ("nothing of vol3dseg's",), id="info of nothing"
    ),
    pytest.param(
        lambda f, m, c, t: ("predict", c, f, "-o", t / "O"),
        ("not an ONNX file",),
        id="predict with a YAML file",
    ),
    pytest.param(
        lambda f, m, c, t: ("predict", m, t / "none.nii.gz", "-o", t / "O"),
        ("none.nii.gz", "does not exist"),
        id="no input",
    ),
    pytest.param(
        lambda f, m, c, t: ("predict", m, f / "Case_001/Case_001_t1.nii.gz", "-o", t / "O"),
        ("needs 2 modalities (flair, t1)", "--image"),
        id="one file for two modalities",
    ),
    pytest.param(
        lambda f, m, c, t: ("predict", m, f, "-o", t / "O", "--device", "cuda"),
        ("cuda", "pip install 'vol3dseg[gpu]'"),
        id="a device that is not there",
    ),
    pytest.param(
        lambda f, m, c, t: ("predict", m, f, f / "Case_001", "-o", t / "O"),
        ("overwrite",),
        id="inputs twice",
    ),
    pytest.param(
        lambda f, m, c, t: ("evaluate", f / "Case_001", f, "-o", t / "R", "-c", c),
        ("Case_001_flair",),
        id="a prediction without reference",
    ),
    pytest.param(
        lambda f, m, c, t: ("evaluate", t / "none", f, "-o", t / "R", "-c", c),
        ("no such folder",),
        id="no predictions",
    ),
]


@pytest.mark.parametrize(("words", "parts"), REFUSALS)
def test_a_refusal_is_one_line(
    words, parts, vol3dseg, brats_folder, model_path, config_path, tmp_path
):
    (tmp_path / "empty").mkdir()
    refused(vol3dseg(*words(brats_folder, model_path, config_path, tmp_path)), *parts)
    for name in ("P", "O", "R", "run"):
        assert not any((tmp_path / name).rglob("*")), name


def test_an_unknown_key_of_a_config(vol3dseg, brats_folder, config_path, tmp_path):
    data = yaml.safe_load(config_path.read_text())
    data["training"]["epoch"] = 3
    config_path.write_text(yaml.safe_dump(data))
    done = vol3dseg("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path)
    refused(done, "config.yaml", "training.epoch", "did you mean 'epochs'?")


BAD_CASES = [  # of bad files there are more in tests/catalogue
    pytest.param("t1", None, "t1 is missing", id="missing modality"),
    pytest.param("seg", lambda a: a + 5, "holds label values 5, 6, ", id="unknown label"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BAD_CASES)
def test_a_bad_case_is_named(kind, change, message, vol3dseg, brats_folder, config_path, tmp_path):
    path = brats_folder / "Case_002" / f"Case_002_{kind}.nii.gz"
    array, grid = formats.open_volume(path).labels()
    path.unlink()
    if change is not None:
        nifti.write(path, change(array), grid)
    done = vol3dseg("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", 1)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "failed: case Case_002: " in done.stderr
    assert message in done.stderr
    assert "2 cases prepared, 0 left out, 1 failed" in done.stdout
    assert not (tmp_path / "P/cases/Case_002.h5").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(
            OSError(errno.EIO, "Input/output error", "x.h5"),
            "error: x.h5: cannot be used (Input/output error); mend or free the disk, and run the "
            "same command again\n",
            id="of the disk",
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied", "x"),
            "error: x: may not be used (Permission denied); work as a user who may, or mend its "
            "rights\n",
            id="of rights",
        ),
    ],
)
def test_an_error_of_the_system_is_one_line(error, said, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setattr(command_line, "cli", lambda: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == said


def test_a_file_that_a_bug_forgot_keeps_its_traceback(monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setattr(command_line, "cli", lambda: Path("nowhere").stat())
    with pytest.raises(FileNotFoundError):
        command_line.main()
