"""A Keras engineer's own network, loss and callbacks: trained, resumed, exported, deployed."""

import csv
import json

import numpy as np
import pytest

from tests.conftest import small_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_case
from vol3dseg.errors import ModelError, RunError
from vol3dseg.evaluation.scoring import evaluate_case, summarise
from vol3dseg.inference.loading import load_predictor
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.export.to_onnx import export_onnx  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402

SPACING = (1.5, 1.25, 0.8)  # so that scans and prepared cases lie on different grids


def config_of(recipe, **training):
    changed = {"spacing_mm": SPACING, "patch_size": (8, 8, 8)}
    recipe = recipe.model_dump(mode="json") | changed
    training = {"epochs": 2, "steps_per_epoch": 2, **training}
    return small_config(recipe, {"width": 16}, **training)


@pytest.fixture
def config(recipe):
    return config_of(recipe)


@pytest.fixture
def prepared(brats_folder, tmp_path, config):
    folder = tmp_path / "prepared"
    preprocess(brats_folder, folder, config)
    return folder


def network(config, channels, outputs):
    """Two convolutions round a step down and up, nothing of ours."""
    image = keras.Input((None, None, None, channels))
    x = keras.layers.Conv3D(4, 3, padding="same", activation="relu")(image)
    low = keras.layers.AveragePooling3D((2, 1, 2))(x)
    up = keras.layers.Conv3DTranspose(4, (2, 1, 2), strides=(2, 1, 2))(low)
    x = keras.layers.Concatenate()([x, up])
    return keras.Model(image, keras.layers.Conv3D(outputs, 1)(x), name="mine")


def loss(labels, logits):
    return keras.ops.mean(
        keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    )


class Remember(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        logs["mine"] = 1.5


def scores_of(predictor, folder, names):
    found = []
    for case in find_cases(folder):
        if case.id in names:
            volume, reference = read_case(case, labels=predictor.manifest.labels)
            found.append(evaluate_case(case.id, reference, predictor(volume).segmentation))
    return summarise(found)


def test_from_a_network_of_ones_own_to_a_segmentation(prepared, brats_folder, tmp_path, config):
    remember, run = Remember(), tmp_path / "run"
    manifest = train(
        str(prepared), str(run), config, network=network, loss=loss, callbacks=[remember]
    )
    assert remember.epochs == [0, 1]
    with (run / "training.log").open(newline="") as file:
        assert [float(row["mine"]) for row in csv.DictReader(file)] == [1.5, 1.5]
    assert manifest.network.architecture == {"name": "mine"}
    assert manifest.network.divisor == (2, 1, 2)
    assert not manifest.network.local
    exported = export_onnx(str(run), str(tmp_path / "model.onnx"))
    assert exported.parity.max_abs_difference <= 1e-5
    predictor = load_predictor(tmp_path / "model.onnx", "cpu")
    # What the manifest says of validation is what predict and evaluate give.
    names = json.loads((run / "split.json").read_text())["validation"]
    summary = scores_of(predictor, brats_folder, names)
    assert manifest.validation.cases == len(names) == 1
    for name, dice in manifest.validation.dice.items():
        assert summary.mean_dice(name) == pytest.approx(dice, abs=1e-3)


def test_an_interrupted_run_goes_on_with_the_network_given_again(prepared, tmp_path, config):
    def cut(line):
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(prepared, run, config, network=network, loss=loss, progress=cut)
    with pytest.raises(RunError, match=r"of another network .* give it again"):
        train(prepared, run, resume=True)
    manifest = train(prepared, run, network=network, loss=loss, resume=True)
    assert manifest.members[0].epochs == 2


def test_a_model_may_be_given_as_such_and_begins_with_its_weights(prepared, tmp_path, recipe):
    config = config_of(recipe, epochs=1, learning_rate=1e-12)
    model = network(config, 2, 4)
    before = model.get_weights()
    train(prepared, tmp_path / "run", config, network=model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# --- trained elsewhere ----------------------------------------------------------------------------


def with_softmax(config):
    logits = network(config, 2, 4)
    return keras.Model(logits.input, keras.layers.Softmax()(logits.output), name="elsewhere")


@pytest.mark.parametrize("ends_in_softmax", [False, True])
def test_a_model_trained_elsewhere_is_proven_on_given_voxels(
    ends_in_softmax, brats_folder, tmp_path, config
):
    model = with_softmax(config) if ends_in_softmax else network(config, 2, 4)
    patches = np.random.default_rng(0).normal(size=(2, 8, 8, 8, 2)).astype(np.float32)
    manifest = export_onnx(model, tmp_path / "model.onnx", config, patches=patches)
    assert (manifest.parity.patches, manifest.members) == (2, ())
    assert manifest.parity.max_abs_difference <= 1e-5
    predictor = load_predictor(tmp_path / "model.onnx", "cpu")
    expected = model(patches) if ends_in_softmax else keras.ops.softmax(model(patches))
    found = predictor.backend(np.ascontiguousarray(np.moveaxis(patches, -1, 1)))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, atol=1e-5)
    volume, _ = read_case(find_cases(brats_folder)[0], labels=manifest.labels)
    assert predictor(volume).segmentation.geometry == volume.geometry


def test_or_on_patches_of_a_prepared_folder(prepared, tmp_path, config):
    model = network(config, 2, 4)
    first = export_onnx(model, tmp_path / "one.onnx", config, patches=prepared)
    assert first.parity.patches == 4
    again = export_onnx(model, tmp_path / "two.onnx", first, patches=str(prepared))
    assert again.parity.patches == 4
    assert again.network == first.network


REFUSED = [
    pytest.param(lambda config: with_softmax(config), "ends in a softmax; expected logits", id="p"),
    pytest.param(lambda config: network(config, 2, 3), r"makes \(8, 8, 8, 3\) of", id="outputs"),
    pytest.param(lambda config: network(config, 1, 4), r"takes \(None, .* 1\)", id="modalities"),
    pytest.param(
        lambda config: keras.Sequential([keras.Input((8, 8, 8, 2)), keras.layers.Conv3D(4, 1)]),
        r"takes \(None, 8, 8, 8, 2\); expected \(None, None",
        id="one size only",
    ),
    pytest.param(
        lambda config: keras.Sequential(
            [keras.Input((None, None, None, 2)), keras.layers.Conv3D(4, 3)]
        ),
        r"makes \(6, 6, 6, 4\) of a patch of \(8, 8, 8\)",
        id="smaller output",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_be_trained_is_refused_before_it_is(make, message, prepared, tmp_path, config):
    with pytest.raises(ModelError, match=message):
        train(prepared, tmp_path / "run", config, network=make(config))
    assert not (tmp_path / "run" / "last.keras").exists()


def test_what_is_no_model_is_refused(prepared, tmp_path, config):
    with pytest.raises(ModelError, match=r"is a str; expected a keras\.Model"):
        train(prepared, tmp_path / "run", config, network=lambda *parts: "unet")
    with pytest.raises(ModelError, match="give the config or manifest"):
        export_onnx(network(config, 2, 4), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"no patches.* give prepared voxels or a prepared folder"):
        export_onnx(network(config, 2, 4), tmp_path / "m.onnx", config)
