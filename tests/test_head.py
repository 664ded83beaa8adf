"""The last convolution apart from the rest: outputs are made of features as they are added up."""

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.ensemble import average, side_by_side
from vol3dseg.model.head import take_head
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.outputs import Region, Sigmoid, Softmax
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet
from vol3dseg.space.volume import Volume

PATCH, FEATURES, OUTPUTS = (8, 12, 6), 3, 9
LABELS = LabelSet(classes=[Label(name=f"c{n}", read=(n,), write=n) for n in range(OUTPUTS)])


def graph_of(outputs=OUTPUTS, features=FEATURES, bias=True, last=(1, 1, 1), more=(), seed=0):
    """A convolution, an instance norm and a leaky ReLU, then a last convolution to logits."""
    rng = np.random.default_rng(seed)
    weights = {
        "w0": rng.normal(0, 0.3, (features, 1, 3, 3, 3)),
        "scale": np.ones(features),
        "shift": np.zeros(features),
        "w1": rng.normal(0, 1, (outputs, features, *last)),
        "b1": rng.normal(0, 0.5, outputs),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], pads=[1] * 6),
        helper.make_node("InstanceNormalization", ["c0", "scale", "shift"], ["n0"]),
        helper.make_node("LeakyRelu", ["n0"], ["features"], alpha=0.01),
        helper.make_node(
            "Conv",
            ["features", "w1", "b1"] if bias else ["features", "w1"],
            ["logits"],
            pads=[n // 2 for n in last] * 2,
        ),
        *more,
    ]
    ends = [
        helper.make_tensor_value_info(name, 1, ["n", channels, "i", "j", "k"])
        for name, channels in (("image", 1), (nodes[-1].output[0], outputs))
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    if not bias:
        tensors.pop()
    graph = helper.make_graph(nodes, "ends in a convolution", ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def adopted(manifest_of):
    """Return the manifest of such a network, whose working grid is coarser than the scan."""

    def make(outputs=None, sums="float16", members=1, **tiling):
        recipe = Recipe(
            modalities=("m",),
            normalisation={"method": "zscore"},
            patch_size=PATCH,
            spacing_mm=(1.5, 1.5, 2.0),
        )
        made = manifest_of(recipe, LABELS)
        rule = Tiling.of_nnunet(PATCH, members_apart=members, **tiling)
        facts = {"local": False, "divisor": (1, 1, 1)}
        return made.model_copy(
            update={
                "network": made.network.model_copy(update=facts),
                "outputs": outputs or Softmax(classes=LABELS.names, values="logits"),
                "tiling": rule.model_copy(update={"sums": sums}),
                "members": made.members * members,
            }
        )

    return make


def run(graph):
    """Return what a graph makes of a small image."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(graph.SerializeToString())
    image = np.random.default_rng(1).normal(0, 1, (1, 1, 5, 6, 7)).astype(np.float32)
    return session.run(None, {"image": image})[0][0]


def joined(count, *args, **facts):
    graphs = [graph_of(*args, seed=seed, **facts) for seed in range(count)]
    return graphs[0] if count == 1 else side_by_side(graphs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize(("outputs", "features"), [(9, 3), (117, 32), (3, 2)])
@pytest.mark.parametrize("most", [1, 4, 1000])
def test_a_head_makes_of_features_what_networks_make(
    monkeypatch, bias, networks, outputs, features, most
):
    monkeypatch.setattr("vol3dseg.model.head._SMALL", 50 * features)
    graph = joined(networks, outputs, features, bias)
    whole = run(graph)
    head = take_head(graph, networks)
    onnx.checker.check_model(graph, full_check=True)
    made = run(graph)
    assert head.features == len(made) == networks * features
    assert head.outputs == len(whole) == networks * outputs
    groups = list(head.groups(most))
    assert [n for each in groups for n in range(each.start, each.stop)] == [*range(head.outputs)]
    found = np.concatenate([head.apply(made, group) for group in groups])
    np.testing.assert_allclose(found, whole, rtol=0, atol=2e-5)
    mean = whole.reshape(networks, outputs, *whole.shape[1:]).mean(axis=0)
    found = head.averaged.apply(made, slice(0, outputs))
    np.testing.assert_allclose(found, mean, rtol=0, atol=2e-5)


REGIONS = Sigmoid(
    threshold=0.5,
    regions=tuple(Region(name=f"r{n}", members=(n,), paints=n) for n in LABELS.names[1:]),
    values="logits",
)
GRID = Geometry((24, 30, 20), np.diag([-1.0, 1.2, 1.0, 1]))


def averaged(planner, working, *_):
    return next(p for p in planner._blended(working.shape) if p.members_apart == 1)


@pytest.fixture
def both(monkeypatch, tmp_path):
    """Return what a model predicts with its last layer apart, and as it is."""

    def predict(graph, manifest, device="cpu", most_members=99):
        pytest.importorskip("onnxruntime" if device == "cpu" else "openvino")
        array = np.random.default_rng(2).normal(0, 1, (*GRID.shape, 1)).astype(np.float32)
        array[:3] = 0
        path = tmp_path / "m.onnx"
        path.write_bytes(with_manifest(graph, manifest))
        found = []
        for taken in (True, False):
            if not taken:
                monkeypatch.setattr("vol3dseg.inference.loading.take_head", lambda *_: None)
            predictor = load_predictor(path, device)
            assert (predictor.head is not None) == taken
            volume = Volume(array, GRID, ("m",))
            if most_members == 1:  # as where memory is short
                predictor.plan = partial(averaged, predictor._allowance.planner)
            found.append(predictor(volume, keep_probabilities=True))
            assert len(found[-1].plan.tiles) > 8
        return found

    return predict


@pytest.mark.parametrize("mirrorable", [(), ("i", "k")], ids=len)
@pytest.mark.parametrize("outputs", [None, REGIONS], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_labels_are_those_without_a_head(adopted, both, outputs, mirrorable, device):
    manifest = adopted(outputs, "float32", mirrorable=mirrorable)
    ours, theirs = both(graph_of(len(manifest.outputs.channels)), manifest, device)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=2e-5)
    assert (ours.segmentation.array != theirs.segmentation.array).mean() < 1e-4
    assert len(np.unique(ours.segmentation.array)) > 4
    if outputs is None:
        np.testing.assert_allclose(ours.probabilities.sum(axis=3), 1, atol=1e-5)


@pytest.mark.parametrize("most_members", [99, 1], ids=["apart", "averaged"])
def test_sums_of_several_networks_are_rounded_as_those_without_a_head(adopted, both, most_members):
    """Logits that differ by 1e-6 are now and then rounded to the next number of float16."""
    manifest = adopted(members=3, mirrorable=("j",))
    ours, theirs = both(joined(3), manifest, most_members=most_members)
    assert ours.plan.members_apart == min(3, most_members)
    same = ours.probabilities == theirs.probabilities
    assert same.mean() > 0.95
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=0.01)
    assert (ours.segmentation.array != theirs.segmentation.array).mean() < 1e-3


WIDER = [helper.make_node("Identity", ["logits"], ["same"])]


@pytest.mark.parametrize(
    ("graph", "networks"),
    [
        pytest.param(graph_of(32, 32), 1, id="as many outputs"),
        pytest.param(graph_of(25, 32), 1, id="fewer outputs"),
        pytest.param(graph_of(64, 8, last=(3, 3, 3)), 1, id="a wider kernel"),
        pytest.param(graph_of(64, 8, more=WIDER), 1, id="something behind it"),
        pytest.param(joined(2, 25, 32), 2, id="fewer outputs of two"),
        pytest.param(joined(2, 64, 8, more=WIDER), 2, id="something behind those of two"),
        pytest.param(joined(2, 64, 8), 3, id="of two and not three"),
        pytest.param(average([graph_of(64, 8, seed=n) for n in (0, 1)]), 2, id="an average"),
    ],
)
def test_a_network_without_such_an_end_is_left_as_it_is(graph, networks):
    before = graph.SerializeToString()
    assert take_head(graph, networks) is None
    assert graph.SerializeToString() == before


def test_a_model_that_leaves_out_tiles_keeps_its_head(adopted, tmp_path):
    """Of such tiles it is outputs that are known."""
    pytest.importorskip("onnxruntime")
    manifest, path = adopted(), tmp_path / "m.onnx"
    tiling = manifest.tiling.model_copy(update={"skip_empty": True})
    path.write_bytes(with_manifest(graph_of(), manifest.model_copy(update={"tiling": tiling})))
    assert load_predictor(path, "cpu").head is None
