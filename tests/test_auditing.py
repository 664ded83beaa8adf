"""`info --audit`: all that is wrong with a model, a prepared folder or a run, at once."""

import io
import json
import zipfile

import numpy as np
import onnx
import pytest

from tests.keys import write_keys, write_signed
from tests.test_foreign_store import reindexed
from tests.test_missing_package import without
from vol3dseg import load_predictor
from vol3dseg.config import Config, ModelConfig
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import ModelError
from vol3dseg.files import write_bytes
from vol3dseg.model.model_file import with_manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.training.auditing import audit
from vol3dseg.training.keras_archive import MEMBER
from vol3dseg.training.training_state import Origin, TrainingState


def said(path, **options):
    return [str(finding) for finding in audit(path, **options).findings]


# --- models ---------------------------------------------------------------------------------------


def test_a_sound_model(model_path):
    found = audit(model_path)
    assert (found.kind, found.findings, found.notes) == ("model", (), ())


def test_all_that_is_wrong_with_a_model(model_path):
    """Where reading says the first, in the same words."""
    model = onnx.load(model_path)
    model.graph.node.append(onnx.helper.make_node("Loop", ["image"], ["x"]))
    model.graph.node.append(onnx.helper.make_node("Sin", ["image"], ["y"], domain="org.example"))
    model.graph.node.append(onnx.helper.make_node("LeakyRelu", ["image"], ["z"], secret=1))
    weights = onnx.numpy_helper.from_array(np.full(3, np.inf, np.float32), "inf")
    model.graph.initializer.append(weights)
    model.graph.input[0].name = "photo"
    model_path.write_bytes(model.SerializeToString())
    found = said(model_path)
    words = [
        "uses operators of ['org.example']",
        "uses the operators 'Loop', 'Sin'",
        "LeakyRelu '' has an unfit 'secret'",
        "weights 'inf' are not finite",
        "goes from photo",
    ]
    assert len(found) == len(words)
    for line, expected in zip(found, words, strict=True):
        assert expected in line
    with pytest.raises(ModelError) as caught:
        load_predictor(model_path)
    assert str(caught.value) == found[0]


def test_a_model_without_a_manifest_is_looked_at_all_the_same(model_path):
    model = onnx.load(model_path)
    del model.metadata_props[:]
    model.graph.initializer[0].dims[0] = 9
    model_path.write_bytes(model.SerializeToString())
    first, second = said(model_path)
    assert "without the metadata 'vol3dseg.manifest'" in first
    assert "weights 'w' of [9, 2, 1, 1, 1] hold 8 numbers" in second


def test_a_network_is_run_once(model_path, manifest):
    """What only shows in what it gives: these are no probabilities."""
    model = onnx.load(model_path)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    model_path.write_bytes(with_manifest(model, manifest))
    (line,) = said(model_path)
    with pytest.raises(ModelError) as caught:
        load_predictor(model_path, "cpu")
    assert str(caught.value) == line


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_what_is_no_model(content, model_path):
    model_path.write_bytes(content)
    assert len(said(model_path)) == 1


def test_a_million_faults_are_a_hundred(model_path):
    model = onnx.load(model_path)
    model.graph.node.extend([onnx.helper.make_node("Conv", ["x"], ["x"], secret=1)] * 3000)
    model_path.write_bytes(model.SerializeToString())
    assert len(said(model_path)) == 100


def test_a_signature(model_path, tmp_path):
    secret, public = write_keys(tmp_path)
    (line,) = said(model_path, trusted=public)
    assert "model.onnx.sig: is missing" in line
    write_signed(model_path, secret)
    assert "signed by the trusted key" in audit(model_path, public).notes[0]
    assert "verified by --trusted alone" in audit(model_path).notes[0]


# --- prepared folders -----------------------------------------------------------------------------


@pytest.fixture
def config(recipe, labels):
    return Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1))


@pytest.fixture
def prepared(brats_folder, tmp_path, config):
    """A prepared folder of three cases."""
    preprocess(brats_folder, tmp_path / "prepared", config)
    return tmp_path / "prepared"


def test_a_whole_store(prepared):
    found = audit(prepared)
    assert (found.kind, found.findings) == ("prepared folder", ())


def test_all_that_is_wrong_with_a_store(prepared):
    first, second, third = (prepared / entry.file for entry in load_index(prepared).cases)
    first.unlink()
    second.write_bytes(b"no HDF5")
    third.write_bytes(third.read_bytes()[:-1])
    reindexed(prepared)  # so that the second has the SHA-256 of the index
    found = said(prepared)
    assert "Case_001.h5: is missing" in found[0]
    assert "Case_002.h5: is damaged or not an HDF5 file" in found[1]
    assert "Case_003.h5: has " in found[2]
    assert len(found) == 3


def test_a_store_with_a_harmed_index(prepared):
    (prepared / "index.json").write_text("{")
    (line,) = said(prepared)
    assert "index.json: is damaged or of another version" in line


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture
def run(prepared, tmp_path, manifest, config):
    """What is read of a finished run without TensorFlow."""
    index = load_index(prepared)
    contents = {entry.id: entry.contents for entry in index.cases}
    split = Split(train=tuple(contents))
    origin = Origin(config=config, prepared=prepared, split=split, contents=contents)
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint(folder / "last.keras", TrainingState(epochs=1, origin=origin))
    write_bytes(folder / "manifest.json", manifest.model_dump_json().encode())
    return folder


def checkpoint(path, state, network="{}"):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model.weights.h5", bytes(1000))
        archive.writestr("config.json", network)
        archive.writestr(MEMBER, state.model_dump_json())
    write_bytes(path, content.getvalue())


NAMES = ("best.keras", "last.keras", "manifest.json")


def test_a_whole_run(run):
    assert audit(run).kind == "run"
    assert (audit(run).findings, audit(run).notes) == ((), ())


def test_bytes_behind_a_checkpoint_are_noted(run):
    with (run / "last.keras").open("ab") as file:
        file.write(b"x")
    assert audit(run).notes == (f"{run / 'last.keras'} was changed since it was written",)


def harm_weights(path):
    content = bytearray(path.read_bytes())
    content[content.index(bytes(1000)) + 500] ^= 1
    path.write_bytes(content)


def test_all_that_is_wrong_with_a_run(run):
    harm_weights(run / "last.keras")
    (run / "best.keras").write_bytes(b"no archive")
    (run / "manifest.json").write_text("{")
    best, last, manifest = said(run)
    assert "best.keras: damaged, not a whole .keras archive" in best
    assert "last.keras: is damaged: a member has another checksum" in last
    assert "manifest.json: is damaged or of another version" in manifest
    changed = [f"{run / name} was changed since it was written" for name in NAMES]
    assert list(audit(run).notes) == changed


@pytest.mark.hostile
def test_what_a_network_in_a_run_asks_for(run):
    with zipfile.ZipFile(run / "last.keras") as archive:
        state = TrainingState.model_validate_json(archive.read(MEMBER))
    asks = {"module": "os", "class_name": "function", "config": "system"}
    checkpoint(run / "last.keras", state, json.dumps({"config": {"activation": asks}}))
    (line,) = said(run)
    assert line.startswith(f"{run / 'last.keras'}: its network asks for 'os.system'; expected")


def test_damage_is_said_once(run):
    (run / "last.keras").write_bytes(b"no archive")
    assert len(said(run)) == 1


def test_a_checkpoint_of_another_epoch(run):
    with zipfile.ZipFile(run / "last.keras") as archive:
        state = TrainingState.model_validate_json(archive.read(MEMBER))
    checkpoint(run / "last.keras", state.model_copy(update={"epochs": 2}))
    assert said(run) == [
        f"{run / 'last.keras'}: holds epoch 2; expected epoch 1, as manifest.json says; write "
        "manifest.json anew with vol3dseg train --resume"
    ]


def test_what_a_run_has_learned_from_is_another_folder(run, prepared):
    index = load_index(prepared)
    index.model_copy(update={"cases": index.cases[1:]}).save(prepared)
    assert said(run) == []
    assert "does not hold what the run learned from: Case_001" in audit(run).notes[0]
    prepared.rename(prepared.with_name("moved"))
    assert said(run) == []
    assert "its prepared folder" in audit(run).notes[0]


def test_an_unfinished_run(run):
    (run / "manifest.json").unlink()
    (run / "training.log").write_text("epoch\n")
    (line,) = said(run)
    assert "an unfinished run; expected" in line


def test_a_cross_validation(run, tmp_path):
    whole = tmp_path / "cv"
    whole.mkdir()
    run.rename(whole / "fold-1")
    harm_weights(whole / "fold-1" / "last.keras")
    assert audit(whole).kind == "cross-validation"
    record, member = said(whole)
    assert "an unfinished cross-validation" in record
    assert "fold-1/last.keras: is damaged" in member


def test_nothing_of_ours(tmp_path):
    with pytest.raises(ModelError, match="nothing of vol3dseg's"):
        audit(tmp_path)
    with pytest.raises(ModelError, match="nothing of vol3dseg's"):
        audit(tmp_path / "absent")


# --- the command ----------------------------------------------------------------------------------


def test_the_command(vol3dseg, model_path):
    done = vol3dseg("info", model_path, "--audit")
    expected = f"{model_path}: model: whole, nothing of it would be refused\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    model_path.write_bytes(b"no model")
    done = vol3dseg("info", model_path, "--audit")
    first, last = done.stdout.splitlines()
    assert first.startswith(f"refused: {model_path}: not an ONNX file")
    assert last == f"{model_path}: model: 1 would be refused"
    assert done.returncode == 1
    done = vol3dseg("info", model_path, "--audit", "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["where"] == str(model_path)
    assert vol3dseg("info", model_path, "--audit", "--replay").returncode == 2


def test_needs_no_tensorflow(run):
    done = without("tensorflow", "info", run, "--audit")
    assert done.returncode == 0, done.stderr


def test_without_a_runtime_a_network_is_not_run(model_path):
    done = without("onnxruntime", "info", model_path, "--audit")
    assert done.returncode == 0, done.stderr
    assert "note: its network was not run: onnxruntime is not installed" in done.stdout
