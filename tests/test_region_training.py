"""A training on regions from end to end, small: train, export, predict, evaluate."""

import csv

import numpy as np
import pytest

from tests.conftest import small_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_case
from vol3dseg.errors import ConfigError
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.outputs import Sigmoid
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.export import quantise, to_onnx  # noqa: E402
from vol3dseg.training.checkpoints import load_checkpoint  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.results import KerasBackend  # noqa: E402

REGIONS = ("whole tumour", "tumour core", "enhancing tumour")


def config_of(recipe, **training):
    training = {
        "targets": "regions", "class_weights": {"tumour core": 2.0}, "epochs": 3,
        "steps_per_epoch": 6, "learning_rate": 0.01, "foreground": 1.0, "deterministic": True,
        **training,
    }  # fmt: skip
    return small_config(recipe, **training)


@pytest.fixture(scope="module")
def trained(shared_brats_folder, tmp_path_factory, recipe):
    """Runs of regions, and what `train` said of the one."""
    folder = tmp_path_factory.mktemp("regions")
    preprocess(shared_brats_folder, folder / "prepared", config_of(recipe))
    manifest = train(folder / "prepared", folder / "run", config_of(recipe))
    yield folder / "run", manifest
    keras.backend.clear_session()


def test_a_run_describes_and_logs_its_regions(trained, labels):
    run, manifest = trained
    assert manifest.outputs == Sigmoid.of(labels)
    assert manifest.outputs.channels == REGIONS
    assert manifest.outputs.threshold == 0.5
    with (run / "training.log").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {f"{p}dice_{n.replace(' ', '_')}" for p in ("", "val_") for n in (*REGIONS, "edema")}
    assert columns <= set(rows[0])
    assert set(manifest.validation.dice) >= {*REGIONS, "edema"}
    # It has learned: what scores are compared of is not all empty.
    assert float(rows[-1]["dice_whole_tumour"]) > 0.3
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    manifest = to_onnx.export_onnx(trained[0], folder / "plain.onnx")
    to_onnx.export_onnx(trained[0], folder / "whole.onnx", standalone=True)
    assert manifest.parity.max_abs_difference <= 1e-4
    return folder


def test_the_deployed_model_scores_what_training_said(trained, exported, shared_brats_folder):
    run, manifest = trained
    split = (run / "split.json").read_text()
    predictor = load_predictor(exported / "plain.onnx", "cpu")
    (case,) = (c for c in find_cases(shared_brats_folder) if c.id in split.split("validation")[1])
    volume, reference = read_case(case, labels=manifest.labels)
    found = evaluate_case(case.id, reference, predictor(volume).segmentation).structures
    for name, value in manifest.validation.dice.items():
        # Training blends patches; whoever is deployed takes tiles that equal one pass.
        assert found[name]["dice"] == pytest.approx(value, abs=0.02, nan_ok=True), name
    backend = KerasBackend(load_checkpoint(run / "best.keras"), "sigmoid")
    patch = np.random.default_rng(0).normal(size=(1, 2, 16, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(predictor.backend(patch), backend(patch), atol=1e-4)


def test_the_standalone_graph_equals_the_predictor(exported, shared_brats_folder):
    session = ort.InferenceSession(
        (exported / "whole.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    predictor = load_predictor(exported / "plain.onnx", "cpu")
    for case in find_cases(shared_brats_folder):
        volume, _ = read_case(case, labels=predictor.manifest.labels)
        turned = volume.array[::-1, ::-1]  # the scans are in LPS, the graph takes RAS
        feeds = {
            name: np.ascontiguousarray(turned[..., volume.modalities.index(name)], np.float32)
            for name in predictor.manifest.recipe.modalities
        }
        (values,) = session.run(["labels"], feeds)
        expected = predictor.manifest.labels.decode(predictor(volume).segmentation.array)
        assert len(np.unique(expected)) >= 2
        assert (values[::-1, ::-1] != expected).mean() < 1e-4  # where rounding decides
    assert set(np.unique(values)) <= {0, 1, 2, 4}


def test_in_integers(trained, tmp_path, monkeypatch):
    """Three epochs of two cases bear no rounding; what is lost is another test's business."""
    monkeypatch.setattr(quantise, "LARGEST_DROP", 1.0)
    manifest = to_onnx.export_onnx(trained[0], tmp_path / "int8.onnx", int8=True)
    assert manifest.quantisation.precision == "int8"
    assert manifest.quantisation.label_agreement > 0.9
    assert load_predictor(tmp_path / "int8.onnx", "cpu").manifest.outputs.kind == "sigmoid"


def test_a_label_set_without_regions_cannot_be_targets(recipe):
    from vol3dseg.config import parse_config

    data = config_of(recipe).model_dump(mode="json")
    data["labels"]["regions"] = {}
    with pytest.raises(ConfigError, match=r"labels\.regions: cannot be targets: there are none"):
        parse_config(data, "test")
