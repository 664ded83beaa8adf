"""int8: what is rounded and where, and that no file is written that loses too much."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("onnxruntime")
pytest.importorskip("tensorflow")

from tests.conftest import small_config
from vol3dseg.cli.export_onnx import export_onnx
from vol3dseg.config import Config, ModelConfig
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import ModelError, ParityError, RunError
from vol3dseg.export import quantise as quantise_module
from vol3dseg.export.quantise import measure_cost, quantise, quantise_proven
from vol3dseg.inference.loading import load_predictor, make_predictor, open_session
from vol3dseg.inference.runtimes.footprint import footprint
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.model.model_file import ModelFile, describe, read_model, with_manifest
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.training import finished_run
from vol3dseg.training.training_state import read_origin

CHANNELS, CLASSES, WIDTH = 2, 4, 8
NORMS = [pytest.param(False, id="folded norm"), pytest.param(True, id="instance norm")]


def network(instance_norm=False, seed=0):
    """A U-Net of two levels with random weights, as `convert` writes it."""
    rng, nodes, weights = np.random.default_rng(seed), [], []

    def add(kind, *inputs, **facts):
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **facts))
        return name

    def weight(*shape, size=1.0, middle=0.0):
        array = middle + size * rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        weights.append(numpy_helper.from_array(array.astype(np.float32), f"w{len(weights)}"))
        return weights[-1].name

    def block(x, a, b):
        x = add("Conv", x, weight(b, a, 3, 3, 3, size=1.5), weight(b, size=0.2), pads=[1] * 6)
        if instance_norm:
            x = add("InstanceNormalization", x, weight(b, size=0.2, middle=1), weight(b, size=0.2))
        return add("LeakyRelu", x, alpha=0.01)

    skip = block(block("image", CHANNELS, WIDTH), WIDTH, WIDTH)
    low = block(add("MaxPool", skip, kernel_shape=[2] * 3, strides=[2] * 3), WIDTH, 2 * WIDTH)
    up = add("ConvTranspose", low, weight(2 * WIDTH, WIDTH, 2, 2, 2, size=3), strides=[2] * 3)
    x = block(add("Concat", skip, up, axis=1), 2 * WIDTH, WIDTH)
    x = add("Conv", x, weight(CLASSES, WIDTH, 1, 1, 1, size=4), weight(CLASSES))
    nodes.append(helper.make_node("Softmax", [x], ["probabilities"], axis=1))
    ends = [
        helper.make_tensor_value_info(name, 1, ["n", sides, "i", "j", "k"])
        for name, sides in (("image", CHANNELS), ("probabilities", CLASSES))
    ]
    graph = helper.make_graph(nodes, "unet", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def noise(count, seed=0):
    """Patches of a head: zeros round it, noise within."""
    patches = np.zeros((count, 16, 16, 16, CHANNELS), dtype=np.float32)
    inner = np.random.default_rng(seed).normal(size=(count, 12, 12, 12, CHANNELS))
    patches[:, 2:-2, 2:-2, 2:-2] = inner
    return patches


def channels_first(patches):
    return np.ascontiguousarray(np.moveaxis(patches, -1, 1))


def run_on(backend, model, patches):
    session = backend(model.SerializeToString())
    return np.concatenate([session(image[None]).copy() for image in channels_first(patches)])


@pytest.fixture(params=NORMS)
def pair(request):
    """A network, and the same in int8."""
    model = network(request.param)
    return model, quantise(model, noise(8))


# --- the graph ------------------------------------------------------------------------------------


def makers(model):
    return {name: node for node in model.graph.node for name in node.output}


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_what_is_rounded_is_counted_as_bytes(pair):
    """Norms of instances are not rounded, so there a convolution's output stays float32."""
    model, quantised = (footprint(each, (4, 4, 4)) for each in pair)
    assert quantised.multiplications == model.multiplications
    kinds = {node.op_type for node in pair[0].graph.node}
    most = 0.9 if "InstanceNormalization" in kinds else 0.5
    assert quantised.float_bytes == model.float_bytes
    assert 0.25 <= quantised.rounded_bytes / model.rounded_bytes <= most


def test_every_convolution_but_the_last_sees_integers(pair):
    _, model = pair
    made, given = makers(model), constants(model)
    *inner, last = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    assert len(inner) == 5
    for node in inner:
        assert made[node.input[1]].op_type == "DequantizeLinear"
        assert given[made[node.input[1]].input[0]].dtype == np.int8
    assert given[last.input[1]].dtype == np.float32


def test_weights_have_a_scale_for_each_output_channel(pair):
    model, quantised = pair
    made, given, before = makers(quantised), constants(quantised), constants(model)
    nodes = {node.name: node for node in quantised.graph.node}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and made.get(nodes[node.name].input[1]):
            back = made[nodes[node.name].input[1]]
            axis = 0 if node.op_type == "Conv" else 1
            scale = given[back.input[1]]
            shape = [-1 if a == axis else 1 for a in range(5)]
            found = given[back.input[0]] * scale.reshape(shape)
            assert scale.shape == (found.shape[axis],)
            # Each value is off by half a step at most.
            error = np.abs(found - before[node.input[1]])
            assert (error <= 0.501 * scale.reshape(shape)).all()


def test_nothing_is_rounded_between_a_convolution_and_its_rectifier_or_twice(pair):
    _, model = pair
    made = makers(model)
    rounded = [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(rounded) == len(set(rounded))
    kinds = [made[name].op_type for name in rounded if name in made]
    assert set(kinds) == {"LeakyRelu", "ConvTranspose"}
    assert "image" in rounded


def rounding_of(model, name):
    """Scale and zero point that a value was rounded with."""
    made, given = makers(model), constants(model)
    node = made[name]
    assert node.op_type == "DequantizeLinear"
    return tuple(given[node.input[k]] for k in (1, 2))


def test_both_inputs_of_a_concat_have_one_scale(pair):
    _, model = pair
    (concat,) = [n for n in model.graph.node if n.op_type == "Concat"]
    first, second = (rounding_of(model, name) for name in concat.input)
    assert first == second
    assert first[1].dtype == np.uint8


def test_zero_is_zero_before_a_transposed_convolution(pair):
    _, model = pair
    (up,) = [n for n in model.graph.node if n.op_type == "ConvTranspose"]
    assert rounding_of(model, up.input[0])[1] == 0


def test_values_that_are_negative_in_earnest_are_kept(small_unet):
    model = small_unet(np.random.default_rng(0))  # no rectifier before the transposed convolution
    quantised = quantise(model, noise(4)[..., :1])
    (up,) = [n for n in quantised.graph.node if n.op_type == "ConvTranspose"]
    assert 50 < rounding_of(quantised, up.input[0])[1] < 200


def test_standard_operators_only_and_any_size(pair, manifest, tmp_path):
    _, model = pair
    path = tmp_path / "model.onnx"
    network = manifest.network.model_copy(update={"local": False})  # one has instance norm
    path.write_bytes(with_manifest(model, manifest.model_copy(update={"network": network})))
    content = read_model(path).content
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    found = OnnxBackend(content)(np.zeros((2, CHANNELS, 8, 12, 10), dtype=np.float32))
    assert found.shape == (2, CLASSES, 8, 12, 10)


def test_the_given_network_stays_as_it_is():
    model = network()
    content = model.SerializeToString()
    quantise(model, noise(1))
    assert model.SerializeToString() == content


# --- what it computes -----------------------------------------------------------------------------


def test_close_to_float32_on_other_patches(pair):
    model, quantised = pair
    patches = noise(4, seed=1)
    expected, found = (run_on(OnnxBackend, m, patches) for m in (model, quantised))
    assert np.mean(expected.argmax(1) == found.argmax(1)) > 0.97
    assert 1e-4 < np.abs(expected - found).mean() < 0.01


def test_openvino_computes_what_the_nodes_say(pair):
    pytest.importorskip("openvino")
    from vol3dseg.inference.runtimes.openvino_backend import OpenVinoBackend

    _, model = pair
    patches = noise(4, seed=1)
    expected, found = (run_on(b, model, patches) for b in (OnnxBackend, OpenVinoBackend))
    # A value between two steps may go either way.
    assert np.abs(expected - found).mean() < 1e-3
    assert np.mean(expected.argmax(1) == found.argmax(1)) > 0.998


def test_a_scan_of_zeros_gives_numbers():
    model = quantise(network(), np.zeros((1, 16, 16, 16, CHANNELS), dtype=np.float32))
    assert np.isfinite(run_on(OnnxBackend, model, noise(1))).all()


def test_no_patches_are_refused():
    with pytest.raises(ModelError, match="found no patches"):
        quantise(network(), noise(0))


# --- what it costs --------------------------------------------------------------------------------


@pytest.fixture
def local(manifest):
    """The manifest of `network`."""
    facts = {"divisor": (2, 2, 2), "receptive_field": (12, 12, 12)}
    return manifest.model_copy(update={"network": manifest.network.model_copy(update=facts)})


@pytest.fixture
def cases(brats_folder, tmp_path, recipe, labels):
    out = tmp_path / "prepared"
    index = preprocess(
        brats_folder,
        out,
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    return {e.id: StoredCase.open(out, e, recipe.modalities) for e in index.cases}


def cost_of(reference, judged, manifest, cases):
    contents = [model.SerializeToString() for model in (reference, judged)]
    file = ModelFile(contents[0], manifest, "")
    predictors = [make_predictor(file, open_session(content)) for content in contents]
    return measure_cost(*predictors, cases)


def test_a_network_costs_nothing_against_itself(local, cases):
    cost = cost_of(network(), network(), local, cases)
    assert (cost.cases, cost.dice_drop, cost.label_agreement) == (3, 0, 1)
    assert 0 < cost.mean_dice < 1


def test_the_cost_is_that_of_the_second_network(local, cases):
    graphs = [network(seed=seed) for seed in (0, 1)]
    there, back = (cost_of(*pair, local, cases) for pair in (graphs, graphs[::-1]))
    assert there.dice_drop == -back.dice_drop != 0
    assert there.mean_dice == pytest.approx(back.mean_dice - there.dice_drop)
    assert there.label_agreement == back.label_agreement < 1


def proven(local, cases, model=None, lines=()):
    model = model or network()
    content = model.SerializeToString()
    tell = lines.append if lines else len
    return quantise_proven(model, content, local, noise(4), cases, "x.onnx", tell)


def test_the_manifest_tells_what_it_cost(local, cases, monkeypatch):
    monkeypatch.setattr(quantise_module, "LARGEST_DROP", 1)
    lines = [""]
    model, manifest = proven(local, cases, lines=lines)
    facts = manifest.quantisation
    cost = cost_of(network(), model, local, cases)
    assert (facts.precision, facts.patches, facts.cases, facts.tolerance) == ("int8", 4, 3, 1)
    assert facts.mean_dice == cost.mean_dice
    assert facts.dice_drop == cost.dice_drop
    assert 0.9 < facts.label_agreement == cost.label_agreement < 1
    assert manifest.model_copy(update={"quantisation": None}) == local
    assert lines[-1].endswith("3/3")


@pytest.mark.parametrize("seed", [1, 2])
def test_another_network_is_refused(seed, local, cases, monkeypatch):
    worse = cost_of(network(seed=seed), network(), local, cases).dice_drop > 0
    good, bad = (network(seed=s) for s in ((seed, 0) if worse else (0, seed)))
    monkeypatch.setattr(quantise_module, "quantise", lambda plain, patches: bad)
    with pytest.raises(
        ParityError,
        match=r"x\.onnx: not written: int8 lowers mean Dice on 3 .* by 0\.\d+.*at most 0\.002",
    ):
        proven(local, cases, good)


def test_no_validation_part_is_refused(local):
    with pytest.raises(RunError, match="there is none"):
        proven(local, {})


def test_a_validation_part_without_foreground_is_refused(local, cases, monkeypatch):
    background = network()
    bias = background.graph.initializer[-1]
    bias.CopyFrom(numpy_helper.from_array(np.array([1e6, 0, 0, 0], "f4"), bias.name))
    monkeypatch.setattr(quantise_module, "quantise", lambda plain, patches: background)
    empty = {name: Unlabelled(case) for name, case in cases.items()}
    with pytest.raises(RunError, match="none of the 3 validation cases has a class"):
        proven(local, empty, background)


class Unlabelled:
    """A case all of whose voxels are background."""

    def __init__(self, case):
        self.prepared, self._case = case.prepared, case

    def reference(self, labels):
        truth = self._case.reference(labels)
        return replace(truth, array=np.zeros_like(truth.array))


# --- from a run to a file -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(shared_brats_folder, tmp_path_factory, recipe):
    """Train for one step, once for each norm; gives the run's folder, not to be changed."""
    pytest.importorskip("tensorflow")
    from vol3dseg.training.fit import train

    @cache
    def run(norm):
        folder = tmp_path_factory.mktemp(norm)
        config = small_config(recipe, {"norm": norm}, batch_size=1)
        preprocess(shared_brats_folder, folder / "P", config)
        train(folder / "P", folder / "run", config)
        return folder / "run"

    return run


@pytest.mark.train
@pytest.mark.parametrize("norm", [pytest.param("batch", marks=pytest.mark.slow), "instance"])
def test_from_a_run_to_a_model(norm, run, brats_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quantise_module, "LARGEST_DROP", 1)
    folder, path = run(norm), tmp_path / "model-int8.onnx"
    export_onnx.callback(folder, tmp_path / "model.onnx")
    export_onnx.callback(folder, path, int8=True)
    said = capsys.readouterr().out
    assert "its float32 graph equals the trained model" in said
    assert "int8: mean Dice" in said
    assert path.stat().st_size < (tmp_path / "model.onnx").stat().st_size
    found = describe(path)
    facts = found.document
    assert found.kind == "int8 model"
    assert facts["quantisation"]["patches"] > 0
    assert facts["parity"] == describe(tmp_path / "model.onnx").document["parity"]
    (case, *_) = find_cases(brats_folder)
    volume = read_volume(case, ("flair", "t1"))
    paths = (tmp_path / "model.onnx", path)
    one, other = (load_predictor(p)(volume).segmentation.array for p in paths)
    assert np.mean(one == other) > 0.9


@pytest.mark.train
def test_what_loses_too_much_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(quantise_module, "LARGEST_DROP", -1)
    with pytest.raises(ParityError, match="export it without --int8"):
        export_onnx.callback(run("batch"), tmp_path / "model.onnx", int8=True)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.train
def test_a_run_without_a_validation_part(run, tmp_path, monkeypatch):
    def without_validation(path):
        origin = read_origin(path)
        return origin.model_copy(update={"split": Split(train=origin.split.ids)})

    monkeypatch.setattr(finished_run, "read_origin", without_validation)
    with pytest.raises(RunError, match="judged on the validation part"):
        export_onnx.callback(run("batch"), tmp_path / "model.onnx", int8=True)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.train
def test_standalone_and_int8_exclude_each_other(tmp_path):
    pytest.importorskip("tensorflow")
    with pytest.raises(ModelError, match="leave out --standalone or --int8"):
        export_onnx.callback(tmp_path, tmp_path / "model.onnx", standalone=True, int8=True)
