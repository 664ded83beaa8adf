"""Models that reach for other files, or for more than there is: each is made, and refused."""

import json
import os
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vol3dseg.errors import ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.manifest import parse_manifest
from vol3dseg.model.model_file import read_model

pytestmark = pytest.mark.hostile

SECRET = np.array([1, 2, 3, 5], np.float32)  # of four classes: a bias
ELSEWHERE = "is kept in another file; expected one file"


def beside(folder):
    (folder / "secret.bin").write_bytes(SECRET.tobytes())
    return "secret.bin"


def above(folder):
    (folder.parent / "secret.bin").write_bytes(SECRET.tobytes())
    return "../secret.bin"


def absolute(folder):
    return str(folder / beside(folder))


def symbolic_link(folder):
    above(folder)
    (folder / "link.bin").symlink_to("../secret.bin")
    return "link.bin"


def hard_link(folder):
    above(folder)
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    return "hard.bin"


def nowhere(folder):
    return "/dev/zero"


PLACES = [beside, above, absolute, symbolic_link, hard_link, nowhere]


def external(location, name="b"):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=SECRET.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def as_weights(graph, location):
    graph.initializer[1].CopyFrom(external(location))


def as_constant(graph, location):
    del graph.initializer[1]
    graph.node.insert(0, helper.make_node("Constant", [], ["b"], value=external(location)))


def as_sparse_constant(graph, location):
    sparse = onnx.SparseTensorProto(dims=SECRET.shape, values=external(location, ""))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4)))
    del graph.initializer[1]
    graph.node.insert(0, helper.make_node("Constant", [], ["b"], sparse_value=sparse))


def as_sparse_weights(graph, location):
    sparse = graph.sparse_initializer.add(dims=SECRET.shape, values=external(location))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4)))


def in_a_branch(graph, location):
    inner = helper.make_graph([], "inner", [], [], [external(location, "hidden")])
    graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner))


def in_a_list_of_tensors(graph, location):
    node = helper.make_node("Relu", ["image"], ["never"])
    node.attribute.append(helper.make_attribute("more", [external(location, "hidden")]))
    graph.node.append(node)


def without_saying_so(graph, location):
    """Only named, as of a reader that looks at names alone."""
    graph.initializer[1].external_data.add(key="location", value=location)


WAYS = [as_weights, as_constant, as_sparse_constant, as_sparse_weights, in_a_branch,
        in_a_list_of_tensors, without_saying_so]  # fmt: skip


@pytest.fixture
def model(model_path):
    return onnx.load_model_from_string(model_path.read_bytes())


def named(function):
    return function.__name__.replace("_", " ")


@pytest.mark.parametrize("way", WAYS, ids=named)
@pytest.mark.parametrize("place", PLACES, ids=named)
def test_numbers_in_another_file_are_not_read(place, way, model, tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    way(model.graph, place(folder))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(folder)  # where a runtime looks that is given bytes
    with pytest.raises(ModelError) as caught:
        load_predictor(path)
    assert str(caught.value).startswith(f"{path}: tensor ")
    assert ELSEWHERE in str(caught.value)


def test_a_runtime_would_read_them(model, tmp_path, monkeypatch):
    """Why that is refused: onnxruntime itself follows a hard link without a word."""
    runtime = pytest.importorskip("onnxruntime")
    folder = tmp_path / "models"
    folder.mkdir()
    as_weights(model.graph, hard_link(folder))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    image = np.zeros((1, 2, 1, 1, 1), np.float32)
    (found,) = session.run(None, {"image": image})
    expected = np.exp(SECRET) / np.exp(SECRET).sum()
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


# ---------------------------------------------------------------- code, and operators of others


def foreign_domain(model):
    model.graph.node[1].domain = "com.evil"


def in_a_branch_of(domain):
    def change(model):
        foreign = helper.make_node("Run", ["a"], ["b"], domain=domain)
        inner = helper.make_graph([foreign], "inner", [], [])
        model.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner))

    return change


def imported_domain(model):
    model.opset_import.append(helper.make_opsetid("com.evil", 1))


def own_function(model):
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Conv", ["x"], ["y"], body, opset))


def function_of_a_domain(model):
    body = [helper.make_node("Evil", ["x"], ["y"], domain="com.evil")]
    opset = [helper.make_opsetid("com.evil", 1)]
    model.functions.append(helper.make_function("local", "F", ["x"], ["y"], body, opset))


def python_operator(model):
    model.graph.node.append(helper.make_node("PyOp", ["image"], ["x"], domain="ai.onnx.contrib"))


def machine_learning_domain(model):
    model.graph.node.append(helper.make_node("Scaler", ["image"], ["x"], domain="ai.onnx.ml"))


def much_of_nothing(model):
    shape = numpy_helper.from_array(np.array([10**12]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["x"]))


def training_steps(model):
    model.training_info.add().initialization.node.append(helper.make_node("Relu", ["x"], ["y"]))


CODE = [
    pytest.param(foreign_domain, "uses operators of ['com.evil']; expected standard ONNX only",
                 id="domain of an operator"),
    pytest.param(imported_domain, "uses operators of ['com.evil']", id="imported domain"),
    pytest.param(in_a_branch_of("com.evil"), "uses operators of ['com.evil']", id="in a branch"),
    pytest.param(function_of_a_domain, "uses operators of ['com.evil']", id="within a function"),
    pytest.param(own_function, "has functions, training steps or sparse weights; expected a graph "
                 "of plain layers", id="a function in place of an operator"),
    pytest.param(python_operator, "uses operators of ['ai.onnx.contrib']", id="Python as operator"),
    pytest.param(machine_learning_domain, "uses operators of ['ai.onnx.ml']", id="ai.onnx.ml"),
    pytest.param(much_of_nothing, "uses the operators 'ConstantOfShape'", id="10^12 of nothing"),
    pytest.param(training_steps, "has functions, training steps", id="training steps"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CODE)
def test_what_is_no_plain_layer_is_not_run(change, message, model, model_path):
    change(model)
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_predictor(model_path)
    assert str(caught.value).startswith(f"{model_path}: ")
    assert message in str(caught.value)


# ---------------------------------------------------------------- more than there is


def sized(field, content):
    """A field of protobuf that holds bytes."""
    size, number = len(content), b""
    while size > 127:
        number, size = number + bytes([size & 127 | 128]), size >> 7
    return bytes([field << 3 | 2]) + number + bytes([size]) + content


def nested():
    graph = b""
    for _ in range(2000):
        graph = sized(1, sized(5, sized(6, graph)))
    return sized(7, graph)


BOMBS = [
    pytest.param(nested, "not an ONNX file with a graph", id="2,000 graphs in each other"),
    pytest.param(lambda: sized(14, sized(1, b"k") + sized(2, b" " * 2**24)),
                 "bytes beside its weights; expected", id="16 MB of metadata"),
    pytest.param(lambda: b"\x0a\xff\xff\xff\xff\x0f", "not an ONNX file", id="a text of 4 GB"),
    pytest.param(lambda: b"\x80" * 2**20, "not an ONNX file", id="a number without end"),
    pytest.param(lambda: sized(7, b"\x0a\x00" * 2**22), "beside its weights", id="4 million nodes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BOMBS)
def test_bombs_are_refused(content, message, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content())
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_model_larger_than_onnx_can_be_is_not_read(tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # no byte of it is on the disk
    with pytest.raises(ModelError, match="2147483649 bytes, more than ONNX can hold"):
        read_model(path)


# ---------------------------------------------------------------- manifests


def with_value(place, value):
    def change(text):
        said = json.loads(text)
        *above, last = place
        owner = said
        for key in above:
            owner = owner[key]
        owner[last] = value
        return json.dumps(said)

    return change


def many_steps(text):
    step = {"kind": "fill_holes", "of": "edema", "becomes": "edema"}
    return with_value(["postprocessing"], [step] * 65)(text)


def seed(value):
    return lambda text: text.replace('"seed":0', f'"seed":{value}')


ABSURD = [
    pytest.param(with_value(["recipe", "patch_size"], [2**40] * 3), "expected at most 4096, found "
                 "1099511627776", id="a patch of 2^120 voxels"),
    pytest.param(with_value(["network", "divisor"], [2**30] * 3), "network.divisor.0: expected at "
                 "most 4096", id="divisor"),
    pytest.param(with_value(["network", "receptive_field"], [2**31, 0, 0]),
                 "network.receptive_field.0: expected at most 1048576", id="receptive field"),
    pytest.param(with_value(["tiling", "step"], [-1, 1, 1]), "expected at least 1, found -1",
                 id="tiles that go backwards"),
    pytest.param(many_steps, "expected at most 64 entries", id="65 steps of post-processing"),
    pytest.param(with_value(["version"], 1e999), "version: expected 6, found inf", id="infinity"),
    pytest.param(seed("NaN"), "seed: expected a whole number", id="NaN"),
    pytest.param(seed("9" * 10**6), "a number of 1000000 digits", id="a million digits"),
    pytest.param(seed('0,"seed":1'), "'seed' is there twice", id="a key twice"),
    pytest.param(lambda text: "[" * 10**5 + text + "]" * 10**5, "nested too deep", id="brackets"),
    pytest.param(lambda text: '{"a":' * 10**5 + text, "nested too deep", id="braces"),
    pytest.param(lambda text: text[:-1] + ',"run":"os.system"}', "unknown key 'run'",
                 id="more keys"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), ABSURD)
def test_absurd_manifests_are_refused(change, message, model, model_path):
    properties = {each.key: each for each in model.metadata_props}
    said = properties["vol3dseg.manifest"]
    harmed = change(said.value)
    assert harmed != said.value
    said.value = harmed
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        read_model(model_path)
    told = str(caught.value)
    assert told.startswith(f"{model_path}: ")
    assert message in told
    assert len(told) < 2000
    with pytest.raises(ModelError):
        parse_manifest(harmed, "manifest.json")


def test_no_model_brings_a_library(model_path, monkeypatch):
    """A session is made without operators of others, of the bytes that were checked."""
    runtime = pytest.importorskip("onnxruntime")
    given, real = [], runtime.InferenceSession

    def noting(content, **more):
        given.append(content)
        return real(content, **more)

    def never(*_):
        raise AssertionError("a library was registered")

    monkeypatch.setattr(runtime, "InferenceSession", noting)
    monkeypatch.setattr(runtime.SessionOptions, "register_custom_ops_library", never)
    opened = []
    content = model_path.read_bytes()

    def told(event, arguments):
        if event == "open" and watching and str(arguments[0]) == str(model_path):
            opened.append(arguments[0])

    watching = [True]
    sys.addaudithook(told)
    load_predictor(model_path, "cpu")
    watching.clear()
    assert given
    assert all(isinstance(each, bytes) for each in given)
    assert content in given
    assert len(opened) == 1
