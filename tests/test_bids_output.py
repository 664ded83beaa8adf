"""Predictions as BIDS derivatives: valid by the validator of BIDS, and found again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import OutputError
from vol3dseg.inference.bids_files import bids_file, require_labels
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.record import load_record
from vol3dseg.model.model_file import with_manifest

ANAT = "sub-01/ses-a/anat"
FIRST = f"{ANAT}/sub-01_ses-a_acq-fast_run-2_desc-vol3dseg_dseg.nii.gz"


@pytest.fixture(scope="module")
def shared_bids_folder(tmp_path_factory, shared_brats_folder):
    """Three cases as BIDS has them: two sessions of one subject, and another."""
    folder = tmp_path_factory.mktemp("bids") / "raw"
    names = {
        "Case_001": (ANAT, "sub-01_ses-a_acq-fast_run-2_{}"),
        "Case_002": ("sub-01/ses-b/anat", "sub-01_ses-b_{}"),
        "Case_003": ("sub-02/anat", "sub-02_rec-x_{}"),
    }
    for case, (place, name) in names.items():
        for modality, suffix in (("flair", "FLAIR"), ("t1", "T1w")):
            target = folder / place / f"{name.format(suffix)}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(shared_brats_folder / case / f"{case}_{modality}.nii.gz", target)
    described = {"Name": "A study", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10.1/abc"}
    (folder / "dataset_description.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def bids_folder(tmp_path, shared_bids_folder):
    return shutil.copytree(shared_bids_folder, tmp_path / "raw")


@pytest.fixture(scope="session")
def problems():
    """Return what finds all errors of a data set by the BIDS validator, as lines."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    if not program.exists():
        pytest.skip("no BIDS validator: pip install bids-validator-deno")

    def find(folder):
        done = subprocess.run(
            [program, folder, "--json"], capture_output=True, text=True, check=False, timeout=120
        )
        issues = json.loads(done.stdout)["issues"]["issues"]
        return [f"{i['code']} {i.get('location')}" for i in issues if i["severity"] == "error"]

    return find


def inside(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def shared_predictions(vol3dseg, shared_bids_folder, recipe, labels, manifest_of, graph_of):
    """The predictions of a data set, and the command that made them but for its output."""
    pytest.importorskip("matplotlib")  # of --picture
    model, folder = (shared_bids_folder.with_name(name) for name in ("model.onnx", "O"))
    model.write_bytes(with_manifest(graph_of(2, 4), manifest_of(recipe, labels)))
    command = ("predict", model, shared_bids_folder, "--device", "cpu", "--layout", "bids")
    command += ("--probabilities", "--uncertainty", "--picture")
    done = vol3dseg(*command, "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder, command


@pytest.fixture
def predicted(shared_predictions, tmp_path):
    folder, command = shared_predictions
    copy = shutil.copytree(folder, tmp_path / "O")
    return copy, (*command, "-o", copy)


def test_a_valid_data_set(predicted, problems, bids_folder):
    folder, _ = predicted
    found = [name for name in inside(folder) if ".vol3dseg-files" not in name]
    assert found[:5] == [
        ".bidsignore", "dataset_description.json", "desc-vol3dseg_dseg.json",
        "desc-vol3dseg_dseg.tsv", "desc-vol3dseg_probseg.json",
    ]  # fmt: skip
    ends = ["dseg.nii.gz", "dseg.png", "entropy.nii.gz", "probseg.nii.gz"]
    stems = [
        "sub-01/ses-a/anat/sub-01_ses-a_acq-fast_run-2_desc-vol3dseg_",
        "sub-01/ses-b/anat/sub-01_ses-b_desc-vol3dseg_",
        "sub-02/anat/sub-02_rec-x_desc-vol3dseg_",
    ]
    assert found[5:] == ["predictions.json", *(stem + end for stem in stems for end in ends)]
    assert problems(folder) == []
    described = json.loads((folder / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "vol3dseg"
    assert described["SourceDatasets"] == [{"DOI": "doi:10.1/abc"}]
    table = (folder / "desc-vol3dseg_dseg.tsv").read_text().splitlines()
    assert table == ["index\tname", "0\tbackground", "1\tnecrotic core", "2\tedema", "4\tenhancing"]
    shares = json.loads((folder / "desc-vol3dseg_probseg.json").read_text())
    assert shares["LabelMap"] == ["background", "necrotic core", "edema", "enhancing"]
    # Among the derivatives of the very data set, predictions are nobody's label maps.
    shutil.copytree(folder, bids_folder / "derivatives" / "vol3dseg")
    assert [case.label for case in find_cases(bids_folder)] == [None] * 3
    assert [case.likely_labels for case in find_cases(bids_folder)] == [()] * 3


def test_the_validator_finds_what_is_wrong(predicted, problems):
    folder, _ = predicted
    (folder / ".bidsignore").unlink()
    assert any("entropy" in line for line in problems(folder))


def test_resumed_and_without_what_is_not_asked_for(vol3dseg, predicted, problems):
    folder, command = predicted
    again = vol3dseg(*command, "--resume")
    assert "3 of 3 cases are complete" in again.stdout
    (folder / FIRST).unlink()
    for hidden in [*folder.rglob(".vol3dseg-files")]:  # as a copy may be without
        hidden.unlink()
    again = vol3dseg(*command, "--resume")
    assert again.returncode == 0, again.stderr
    assert "2 of 3 cases are complete" in again.stdout
    kept = [word for word in command if word not in ("--probabilities", "--uncertainty")]
    done = vol3dseg(*kept)
    assert done.returncode == 0, done.stderr
    assert not [name for name in inside(folder) if "probseg" in name or "entropy" in name]
    assert problems(folder) == []


def test_judged_by_references(vol3dseg, predicted, bids_folder, shared_brats_folder, tmp_path):
    folder, _ = predicted
    references = tmp_path / "references"
    references.mkdir()
    for case, name in (("Case_001", "sub-01_ses-a"), ("Case_003", "sub-02")):
        source = shared_brats_folder / case / f"{case}_seg.nii.gz"
        shutil.copy(source, references / f"{name}.nii.gz")
    command = ("evaluate", folder, references, "-o", tmp_path / "scores")
    done = vol3dseg(*command)
    assert done.returncode != 0
    assert "no reference: sub-01_ses-b" in done.stderr
    done = vol3dseg(*command, "--only-common")
    assert done.returncode == 0, done.stderr
    assert "sub-01_ses-a" in (tmp_path / "scores" / "cases.csv").read_text()


@pytest.mark.parametrize("flat", [False, True], ids=["tree", "files"])
def test_corrections(vol3dseg, predicted, bids_folder, tmp_path, flat):
    folder, _ = predicted
    edited = tmp_path / "edited"
    if flat:
        edited.mkdir()
        shutil.copy(folder / FIRST, edited)
    else:
        shutil.copytree(folder, edited)
    target = edited / Path(FIRST).name if flat else edited / FIRST
    image = nib.load(target)
    array = np.asarray(image.dataobj).copy()
    array[:3] = 2
    nib.save(nib.Nifti1Image(array, image.affine, image.header), target)
    command = ("corrections", folder, edited, "--scans", bids_folder, "-o", tmp_path / "C")
    done = vol3dseg(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "C" / "corrections.json").read_text())
    assert list(found["corrected"]) == ["sub-01_ses-a"]


def test_show_knows_the_classes(vol3dseg, predicted, bids_folder, tmp_path):
    folder, _ = predicted
    scan = next((bids_folder / ANAT).glob("*_T1w.nii.gz"))
    record = folder / "predictions.json"
    whole = record.read_text()
    record.write_text(whole[:-40])  # which only who looks for it there will refuse
    done = vol3dseg("show", scan, folder / FIRST, "-o", tmp_path / "x.png")
    assert done.returncode != 0
    assert "predictions.json" in done.stderr
    record.write_text(whole)
    done = vol3dseg("show", scan, folder / FIRST, "-o", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr


def test_other_cases_get_a_name_of_letters_and_digits(
    vol3dseg, model_path, brats_folder, problems, tmp_path
):
    command = ("predict", model_path, brats_folder, "-o", tmp_path / "O", "--layout", "bids")
    done = vol3dseg(*command)
    assert done.returncode == 0, done.stderr
    made = load_record(tmp_path / "O").cases
    assert made["Case_001"].file == "sub-Case001/anat/sub-Case001_desc-vol3dseg_dseg.nii.gz"
    assert problems(tmp_path / "O") == []
    described = json.loads((tmp_path / "O" / "dataset_description.json").read_text())
    assert "SourceDatasets" not in described
    other = vol3dseg(*command[:5])
    assert other.returncode != 0
    assert "holds predictions in the layout bids" in other.stderr
    assert inside(tmp_path / "O") == inside(tmp_path / "O")


def case_of(name, *files):
    images = {f"m{n}": ImageSource(Path(file)) for n, file in enumerate(files)}
    return Case(name, name, images)


@pytest.mark.parametrize(
    ("case", "file"),
    [
        (case_of("sub-1", "sub-1_ce-a_T1w.nii.gz", "sub-1_T1w.nii.gz"), "sub-1_"),
        (case_of("sub-1", "sub-1_run-2_acq-b_T1w.nii.gz"), "sub-1_acq-b_run-2_"),
        (case_of("sub-1", "sub-1_inv-2_mod-T1w_part-mag_x.nii"), "sub-1_part-mag_"),
        (case_of("sub-1", "other.nii.gz"), "sub-1_"),
        (case_of("sub-1_ses-2_acq-b", "sub-1_ses-2_acq-b_T1w.nii"), "sub-sub1ses2acqb_"),
        (case_of("Zoë 3", "x.nii"), "sub-Zo3_"),
    ],
)
def test_entities_that_all_images_have_alike_are_kept(case, file):
    assert Path(bids_file(case, "labels")).name == f"{file}desc-vol3dseg_dseg.nii.gz"


def test_names_that_are_none_or_one():
    with pytest.raises(OutputError, match=r"of a_1 and a-1.*differ in letters or digits"):
        require_labels([case_of("a_1"), case_of("a-1"), case_of("b")])
    with pytest.raises(OutputError, match="of 01 and sub-01"):
        require_labels([case_of("01"), case_of("sub-01")])
    with pytest.raises(OutputError, match="of A1 and a-1"):
        require_labels([case_of("A1"), case_of("a-1")])
    with pytest.raises(OutputError, match=r"no name can be made of ---.*letters from A to Z"):
        require_labels([case_of("---"), case_of("b")])


def test_other_formats_are_not_of_bids():
    with pytest.raises(OutputError, match=r"the format nrrd.*nifti.*leave out --format"):
        PredictOptions(layout="bids", format="nrrd")
    assert PredictOptions(layout="bids", format="nifti").in_bids


def test_a_foreign_data_set_is_not_written_into(vol3dseg, model_path, brats_folder, bids_folder):
    before = inside(bids_folder)
    command = ("predict", model_path, brats_folder, "-o", bids_folder, "--layout", "bids")
    done = vol3dseg(*command)
    assert done.returncode != 0
    assert "dataset_description.json, which vol3dseg did not write" in done.stderr
    assert inside(bids_folder) == before
