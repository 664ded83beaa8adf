"""A training that starts from a run or a model: what fits is taken, and the rest is named."""

import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests.conftest import small_config
from vol3dseg.cli.main import cli
from vol3dseg.config.parsing import dump_config
from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.model_file import read_model, with_manifest
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

import vol3dseg  # noqa: E402
from vol3dseg.model.manifest import read_run_manifest  # noqa: E402
from vol3dseg.training.data import open_data  # noqa: E402
from vol3dseg.training.inheriting import settle_norms, start_from  # noqa: E402
from vol3dseg.training.networks.building import build_network  # noqa: E402
from vol3dseg.training.networks.unet import encoder_of  # noqa: E402
from vol3dseg.training.parents import parent_sha256, read_parent  # noqa: E402
from vol3dseg.training.training_state import read_origin  # noqa: E402

NORMS = ("batch", "instance")
RESIDUAL = {"encoder": "residual", "depth": 2, "blocks": [1, 2, 1]}


def config_of(recipe, model=None, **training):
    training = {"steps_per_epoch": 3, "precision": "float32", "deterministic": True, **training}
    return small_config(recipe, model, **training)


@pytest.fixture(scope="module")
def prepared(shared_brats_folder, tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("inherit") / "prepared"
    preprocess(shared_brats_folder, folder, config_of(recipe))
    return folder


def trained(prepared, folder, config):
    vol3dseg.train(prepared, folder / "run", config)
    vol3dseg.export_onnx(folder / "run", folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def parents(prepared, tmp_path_factory, recipe):
    """By norm, a folder with a run and its ONNX file."""
    return {
        norm: trained(
            prepared, tmp_path_factory.mktemp(norm), config_of(recipe, {"norm": norm, "depth": 2})
        )
        for norm in NORMS
    }


@pytest.fixture(autouse=True)
def _fresh_session():
    yield
    keras.backend.clear_session()


def image_for(model, seed=1):
    return np.random.default_rng(seed).normal(size=(2, 16, 16, 16, model.input_shape[-1]))


def started(path, prepared, config, said=None):
    """A new network that starts from a model, and what is recorded."""
    keras.utils.set_random_seed(5)
    model, data = build_network(config), open_data(prepared, config)
    cases = list(data.training.values())
    return model, start_from(path, model, config, cases, [].append if said is None else said.append)


@pytest.mark.parametrize("kind", ["run", "model.onnx"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_same_network_computes_what_its_parent_does(parents, prepared, recipe, norm, kind):
    config = config_of(recipe, {"norm": norm, "depth": 2})
    model, parent = started(parents[norm] / kind, prepared, config)
    theirs = read_parent(parents[norm] / "run").network
    image = image_for(model)
    np.testing.assert_allclose(
        model(image, training=False), theirs(image, training=False), atol=1e-4
    )
    assert parent.anew == ()
    assert parent.name == kind
    assert parent.sha256 == parent_sha256(parents[norm] / kind)
    facts = read_run_manifest(parents[norm] / "run").trained[0]
    assert parent.data_fingerprint == facts.data_fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_residual_encoders_too(prepared, recipe, tmp_path, norm):
    config = config_of(recipe, {**RESIDUAL, "norm": norm})
    folder = trained(prepared, tmp_path, config)
    model, parent = started(folder / "model.onnx", prepared, config)
    theirs = read_parent(folder / "run").network
    image = image_for(model)
    np.testing.assert_allclose(
        model(image, training=False), theirs(image, training=False), atol=1e-4
    )
    assert parent.anew == ()


def renamed(config, **names):
    """The config with other names of classes."""
    data = config.model_dump(mode="json")
    data["labels"]["regions"] = {}
    for each in data["labels"]["classes"]:
        each["name"] = names.get(each["name"].replace(" ", "_"), each["name"])
    return type(config).model_validate(data)


def test_classes_are_taken_by_name(parents, recipe):
    config = config_of(recipe, {"norm": "batch", "depth": 2})
    other, said = renamed(config, necrotic_core="edema", edema="swelling"), []
    model = build_network(other)
    begun = model.get_layer("head").get_weights()
    given = read_parent(parents["batch"] / "run").network.get_layer("head").get_weights()
    parent = start_from(parents["batch"] / "run", model, other, [], said.append)
    places = [config.labels.names.index(name) for name in ("background", "edema", "enhancing")]
    for own, before, theirs in zip(
        model.get_layer("head").get_weights(), begun, given, strict=True
    ):
        np.testing.assert_array_equal(own[..., [0, 1, 3]], theirs[..., places])
        np.testing.assert_array_equal(own[..., 2], before[..., 2])
    assert "note: head: the outputs swelling begin anew" in said
    assert parent.anew == ()


def test_modalities_are_taken_by_name(parents, prepared, recipe):
    config = config_of(recipe, {"norm": "batch", "depth": 2}, modalities=["t1"])
    model, _ = started(parents["batch"] / "run", prepared, config)
    given = read_parent(parents["batch"] / "run").network.get_layer("encoder_0_1_conv")
    place = recipe.modalities.index("t1")
    np.testing.assert_array_equal(
        model.get_layer("encoder_0_1_conv").get_weights()[0],
        given.get_weights()[0][..., place : place + 1, :],
    )


def test_a_layer_of_another_size_begins_anew_and_is_named(parents, prepared, recipe):
    said = []
    config = config_of(recipe, {"norm": "batch", "depth": 2, "max_width": 8})
    model, parent = started(parents["batch"] / "run", prepared, config, said)
    wider = {"bottom_2_1_conv", "bottom_2_1_norm", "bottom_2_2_conv", "bottom_2_2_norm", "up_1"}
    assert set(parent.anew) == wider
    assert "note: up_1 begins anew: 2 x 2 x 2 x 8 x 8 here, 2 x 2 x 2 x 8 x 16 there" in said
    layers = sum(bool(layer.weights) for layer in model.layers)
    assert f"starts from {parents['batch'] / 'run'}: {layers - 5} of {layers} layers" in said
    deeper = config_of(recipe, {"norm": "batch", "depth": 3}, deep_supervision=True)
    _, parent = started(parents["batch"] / "run", prepared, deeper, said)
    assert {"head_1", "up_2"} <= set(parent.anew)
    assert "note: head_1 begins anew: the model has no such layer" in said


def test_other_preparation_is_said(parents, prepared, recipe):
    config = config_of(recipe.model_copy(update={"crop": "none"}), {"depth": 2})
    said = []
    start_from(parents["batch"] / "run", build_network(config), config, [], said.append)
    assert any("prepared otherwise, there and here: crop: nonzero and none" in s for s in said)


def test_a_model_of_nothing_alike_is_refused(parents, recipe):
    config = config_of(recipe, {"width": 3, "depth": 1})
    with pytest.raises(ModelError, match="no layer of it fits: 3 x 3 x 3 x 2 x 3 here"):
        start_from(parents["batch"] / "run", build_network(config), config, [])


def test_norms_from_a_file_compute_the_same_while_they_learn(prepared, recipe):
    """Their moving statistics are those of their inputs, so steps of training find what was."""
    keras.utils.set_random_seed(3)
    config = config_of(recipe, {"norm": "batch", "depth": 2})
    model, rng = build_network(config), np.random.default_rng(4)
    norms = [layer for layer in model.layers if "_norm" in layer.name]
    for norm in norms:  # as of a file whose norms are folded
        size = norm.gamma.shape[0]
        norm.set_weights([np.ones(size), rng.normal(size=size), np.zeros(size), np.ones(size)])
    patches = [rng.normal(1, 2, size=(16, 16, 16, 2)).astype(np.float32) for _ in range(4)]
    batch = np.stack(patches)
    before, weights = np.asarray(model(batch, training=False)), model.get_weights()
    assert np.abs(np.asarray(model(batch, training=True)) - before).max() > 0.1
    model.set_weights(weights)  # steps of training move statistics
    settle_norms(model, patches)
    np.testing.assert_allclose(model(batch, training=False), before, atol=1e-4)
    np.testing.assert_allclose(model(batch, training=True), before, atol=1e-3)


@pytest.mark.parametrize("kind", [pytest.param("run", marks=pytest.mark.slow), "model.onnx"])
def test_a_run_says_what_it_started_from_and_goes_on_from_itself(
    parents, prepared, recipe, tmp_path, kind
):
    config, path = config_of(recipe, {"depth": 2}), parents["batch"] / kind
    manifest = vol3dseg.train(prepared, tmp_path / "run", config, parent=path)
    facts = manifest.trained[0]
    assert (facts.parent.name, facts.parent.anew) == (kind, ())
    longer = config.with_epochs(2)
    resumed = vol3dseg.train(prepared, tmp_path / "run", longer, parent=path, resume=True)
    assert resumed.trained[0].parent == facts.parent
    other = parents["instance"] / kind
    with pytest.raises(RunError, match=f"began with {kind}, not with"):
        vol3dseg.train(prepared, tmp_path / "run", config.with_epochs(3), parent=other, resume=True)
    straight = vol3dseg.train(prepared, tmp_path / "straight", longer, parent=path)
    assert straight.trained[0].parent == facts.parent
    logs = [(tmp_path / name / "training.log").read_text() for name in ("run", "straight")]
    assert logs[0] == logs[1]


def test_what_is_frozen_keeps_the_weights_that_it_started_with(parents, prepared, recipe, tmp_path):
    config = config_of(recipe, {"depth": 2}, freeze="encoder")
    vol3dseg.train(prepared, tmp_path / "run", config, parent=parents["batch"] / "run")
    ours, theirs = (read_parent(folder / "run").network for folder in (tmp_path, parents["batch"]))
    encoder = encoder_of(ours)
    assert sum(bool(layer.weights) for layer in encoder) == 12
    for layer in ours.layers:
        other = theirs.get_layer(layer.name).get_weights()
        same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), other, strict=True))
        assert same == (layer in encoder or not layer.weights)


def test_nothing_is_frozen_that_nothing_has_trained(prepared, recipe, tmp_path):
    config = config_of(recipe, {"depth": 2}, freeze="encoder")
    with pytest.raises(RunError, match=r"freeze is encoder, and nothing has trained it"):
        vol3dseg.train(prepared, tmp_path / "run", config)
    network = keras.Sequential([keras.Input((None, None, None, 2)), keras.layers.Conv3D(4, 1)])
    with pytest.raises(ModelError, match="freeze is encoder, and the network is not the config's"):
        build_network(config, network)


def test_what_is_no_parent_is_refused(parents, tmp_path, recipe):
    with pytest.raises(RunError, match="there is no such file or folder"):
        read_parent(tmp_path / "nothing")
    with pytest.raises(RunError, match="is no finished run"):
        read_parent(tmp_path)
    run = shutil.copytree(parents["batch"] / "run", tmp_path / "run")
    manifest = read_run_manifest(run)
    several = manifest.model_copy(update={"members": manifest.members * 2})
    (run / "manifest.json").write_text(several.model_dump_json())
    for each in (read_parent, parent_sha256):
        with pytest.raises(ModelError, match=r"average of 2 networks.*CV/fold-1"):
            each(run)


def test_a_file_whose_graph_is_not_what_it_says_is_refused(parents, tmp_path):
    source = parents["batch"] / "model.onnx"
    graph, manifest = onnx.load(source), read_model(source).manifest
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    leaky = next(node for node in changed.graph.node if node.op_type == "LeakyRelu")
    leaky.attribute[0].f = 0.5
    (tmp_path / "slope.onnx").write_bytes(with_manifest(changed, manifest))
    with pytest.raises(ModelError, match="its graph is not that of the U-Net"):
        read_parent(tmp_path / "slope.onnx")
    own = manifest.network.model_copy(update={"architecture": {"name": "mine"}})
    described = manifest.model_copy(update={"network": own})
    (tmp_path / "own.onnx").write_bytes(with_manifest(graph, described))
    with pytest.raises(ModelError, match="a network of its maker's own"):
        read_parent(tmp_path / "own.onnx")


def test_the_command(parents, prepared, recipe, tmp_path):
    config, path = tmp_path / "c.yaml", str(parents["batch"] / "run")
    config.write_text(dump_config(config_of(recipe, {"depth": 2})))
    words = [str(prepared), "-o", str(tmp_path / "run"), "-c", str(config)]
    done = CliRunner().invoke(cli, ["train", *words, "--from", path, "--freeze", "encoder"])
    assert done.exit_code == 0, done.output
    assert f"starts from {path}: 23 of 23 layers\n" in done.output
    shown = CliRunner().invoke(cli, ["info", str(tmp_path / "run")]).output
    assert ", from run" in " ".join(shown.split())


def test_folded_norms_are_settled_on_the_cases_that_are_learned_from(parents, prepared, recipe):
    config = config_of(recipe, {"depth": 2})
    model, _ = started(parents["batch"] / "model.onnx", prepared, config)
    norms = [each for each in model.layers if each.name.endswith("_norm")]
    assert all(np.asarray(each.moving_mean).any() for each in norms)


def test_a_config_that_says_how_to_train_takes_the_network_of_the_model(
    parents, prepared, recipe, tmp_path
):
    (tmp_path / "how.yaml").write_text("training: {epochs: 1, learning_rate: 1.0e-4}\n")
    words = (prepared, tmp_path / "run", tmp_path / "how.yaml")
    vol3dseg.train(*words, parent=parents["batch"] / "run")
    config = read_origin(tmp_path / "run" / "last.keras").config
    assert (config.model.depth, config.training.learning_rate) == (2, 1e-4)
    assert read_run_manifest(tmp_path / "run").trained[0].parent.anew == ()
    (tmp_path / "how.yaml").write_text("training: {epochs: 2, learning_rate: 1.0e-4}\n")
    vol3dseg.train(*words, resume=True)  # goes on with the network that it has
    assert read_run_manifest(tmp_path / "run").trained[0].epochs == 2
