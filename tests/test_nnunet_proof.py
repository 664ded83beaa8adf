"""What an adopted model is compared with, and that nothing is written where it does not agree."""

import numpy as np
import pytest

from tests.nnunet_folders import GRID, SHAPE, make_cases, make_model
from vol3dseg.errors import DatasetError, ModelError, ParityError
from vol3dseg.export.nnunet.adopting import adopt_nnunet
from vol3dseg.formats import read_labels
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predicting import predict
from vol3dseg.inference.replaying import replay
from vol3dseg.model.adopted import most_differing
from vol3dseg.space.geometry import Geometry


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two scans of two channels, as nnU-Net's predictor takes them."""
    return make_cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, model, cases):
    """Label maps that stand for nnU-Net's: those of the model itself, mirrored and not."""
    folder = tmp_path_factory.mktemp("says")
    for mirror in (True, False):
        file = folder / f"{mirror}.onnx"
        adopt_nnunet(model, file, mirror=mirror)
        predict(load_predictor(file, "cpu"), cases, folder / str(mirror))
    return folder


def changed(theirs, tmp_path, voxels, name="a"):
    """The same label maps with so many voxels of one changed."""
    for case in ("a", "b"):
        array = read_labels(theirs / "True" / f"{case}.nii.gz").array.copy()
        if case == name:
            array.ravel()[:voxels] = (array.ravel()[:voxels] + 1) % 3
        nifti.write(tmp_path / "says" / f"{case}.nii.gz", array, GRID)
    return tmp_path / "says"


def adopted(model, output, cases, says, **options):
    return adopt_nnunet(model, output, cases=[cases], against=says, device="cpu", **options)


def test_agreement_is_proven_and_kept(vol3dseg, model, cases, theirs, tmp_path):
    output = tmp_path / "m.onnx"
    words = ("adopt", "nnunet", model, "-o", output, "--device", "cpu")
    done = vol3dseg(*words, "--against", theirs / "True", "--cases", cases)
    assert (done.returncode, done.stderr) == (0, "")
    voxels = 2 * np.prod(SHAPE)
    assert f"agrees with nnU-Net: 0 of {voxels} voxels of 2 cases differ" in done.stdout
    proof = load_predictor(output, "cpu").manifest.proof
    assert (proof.against, proof.cases, proof.voxels, proof.differing) == (
        "label maps", 2, voxels, 0,
    )  # fmt: skip
    assert set(proof.dice) == {"tumour", "core"}
    assert all(value in (None, 1.0) for value in proof.dice.values())
    assert load_predictor(output, "cpu").notes == ()
    again = replay(output, "cpu")
    assert (again.differing, again.voxels, again.agrees) == (0, np.prod(SHAPE), True)
    assert "nnU-Net says" in str(again)


def test_a_case_is_kept_unless_it_is_not_to_be(model, cases, theirs, tmp_path):
    adopted(model, tmp_path / "m.onnx", cases, theirs / "True", keep_case=False)
    with pytest.raises(ModelError, match="carries no case"):
        replay(tmp_path / "m.onnx")


def test_a_few_voxels_are_rounding(model, cases, theirs, tmp_path):
    says = changed(theirs, tmp_path, 3)
    assert adopted(model, tmp_path / "m.onnx", cases, says).proof.differing == 3


def test_beyond_that_nothing_is_written(model, cases, theirs, tmp_path):
    says = changed(theirs, tmp_path, 4)
    with pytest.raises(ParityError, match=r"not written: 4 of 40320 voxels.*expected at most 3"):
        adopted(model, tmp_path / "m.onnx", cases, says)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(("made", "mirror"), [("False", True), ("True", False)])
def test_label_maps_made_in_the_other_way_are_recognised(
    model, cases, theirs, tmp_path, made, mirror
):
    with pytest.raises(ParityError, match=f"--{'no-' * mirror}mirror"):
        adopted(model, tmp_path / "m.onnx", cases, theirs / made, mirror=mirror)
    assert adopted(model, tmp_path / "m.onnx", cases, theirs / made, mirror=not mirror).proof


def test_how_many_may_differ():
    assert [most_differing(n) for n in (10, 10**6, 10**7)] == [3, 10, 100]


def test_label_maps_of_other_scans_are_refused(model, cases, theirs, tmp_path):
    says = changed(theirs, tmp_path, 0)
    shifted = Geometry(SHAPE, GRID.affine + np.diag([0, 0, 0.5, 0]))
    nifti.write(says / "a.nii.gz", np.zeros(SHAPE, np.uint8), shifted)
    with pytest.raises(DatasetError, match="expected the grid of the scan"):
        adopted(model, tmp_path / "m.onnx", cases, says)
    (says / "b.nii.gz").unlink()
    with pytest.raises(DatasetError, match="has no label map of b"):
        adopted(model, tmp_path / "m.onnx", cases, says)


def test_label_maps_need_the_scans_that_they_are_of(model, theirs, tmp_path):
    with pytest.raises(ModelError, match="give the scans with --cases"):
        adopt_nnunet(model, tmp_path / "m.onnx", against=theirs / "True")


# --- what nnU-Net itself has said ---------------------------------------------------------------


@pytest.fixture(scope="session")
def nnunet_folder(shared_data):
    folder = shared_data.parent / "nnunet"
    if not folder.is_dir():
        pytest.skip("no models of nnU-Net: ../shared/nnunet does not stand beside the repository")
    return folder


@pytest.mark.parametrize(
    ("model", "folds", "cases", "says"),
    [
        pytest.param(
            "501_Hippo", [0], "hippocampus/axes_0000.nii.gz", "501-fold0-mirrored", id="other axes"
        ),
        pytest.param("503_Regions", [], "aniso", "503-fold0-mirrored", id="regions"),
        pytest.param(
            "501_Hippo",
            [0],
            "hippocampus",
            "501-fold0-mirrored",
            id="hippocampus",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "502_Aniso",
            [],
            "aniso",
            "502-folds01-mirrored",
            id="two folds",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_labels_are_those_of_nnunet(nnunet_folder, tmp_path, model, folds, cases, says):
    made = adopt_nnunet(
        nnunet_folder / "models" / f"Dataset{model}",
        tmp_path / "m.onnx",
        folds=folds,
        cases=[nnunet_folder / "cases" / cases],
        against=nnunet_folder / "nnunet-says" / says,
        device="cpu",
    )
    assert made.proof.per_million <= 10
    assert replay(tmp_path / "m.onnx", "cpu").agrees


@pytest.mark.slow
def test_nnunet_itself_says_the_same(nnunet_folder, tmp_path):
    """With its probabilities; and where a weight is another, the network is where they part."""
    pytest.importorskip("nnunetv2")
    folder, case = nnunet_folder / "models" / "Dataset502_Aniso", nnunet_folder / "cases" / "aniso"
    made = adopt_nnunet(folder, tmp_path / "m.onnx", folds=[0], cases=[case], device="cpu")
    assert made.proof.against == "run"
    assert made.proof.max_abs_difference < 0.01
    assert "torch" in made.proof.versions
