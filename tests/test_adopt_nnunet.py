"""A trained model of nnU-Net in, one model.onnx out: without torch, and refused in one line."""

import subprocess
import sys

import pytest

from tests.nnunet_folders import make_model
from tests.torch_files import Call, nnunet_checkpoint, torch_file
from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.adopting import adopt_nnunet
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.model_file import describe, read_model

REGIONS = {
    "labels": {"background": 0, "whole": [1, 2], "core": 2},
    "regions_class_order": [1, 2],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of two folds."""
    return make_model(tmp_path_factory.mktemp("nnunet"), ("0", "1"))


def one_line(done):
    """What a refused command says."""
    assert done.returncode == 1
    assert done.stdout == "" or "error" not in done.stdout
    (line,) = done.stderr.splitlines()
    return line


def test_all_that_predicting_needs_is_in_the_file(vol3dseg, folder, tmp_path):
    done = vol3dseg("adopt", "nnunet", folder, "-o", tmp_path / "model.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fold 1: nnUNetTrainer, checkpoint_final.pth, epoch 4" in done.stdout
    assert "the average of 2 networks" in done.stdout
    assert "never compared" in done.stdout
    manifest = read_model(tmp_path / "model.onnx").manifest
    assert manifest.recipe.patch_size == (8, 24, 24)
    assert manifest.recipe.spacing_mm == (4.0, 1.5, 1.0)
    assert (manifest.outputs.values, manifest.network.local) == ("logits", False)
    assert manifest.tiling.order == manifest.tiling.mirror == ("i", "k", "j")
    assert [facts.fold for facts in manifest.members] == ["0", "1"]
    assert manifest.tiling.members_apart == 2
    assert describe(tmp_path / "model.onnx").kind == (
        "model, adopted from nnU-Net, the average of 2 networks"
    )
    page = vol3dseg("info", tmp_path / "model.onnx").stdout
    assert "apart; 2 networks, averaged once each is blended" in " ".join(page.split())
    assert not set("{}'\"") & set(page.split("\n", 1)[1])


@pytest.mark.parametrize(
    ("trainer", "own"),
    [
        ("nnUNetTrainer_DASegOrd0_NoMirroring", True),
        ("nnUNetTrainerAdan3en4", True),
        ("nnUNetTrainer_probabilisticOversampling_033", True),
        ("nnUNetTrainerMish", False),
        ("MynnUNetTrainer", False),
    ],
)
def test_trainers_that_may_have_built_another_network_are_named(tmp_path, trainer, own):
    said = []
    folder = make_model(tmp_path, trainer_name=trainer)
    adopt_nnunet(folder, tmp_path / "model.onnx", progress=said.append)
    notes = [line for line in said if line.startswith("note: ")]
    assert bool(notes) != own
    assert own or notes[0].startswith(f"note: {trainer} is no trainer of nnU-Net's own; ")


@pytest.mark.parametrize(
    ("axes", "mirrored"),
    [((0, 1, 2), ("i", "k", "j")), ((0,), ("i",)), ((1,), ("k",)), ((), ()), (None, ())],
)
def test_axes_to_mirror_are_those_of_the_file(tmp_path, axes, mirrored):
    """The network's axes are i, k and j of the file."""
    model = make_model(tmp_path, inference_allowed_mirroring_axes=axes)
    made = adopt_nnunet(model, tmp_path / "m.onnx")
    assert made.tiling.mirror == made.tiling.mirrorable == mirrored
    still = adopt_nnunet(model, tmp_path / "still.onnx", mirror=False)
    assert (still.tiling.mirror, still.tiling.mirrorable) == ((), mirrored)


def test_regions_have_a_channel_each(tmp_path):
    made = adopt_nnunet(make_model(tmp_path, dataset=REGIONS), tmp_path / "m.onnx")
    assert made.outputs.kind == "sigmoid"
    assert made.outputs.channels == ("whole", "core")


def test_folds_and_configuration_are_chosen(folder, tmp_path):
    made = adopt_nnunet(folder, tmp_path / "m.onnx", folds=[1])
    assert [facts.fold for facts in made.members] == ["1"]
    with pytest.raises(ModelError, match="of the configuration 3d_fullres; expected 3d_lowres"):
        adopt_nnunet(folder, tmp_path / "n.onnx", configuration="3d_lowres")
    assert not (tmp_path / "n.onnx").exists()


def test_folds_of_many_outputs_are_blended_apart_too(tmp_path):
    many = {"labels": {"background": 0, **{f"part {n}": n for n in range(1, 40)}}}
    made = adopt_nnunet(make_model(tmp_path, ("0", "1"), many), tmp_path / "m.onnx")
    assert (made.tiling.members_apart, made.tiling.sums) == (2, "float16")
    head = load_predictor(tmp_path / "m.onnx", "cpu").head
    assert (head.weights.shape[:2], head.outputs) == ((2, 40), 80)


def test_the_folder_says_the_configuration_where_the_checkpoint_does_not(tmp_path):
    model = make_model(tmp_path, init_args={"fold": 0})
    made = adopt_nnunet(model, tmp_path / "m.onnx")
    assert made.members[0].configuration == "3d_fullres"
    moved = model.rename(tmp_path / "renamed")
    with pytest.raises(ModelError, match="say it with --configuration"):
        adopt_nnunet(moved, tmp_path / "n.onnx")
    adopt_nnunet(moved, tmp_path / "n.onnx", configuration="3d_fullres")


def test_where_training_scans_lie_is_known_from_one_of_them(folder, tmp_path, brats_folder):
    scan = next(brats_folder.rglob("*_t1.nii.gz"))
    made = adopt_nnunet(folder, tmp_path / "m.onnx", training_scan=scan)
    assert made.training_axes == "LPS"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"fullres": {"previous_stage": "3d_lowres"}}, "cascade", id="cascade"),
        pytest.param({"plans": {"label_manager": "Own"}}, "label manager 'Own'", id="manager"),
        pytest.param({"fullres": {"resampling_fn_data": "own"}}, "'own'", id="resampling"),
        pytest.param(
            {"fullres": {"architecture": {"network_class_name": "a.B", "arch_kwargs": {}}}},
            "a.B",
            id="network",
        ),
        pytest.param({"dataset": {"channel_names": {"0": "CT"}}}, "2 entries", id="channels"),
        pytest.param(
            {"dataset": {"labels": {"background": 0, "a": 1}}, "trainer_name": 7},
            "trainer_name",
            id="trainer",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused_in_a_line(vol3dseg, tmp_path, changes, said):
    model = make_model(tmp_path, **changes)
    line = one_line(vol3dseg("adopt", "nnunet", model, "-o", tmp_path / "m.onnx"))
    assert said in line
    assert not (tmp_path / "m.onnx").exists()


def test_a_checkpoint_that_names_code_is_refused_and_runs_nothing(vol3dseg, tmp_path):
    model = make_model(tmp_path)
    trap = tmp_path / "trap"
    evil = nnunet_checkpoint({}, logging=Call("os.system", (f"touch {trap}",)))
    (model / "fold_0" / "checkpoint_final.pth").write_bytes(torch_file(evil))
    line = one_line(vol3dseg("adopt", "nnunet", model, "-o", tmp_path / "m.onnx"))
    assert "os.system" in line
    assert not trap.exists()


def test_a_foreign_file_is_not_replaced(vol3dseg, folder, tmp_path):
    (tmp_path / "m.onnx").write_text("mine")
    assert "m.onnx" in one_line(vol3dseg("adopt", "nnunet", folder, "-o", tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folds", "0,0"], "names a fold twice"),
        (["--folds", "one"], "are no folds"),
        (["--against", "x"], "--against and --cases go together"),
        (["--verify", "x", "--cases", "y"], "not both"),
    ],
)
def test_options_that_do_not_fit(vol3dseg, folder, tmp_path, words, said):
    done = vol3dseg("adopt", "nnunet", folder, "-o", tmp_path / "m.onnx", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_it_needs_neither_torch_nor_tensorflow(folder, tmp_path):
    """With whatever is installed hidden: an import of it would fail."""
    heavy = ["torch", "tensorflow", "keras", "tf2onnx", "nnunetv2", "scipy", "SimpleITK", "skimage"]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({heavy!r}))
sys.argv = ["vol3dseg", "adopt", "nnunet", {str(folder)!r}, "-o", {str(tmp_path / "m.onnx")!r}]
from vol3dseg.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "m.onnx").exists()


def test_running_nnunet_itself_names_what_it_needs(vol3dseg, folder, tmp_path):
    """Before anything is read that takes long."""
    try:
        import nnunetv2  # noqa: F401
    except ModuleNotFoundError:
        words = ("adopt", "nnunet", folder, "-o", tmp_path / "m.onnx", "--verify", tmp_path)
        assert "vol3dseg[nnunet]" in one_line(vol3dseg(*words))
        return
    pytest.skip("nnU-Net is installed")
