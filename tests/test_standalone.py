"""One graph from raw intensities to labels: the same as our own steps round the network."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import small_config
from vol3dseg.cli.export_onnx import export_onnx
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import ModelError, ParityError
from vol3dseg.export.standalone import make_standalone, require_standalone
from vol3dseg.export.standalone_check import check_standalone, one_pass
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.model_file import describe, read_model, with_manifest
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.recipe import Recipe
from vol3dseg.recipe.graph_values import Graph
from vol3dseg.recipe.percentiles import write_percentile
from vol3dseg.recipe.window import Window
from vol3dseg.recipe.zscore import ZScore
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.resampling import resample
from vol3dseg.space.volume import Volume

ort = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parents[1]
MODALITIES = ("flair", "t1")
STEPS = [
    ZScore(),
    ZScore(mask="all"),
    ZScore(clip_percentiles=(0.5, 99.5)),
    ZScore(mask="all", clip_percentiles=(0, 100)),
    ZScore(clip_percentiles=(30, 70)),
    ZScore(clip_percentiles=(50, 51)),
    Window(method="window", low=-200, high=300.5),
]

WINDOWS = dict.fromkeys(MODALITIES, STEPS[-1])


def unet(channels, classes, depth=2, width=4, seed=0):
    """A U-Net with random weights; no part of it says how large its input is."""
    rng, nodes, weights = np.random.default_rng(seed), [], []

    def add(kind, *inputs, **facts):
        name = f"{kind}_{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, inputs, [name], **facts))
        return name

    def weight(*shape, size=1.0):
        array = size * rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        weights.append(onnx.numpy_helper.from_array(array.astype(np.float32), f"w{len(weights)}"))
        return weights[-1].name

    def block(x, a, b):
        kernels = weight(b, a, 3, 3, 3, size=1.5)
        return add("LeakyRelu", add("Conv", x, kernels, weight(b, size=0.2), pads=[1] * 6))

    x, skips, wide = block("image", channels, width), [], width
    for _ in range(depth):
        skips.append(x)
        pooled = add("MaxPool", x, kernel_shape=[2] * 3, strides=[2] * 3)
        x, wide = block(pooled, wide, 2 * wide), 2 * wide
    for skip in reversed(skips):
        up = add("ConvTranspose", x, weight(wide, wide // 2, 2, 2, 2, size=3), strides=[2] * 3)
        x, wide = block(add("Concat", skip, up, axis=1), wide, wide // 2), wide // 2
    logits = add("Conv", x, weight(classes, width, 1, 1, 1, size=4), weight(classes))
    nodes.append(onnx.helper.make_node("Softmax", [logits], ["probabilities"], axis=1))
    ends = [
        onnx.helper.make_tensor_value_info(name, 1, ["n", sides, "i", "j", "k"])
        for name, sides in (("image", channels), ("probabilities", classes))
    ]
    graph = onnx.helper.make_graph(nodes, "unet", ends[:1], ends[1:], weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


NETWORK = unet(2, 4)


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options)


def images(volume):
    return {m: np.ascontiguousarray(volume.array[..., c]) for c, m in enumerate(volume.modalities)}


SEEN = "network/image"


def with_seen(model):
    """Let what the network sees be an output as well."""
    channels = len(model.graph.input)
    value = onnx.helper.make_tensor_value_info(SEEN, 1, [1, channels, None, None, None])
    model.graph.output.append(value)
    return model


def padded(volume, manifest):
    """What the network should see, by our own steps."""
    array = prepare(volume, manifest.recipe).volume.array
    sides = zip(array.shape[:3], manifest.network.divisor, strict=True)
    behind = [(0, -n % divisor) for n, divisor in sides]
    return np.moveaxis(np.pad(array, [*behind, (0, 0)]), -1, 0)[None]


def copy_of(model):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def scan(array):
    return Volume(array, Geometry(array.shape[:3], np.eye(4)), MODALITIES)


def turned(volume):
    """The scan in axes closest to RAS."""
    grid = volume.geometry.canonical()
    return Volume(resample(volume.array, volume.geometry, grid), grid, volume.modalities)


def blob(shape, seed=0, kind="head"):
    """Two modalities, zero in a margin whose width differs between them; or some odd case."""
    rng = np.random.default_rng(seed)
    array = np.zeros((*shape, 2), dtype=np.float32)
    for channel in range(2):
        start = [int(rng.integers(0, n)) for n in shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)]
        inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        part = array[(*inside, channel)]
        part[...] = rng.normal(300, 200, part.shape).round(int(rng.integers(0, 3)))
        part[rng.random(part.shape) < 0.1] = 0
    if kind == "one empty":
        array[..., 1] = 0
    elif kind == "constant":
        array[..., 0] = np.where(array[..., 0] != 0, 1000.1, 0)
    elif kind == "one voxel":
        array[...] = 0
        array[shape[0] // 2, -1, 0] = 7
    elif kind == "faint":
        array *= 1e-12  # as an ADC map in m^2/s
    elif kind == "full":
        array += 1e4
    return array


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run the program of docs/standalone.md in Node.js."""
    modules, program = ROOT / ".node" / "node_modules", shutil.which("node")
    if program is None or not (modules / "onnxruntime-node").is_dir():
        pytest.skip("no Node.js with onnxruntime-node: install Node.js and npm, then `make node`")
    text = (ROOT / "docs" / "standalone.md").read_text(encoding="utf-8")
    script = tmp_path_factory.mktemp("node") / "segment.cjs"
    script.write_text(re.search(r"```js\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")

    def node(*words):
        command = [program, str(script), *map(str, words)]
        environment = {**os.environ, "NODE_PATH": str(modules)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr

    return node


def changed(manifest, **recipe):
    new = Recipe.model_validate({**manifest.recipe.model_dump(), **recipe})
    return manifest.model_copy(update={"recipe": new, "fingerprint": new.fingerprint})


sizes = st.tuples(*[st.integers(1, 21)] * 3)
kinds = st.sampled_from(["head", "one empty", "constant", "one voxel", "faint", "full"])


@pytest.mark.parametrize("crop", ["nonzero", "none"])
@pytest.mark.parametrize("step", STEPS, ids=lambda s: "-".join(map(str, s.model_dump().values())))
def test_the_network_sees_what_prepare_gives(step, crop, manifest):
    whole = changed(manifest, crop=crop, normalisation={"flair": step, "t1": ZScore()})
    graph = session(with_seen(make_standalone(NETWORK, whole)))

    @given(shape=sizes, seed=st.integers(0, 99), kind=kinds)
    def law(shape, seed, kind):
        volume = scan(blob(shape, seed, kind))
        (found,) = graph.run([SEEN], images(volume))
        np.testing.assert_allclose(found, padded(volume, whole), rtol=2e-7, atol=2e-7)

    law()


@pytest.mark.parametrize("crop", ["nonzero", "none"])
def test_labels_are_those_of_one_pass(crop, manifest):
    whole = changed(manifest, crop=crop)
    inner, graph = session(NETWORK), session(make_standalone(NETWORK, whole))

    @given(shape=sizes, seed=st.integers(0, 99), kind=kinds)
    def law(shape, seed, kind):
        volume = scan(blob(shape, seed, kind))
        expected, clear = one_pass(volume, whole, inner)
        (found,) = graph.run(None, images(volume))
        assert (found.dtype, found.shape) == (np.uint8, shape)
        np.testing.assert_array_equal(found[clear], expected[clear])

    law()


def test_labels_are_the_values_of_files(manifest):
    graph = session(make_standalone(NETWORK, manifest))
    (found,) = graph.run(None, images(scan(blob((40, 40, 40)))))
    assert np.unique(found).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("percent", [0, 0.5, 30, 50, 50.1, 99.5, 100])
def test_percentiles_are_numpys_to_the_last_bit(percent):
    build = Graph()
    result = write_percentile(build.input("values", np.float32), percent)
    ends = [
        onnx.helper.make_tensor_value_info("values", onnx.TensorProto.FLOAT, ["n"]),
        onnx.helper.make_tensor_value_info(result.name, onnx.TensorProto.DOUBLE, [1]),
    ]
    made = onnx.helper.make_graph(build.nodes, "p", ends[:1], ends[1:], build.constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    graph = session(onnx.helper.make_model(made, opset_imports=opset, ir_version=8))

    @given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300))
    def law(values):
        array = np.array(values, dtype=np.float32)
        assert graph.run(None, {"values": array})[0] == np.percentile(array, [percent])

    law()


@pytest.mark.parametrize("crop", ["nonzero", "none"])
@pytest.mark.parametrize("step", STEPS, ids=lambda s: "-".join(map(str, s.model_dump().values())))
def test_a_scan_of_zeros_is_background(step, crop, manifest):
    whole = changed(manifest, crop=crop, normalisation={"flair": step, "t1": step})
    graph = session(with_seen(make_standalone(NETWORK, whole)))
    volume = scan(np.zeros((9, 6, 7, 2), dtype=np.float32))
    labels, seen = graph.run(["labels", SEEN], images(volume))
    assert labels.shape == (9, 6, 7)
    assert not labels.any()
    assert np.isfinite(seen).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("modality", MODALITIES)
def test_values_that_are_not_finite_stop_the_run(modality, value, manifest):
    graph = session(make_standalone(NETWORK, manifest))
    array = blob((8, 8, 8))
    array[4, 4, 4, MODALITIES.index(modality)] = value
    with pytest.raises(Exception, match=f"{modality} holds NaN or infinity"):
        graph.run(None, images(scan(array)))


@pytest.mark.parametrize("sides", [(7, 8, 8), (8, 8, 1), (9, 9, 9)], ids=str)
def test_modalities_of_different_sizes_stop_the_run(sides, manifest):
    graph = session(make_standalone(NETWORK, manifest))
    other = np.ones(sides, dtype=np.float32)
    with pytest.raises(Exception, match=r"dimension|size|shape|broadcast"):
        graph.run(None, {"flair": np.ones((8, 8, 8), dtype=np.float32), "t1": other})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"local": False}, r"\(instance norm\).*model.norm: batch", id="instance norm"),
        pytest.param({"spacing_mm": (1, 1, 2)}, "resamples.*spacing_mm: null", id="resampling"),
        pytest.param(
            {"bias_correction": "n4"}, "corrects bias fields.*bias_correction: null", id="n4"
        ),
        pytest.param(
            {"local": False, "spacing_mm": (1, 1, 2)}, "instance.*resamples", id="both at once"
        ),
        pytest.param({"modalities": ("t1", "labels")}, "labels.*names of inputs", id="labels"),
        pytest.param({"modalities": ("network/w0",)}, "network/w0.*inputs", id="inner name"),
    ],
)
def test_refusals_say_why_and_what_instead(change, message, manifest):
    if not change.pop("local", True):
        facts = {"local": False, "architecture": {"norm": "instance"}}
        network = manifest.network.model_copy(update=facts)
        manifest = manifest.model_copy(update={"network": network})
    if "modalities" in change:
        change["normalisation"] = {"method": "zscore"}
    whole = changed(manifest, **change)
    with pytest.raises(ModelError, match=rf"^run: .*--standalone: .*{message}.*vol3dseg predict"):
        require_standalone(whole, "run")
    with pytest.raises(ModelError, match=message):
        make_standalone(NETWORK, whole)


def test_another_opset_is_refused(manifest):
    other = copy_of(NETWORK)
    other.opset_import[0].version = 18
    with pytest.raises(ModelError, match=r"ai.onnx.*18.*expected ai.onnx 17"):
        make_standalone(other, manifest)


def test_the_file_says_what_it_is(manifest, tmp_path):
    path = tmp_path / "standalone.onnx"
    path.write_bytes(make_standalone(NETWORK, manifest).SerializeToString())
    found = describe(path)
    facts = found.document
    assert found.kind.startswith("standalone model")
    assert facts["fingerprint"] == manifest.fingerprint
    graph = ort.InferenceSession(path)
    properties = graph.get_modelmeta().custom_metadata_map
    call = json.loads(properties["vol3dseg.standalone"])
    assert facts["standalone"] == call
    assert call["inputs"] == [i.name for i in graph.get_inputs()] == ["flair", "t1"]
    assert [call["output"]] == [o.name for o in graph.get_outputs()] == ["labels"]
    assert call["values"] == {
        "background": 0, "necrotic core": 1, "edema": 2, "enhancing": 4,
    }  # fmt: skip
    with pytest.raises(ModelError, match=r"standalone graph.*without --standalone"):
        read_model(path)


def test_predict_refuses_it_in_one_line(manifest, brats_folder, tmp_path):
    path = tmp_path / "standalone.onnx"
    path.write_bytes(make_standalone(NETWORK, manifest).SerializeToString())
    code = "from vol3dseg.cli.main import main; main()"
    words = ["predict", path, brats_folder, "-o", tmp_path / "out"]
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "export the run again without --standalone" in done.stderr


def test_damaged_metadata_is_refused(manifest, tmp_path):
    model = make_standalone(NETWORK, manifest)
    next(p for p in model.metadata_props if p.key == "vol3dseg.standalone").value = "{"
    path = tmp_path / "standalone.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"metadata 'vol3dseg\.standalone': is damaged"):
        describe(path)


@pytest.mark.parametrize("step", STEPS, ids=lambda s: "-".join(map(str, s.model_dump().values())))
def test_the_check_before_writing_takes_a_right_graph(step, manifest):
    whole = changed(manifest, normalisation={"flair": step, "t1": step})
    patches = np.random.default_rng(0).normal(size=(2, 8, 8, 8, 2)).astype(np.float32)
    patches[1] = 0
    content = make_standalone(NETWORK, whole).SerializeToString()
    check_standalone(content, with_manifest(copy_of(NETWORK), whole), whole, patches)


def test_the_check_sees_a_graph_that_is_another(manifest):
    patches = np.random.default_rng(0).normal(size=(1, 8, 8, 8, 2)).astype(np.float32)
    network = with_manifest(copy_of(NETWORK), manifest)
    wrong = changed(manifest, normalisation={"flair": ZScore(), "t1": ZScore(mask="all")})
    content = make_standalone(NETWORK, wrong).SerializeToString()
    with pytest.raises(ParityError, match=r"other labels to \d+ of"):
        check_standalone(content, network, manifest, patches)


def test_the_check_sees_labels_in_a_scan_of_zeros(manifest):
    model = make_standalone(NETWORK, manifest)
    made = {node.output[0]: node for node in model.graph.node}
    named = made[made["labels"].input[0]]
    named.input[0] = made[named.input[0]].input[1]  # values of the classes, whatever the scan
    network = with_manifest(copy_of(NETWORK), manifest)
    patches = np.random.default_rng(0).normal(size=(1, 8, 8, 8, 2)).astype(np.float32)
    with pytest.raises(ParityError, match="a scan of zeros"):
        check_standalone(model.SerializeToString(), network, manifest, patches)


@pytest.fixture
def run(brats_folder, tmp_path, recipe, labels):
    """Train for one step; gives the run's folder."""
    pytest.importorskip("tensorflow")
    from vol3dseg.training.fit import train

    def run(norm):
        config = small_config(recipe, {"norm": norm}, batch_size=1)
        preprocess(brats_folder, tmp_path / "P", config)
        train(tmp_path / "P", tmp_path / "run", config)
        return tmp_path / "run"

    return run


@pytest.mark.train
def test_a_trained_network(run, brats_folder, tmp_path, capsys):
    folder, alone = run("batch"), tmp_path / "standalone.onnx"
    export_onnx.callback(folder, tmp_path / "model.onnx")
    assert "post-process" not in capsys.readouterr().out
    known = json.loads((folder / "manifest.json").read_text())
    step = {"kind": "keep_largest", "of": "edema", "becomes": "background"}
    (folder / "manifest.json").write_text(json.dumps({**known, "postprocessing": [step]}))
    export_onnx.callback(folder, alone, standalone=True)
    said = capsys.readouterr().out
    assert "manifest inside, standalone" in said
    assert "note: the standalone graph does not post-process labels" in said
    model = read_model(tmp_path / "model.onnx")
    manifest = read_model(alone, allow_standalone=True).manifest
    assert manifest.parity == model.manifest.parity
    (case, *_) = find_cases(brats_folder)
    volume = turned(read_volume(case, MODALITIES))
    expected, clear = one_pass(volume, manifest, ort.InferenceSession(model.content))
    (found,) = ort.InferenceSession(alone).run(None, images(volume))
    np.testing.assert_array_equal(found[clear], expected[clear])


@pytest.mark.train
def test_instance_norm_is_refused_before_the_work(run, tmp_path):
    folder = run("instance")
    (folder / "best.keras").unlink()
    with pytest.raises(ModelError, match=r"run: .*\(instance norm\).*model.norm: batch"):
        export_onnx.callback(folder, tmp_path / "standalone.onnx", standalone=True)
    assert not (tmp_path / "standalone.onnx").exists()


@pytest.mark.train
def test_a_wrong_graph_is_not_written(run, tmp_path, monkeypatch):
    from vol3dseg.export import to_onnx as export

    def forgetful(network, manifest):
        return make_standalone(network, changed(manifest, normalisation=WINDOWS))

    monkeypatch.setattr(export, "make_standalone", forgetful)
    with pytest.raises(ParityError, match="other labels"):
        export_onnx.callback(run("batch"), tmp_path / "standalone.onnx", standalone=True)
    assert not (tmp_path / "standalone.onnx").exists()


# --- real cases -----------------------------------------------------------------------------------


@pytest.fixture
def real(shared_data, manifest, tmp_path):
    """A whole case, a standalone graph, and what `predict` says in one pass."""
    recipe = load_config("brats2020").recipe
    network = manifest.network.model_copy(
        update={"divisor": (8, 8, 8), "receptive_field": (51, 51, 51)}
    )
    facts = {
        "recipe": recipe,
        "fingerprint": recipe.fingerprint,
        "network": network,
        "tiling": Tiling.of(recipe.patch_size),
    }
    whole, graph = manifest.model_copy(update=facts), unet(4, 4, depth=3)
    standalone = make_standalone(graph, whole)
    (tmp_path / "model.onnx").write_bytes(with_manifest(graph, whole))
    predictor = load_predictor(tmp_path / "model.onnx", "cpu", max_memory_mb=8000)
    case = find_cases(shared_data / "brats")[0]
    volume = read_volume(case, recipe.modalities)
    prediction = predictor(volume, keep_probabilities=True)
    assert len(prediction.plan.tiles) == 1
    return case, volume, whole, standalone, prediction


def equal_where_clear(found, prediction):
    """Check the labels, and count where the two largest probabilities are too near each other."""
    expected = prediction.segmentation.labels.decode(prediction.segmentation.array)
    second, first = np.sort(prediction.probabilities, axis=-1)[..., -2:].transpose(3, 0, 1, 2)
    clear = first - second > 1e-4
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert all((expected == value).sum() > 1000 for value in (0, 1, 2, 4))
    unclear, differ = int((~clear).sum()), int((found != expected).sum())
    assert unclear < 1e-4 * clear.size  # 496 when this was written
    assert differ <= 0.1 * unclear  # none


def test_a_whole_case(real):
    _, volume, whole, standalone, prediction = real
    canonical = turned(volume)
    graph = session(with_seen(copy_of(standalone)))
    found, seen = graph.run(["labels", SEEN], images(canonical))
    np.testing.assert_allclose(seen, padded(canonical, whole), rtol=2e-7, atol=1e-7)
    home = resample(found, canonical.geometry, volume.geometry)
    equal_where_clear(home, prediction)


def test_a_whole_case_in_javascript(real, node, tmp_path):
    case, volume, _, standalone, prediction = real
    (tmp_path / "standalone.onnx").write_bytes(standalone.SerializeToString())
    scans = [f"{m}={case.images[m].path}" for m in volume.modalities]
    node(tmp_path / "standalone.onnx", tmp_path / "labels.raw", *scans)
    found = np.fromfile(tmp_path / "labels.raw", dtype=np.uint8)
    equal_where_clear(found.reshape(volume.geometry.shape, order="F"), prediction)
