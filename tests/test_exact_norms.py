"""Instance norms written as arithmetic: as exact as float32 allows, in each runtime."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.nnunet_folders import make_model
from vol3dseg.export.nnunet.adopting import adopt_nnunet
from vol3dseg.inference import loading
from vol3dseg.model.exact_norms import write_exact_norms

SIDE, CHANNELS = 64, 3


def network(weights=("scale", "shift"), epsilon=1e-3):
    """A norm alone, of weights by name; those that are none of the file are made of others."""
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", CHANNELS, "i", "j", "k"])
        for name in ("image", "logits")
    ]
    rng = np.random.default_rng(0)
    known = [
        numpy_helper.from_array(rng.normal(size=CHANNELS).astype("f4"), name)
        for name in ("scale", "shift")
    ]
    node = helper.make_node(
        "InstanceNormalization", ["image", *weights], ["logits"], epsilon=epsilon
    )
    made = [helper.make_node("Neg", ["scale"], ["made"])] if "made" in weights else []
    graph = helper.make_graph([*made, node], "norm", ends[:1], ends[1:], known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights_of(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def mostly_air():
    """A volume of which most is one value, and the rest noise far from zero."""
    rng = np.random.default_rng(1)
    image = rng.normal(3, 1, (1, CHANNELS, SIDE, SIDE, SIDE)).astype("f4")
    image[:, :, : 3 * SIDE // 4] = np.float32(2.7)
    return image


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_norms_are_exact_where_most_of_a_volume_is_one_value(device):
    pytest.importorskip("onnxruntime" if device == "cpu" else "openvino")
    model, image = network(), mostly_air()
    scale, shift = (weights_of(model)[name][:, None, None, None] for name in ("scale", "shift"))
    exact = image.astype(np.float64)
    centred = exact - exact.mean(axis=(2, 3, 4), keepdims=True)
    variance = (centred**2).mean(axis=(2, 3, 4), keepdims=True)
    wanted = centred / np.sqrt(variance + 1e-3) * scale + shift
    apart = []
    for _ in range(2):
        session = loading.open_session(model.SerializeToString(), device)
        apart.append(np.abs(session(image) - wanted).max())
        write_exact_norms(model)
    assert apart[1] < 5e-6
    assert apart[1] < apart[0] / 20  # else there is no need of it


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_averages_are_exact_too_as_group_norms_need_them(device):
    pytest.importorskip("onnxruntime" if device == "cpu" else "openvino")
    model, image = network(), mostly_air()
    node = helper.make_node("GlobalAveragePool", ["image"], ["logits"])
    model.graph.node[0].CopyFrom(node)
    wanted = image.astype(np.float64).mean(axis=(2, 3, 4), keepdims=True)
    apart = []
    for _ in range(2):
        session = loading.open_session(model.SerializeToString(), device)
        apart.append(np.abs(session(image) - wanted).max())
        assert write_exact_norms(model) == (len(apart) == 1)
    onnx.checker.check_model(model, full_check=True)
    assert apart[1] < 5e-6
    assert apart[1] < apart[0] / 3


def test_all_else_of_a_graph_stays():
    model = network()
    before = weights_of(model)
    assert write_exact_norms(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "InstanceNormalization" not in {node.op_type for node in model.graph.node}
    assert [end.name for end in (*model.graph.input, *model.graph.output)] == ["image", "logits"]
    after = weights_of(model)
    assert all(np.array_equal(after[name], values) for name, values in before.items())
    assert write_exact_norms(model) == 0


def test_norms_by_what_is_no_weight_are_left():
    model = network(("made", "shift"))
    before = model.SerializeToString(deterministic=True)
    assert write_exact_norms(model) == 0
    assert model.SerializeToString(deterministic=True) == before


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exact")
    adopt_nnunet(make_model(folder), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("device", "precision", "written"),
    [
        ("openvino", "float32", True),
        ("cpu", "float32", True),
        ("openvino", "bfloat16", False),  # arithmetic would lose more than the runtime's own
        ("cuda", "float32", False),
    ],
)
def test_adopted_models_have_them_on_the_cpu_in_float32(
    adopted, monkeypatch, device, precision, written
):
    given = []

    def opened(content, *options):
        given.append(onnx.load_model_from_string(content))
        raise InterruptedError

    monkeypatch.setattr(loading, "open_session", opened)
    with pytest.raises(InterruptedError):
        loading.load_predictor(adopted, device, precision=precision)
    kinds = {node.op_type for node in given[0].graph.node}
    assert ("InstanceNormalization" in kinds) != written


def test_models_of_our_own_keep_those_of_onnxruntime(model_path, monkeypatch):
    monkeypatch.setattr(loading, "write_exact_norms", lambda graph: pytest.fail("written"))
    loading.load_predictor(model_path, "cpu")
