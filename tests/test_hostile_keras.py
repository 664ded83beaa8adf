"""Keras files as they have been misused: each is made, and refused before Keras could obey it."""

import io
import json
import os
import tempfile
import zipfile

import h5py
import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from vol3dseg.errors import RunError
from vol3dseg.training.checkpoints import load_checkpoint, read_raw, restore_checkpoint
from vol3dseg.training.keras_archive import MEMBER, RAW, read_network

pytestmark = [
    pytest.mark.hostile,
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

SECRET = b"hunter2:x:0:" * 100
KERNEL = "layers/conv3d/vars/0"
COMPUTE = "expected layers of Keras that only compute, or those of this program; if the network"
WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def network():
    image = keras.Input((4, 4, 4, 1))
    return keras.Model(image, keras.layers.Conv3D(2, 1, activation="softmax", name="c")(image))


@pytest.fixture
def good(network, tmp_path):
    path = tmp_path / "good.keras"
    network.save(path)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members, method=zipfile.ZIP_STORED):
    """Write a list of members, of which two may have one name."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def with_config(good, change):
    members = members_of(good)
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(change(config) or config).encode()
    return write(good.with_name("harmed.keras"), members.items())


def layer(kind, module="keras.layers", **config):
    """Put another layer in the place of the convolution."""

    def change(network):
        here = network["config"]["layers"][1]
        here |= {"module": module, "class_name": kind, "config": {"name": "c", **config}}

    return change


def activation(module, name):
    def change(network):
        function = {"module": module, "class_name": "function", "config": name}
        network["config"]["layers"][1]["config"]["activation"] = function

    return change


def whole(module, kind, **config):
    """A document that is no network, but a call of something."""
    return lambda network: {"module": module, "class_name": kind, "config": config}


def hidden(network):
    """In a place that no layer has."""
    deep = {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "trap"]}}
    network["config"]["layers"][0]["more"] = [[{"x": deep}]]


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None}}
CODE = [
    pytest.param(layer("Lambda", function=LAMBDA), "", id="Lambda, CVE-2024-3660"),
    pytest.param(layer("Lambda", function="print"), "keras.layers.Lambda", id="Lambda by name"),
    pytest.param(layer("Lambda", "keras.src.layers.core.lambda_layer", function="print"),
                 "keras.src.layers.core.lambda_layer.Lambda", id="Lambda at its own place"),
    pytest.param(activation("os", "system"), "os.system", id="function, CVE-2025-1550"),
    pytest.param(activation("builtins", "eval"), "builtins.eval", id="eval"),
    pytest.param(whole("os", "system", command="touch trap"), "os.system",
                 id="class, CVE-2025-1550"),
    pytest.param(whole("keras.utils", "get_file", origin="file:///etc/passwd", fname="trap"),
                 "keras.utils.get_file", id="get_file, CVE-2025-8747"),
    pytest.param(activation("keras.utils", "get_file"), "keras.utils.get_file",
                 id="get_file as activation"),
    pytest.param(whole("keras.src.utils.file_utils", "get_file", origin="http://localhost/"),
                 "keras.src.utils.file_utils.get_file", id="get_file at its own place"),
    pytest.param(whole("keras.config", "enable_unsafe_deserialization"),
                 "keras.config.enable_unsafe_deserialization", id="unsafe, CVE-2025-9906"),
    pytest.param(activation("keras.config", "enable_unsafe_deserialization"),
                 "keras.config.enable_unsafe_deserialization", id="unsafe as activation"),
    pytest.param(layer("TorchModuleWrapper"), "keras.layers.TorchModuleWrapper",
                 id="TorchModuleWrapper, CVE-2025-49655"),
    pytest.param(layer("StringLookup", vocabulary="/etc/passwd"), "keras.layers.StringLookup",
                 id="StringLookup, CVE-2025-12058"),
    pytest.param(layer("TFSMLayer", filepath="/tmp", call_endpoint="serve"),
                 "keras.layers.TFSMLayer", id="TFSMLayer, CVE-2026-1462"),
    pytest.param(layer("JaxLayer"), "keras.layers.JaxLayer", id="JaxLayer"),
    pytest.param(whole("keras.models", "load_model", filepath="x.h5"), "keras.models.load_model",
                 id="another model, CVE-2025-9905"),
    pytest.param(activation("keras.activations", "relu"), "keras.activations.relu",
                 id="any function"),
    pytest.param(layer("Trap", "my_layers"), "my_layers.Trap", id="a module of others"),
    pytest.param(layer({"x": 1}), "keras.layers.{'x': 1}", id="a class that is no name"),
    pytest.param(hidden, "subprocess.Popen", id="in a place that no layer has"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "name"), CODE)
def test_what_a_network_asks_for_is_not_called(change, name, good, monkeypatch):
    path = with_config(good, change)
    monkeypatch.chdir(good.parent)
    with pytest.raises(RunError) as caught:
        load_checkpoint(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: its network asks for ")
    assert name in told
    assert COMPUTE in told
    assert not (good.parent / "trap").exists()


def test_keras_is_in_safe_mode_all_the_same(network, tmp_path, monkeypatch):
    """The second wall: what the list would let through, Keras itself refuses."""
    image = keras.Input((4, 4, 4, 1))
    model = keras.Model(image, keras.layers.Lambda(lambda x: 2 * x)(image))
    path = tmp_path / "lambda.keras"
    model.save(path)
    monkeypatch.setattr("vol3dseg.training.keras_archive._REACHING", set())
    monkeypatch.setattr("vol3dseg.training.checkpoints._registered", lambda name: True)
    with pytest.raises(RunError, match=r"cannot be loaded.*Lambda.*disallowed by default"):
        load_checkpoint(path)


def test_layers_that_are_registered_are_loaded(tmp_path):
    @keras.saving.register_keras_serializable("own")
    class Twice(keras.layers.Layer):
        def call(self, values):
            return 2 * values

    image = keras.Input((4, 4, 4, 1))
    path = tmp_path / "own.keras"
    keras.Model(image, keras.ops.relu(Twice()(image))).save(path)
    assert load_checkpoint(path).layers[1].__class__ is Twice
    keras.saving.get_custom_objects().pop("own>Twice")
    with pytest.raises(RunError, match=r"asks for '.*Twice'; expected layers of Keras"):
        load_checkpoint(path)


# ---------------------------------------------------------------- archives


def more(name, content=b"x"):
    return lambda members: [*members.items(), (name, content)]


def twice(members):
    return [*members.items(), ("config.json", b"{}")]


ARCHIVES = [
    pytest.param(more("assets/../../../evil"), "holds 'assets/../../../evil'",
                 id="asset elsewhere, CVE-2026-12479"),
    pytest.param(more("/etc/evil"), "holds '/etc/evil'", id="absolute"),
    pytest.param(more("../evil"), "holds '../evil'", id="above"),
    pytest.param(more("assets/words.txt"), "holds 'assets/words.txt'", id="any asset"),
    pytest.param(twice, "holds a member twice", id="twice"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("read", [load_checkpoint, read_raw, "restore"])
@pytest.mark.parametrize(("change", "message"), ARCHIVES)
def test_other_members_are_refused(change, message, read, good, network):
    path = write(good.with_name("harmed.keras"), change(members_of(good)))
    with pytest.raises(RunError) as caught:
        restore_checkpoint(network, path) if read == "restore" else read(path)
    assert str(caught.value).startswith(f"{path}: {message}; expected a checkpoint of vol3dseg")
    assert not (good.parent.parent / "evil").exists()


def test_a_zip_bomb_is_refused(good):
    members = members_of(good) | {WEIGHTS: bytes(2**26)}
    path = write(good.with_name("bomb.keras"), members.items(), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**17
    with pytest.raises(RunError, match="holds compressed members; expected a checkpoint"):
        load_checkpoint(path)


def test_nothing_is_unpacked(good, monkeypatch):
    """With a fourth member, which is ours, Keras' own reader fills a temporary folder."""
    write(good, [*members_of(good).items(), (MEMBER, b"{}")])

    def never(*_, **__):
        raise AssertionError("a temporary folder was made")

    for name in ("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, never)
    monkeypatch.setattr(zipfile.ZipFile, "extract", never)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", never)
    assert load_checkpoint(good).layers


def test_a_whole_model_in_hdf5_is_refused(network, tmp_path):
    """Keras reads it without safe mode, CVE-2025-9905."""
    path = tmp_path / "model.h5"
    image = keras.Input((4, 4, 4, 1))
    keras.Model(image, keras.layers.Lambda(lambda x: x)(image)).save(path)
    path = path.rename(tmp_path / "best.keras")
    with pytest.raises(RunError, match=r"best\.keras: damaged, not a whole \.keras archive"):
        load_checkpoint(path)


DEEP = [
    pytest.param(b"[" * 10**5, id="brackets"),
    pytest.param(b'{"config": ' * 10**5, id="braces"),
    pytest.param(b'{"class_name": 1, "class_name": 2}', id="a key twice"),
    pytest.param(b"\xff", id="no text"),
    pytest.param(b"[]", id="a list"),
]


@pytest.mark.parametrize("config", DEEP)
def test_harmed_json_is_refused(config, good):
    members = members_of(good) | {"config.json": config}
    path = write(good.with_name("harmed.keras"), members.items())
    with pytest.raises(RunError, match=r"harmed\.keras: (is damaged|cannot be loaded)"):
        load_checkpoint(path)


def test_how_a_network_is_compiled_is_of_no_matter(good):
    def change(network):
        network["compile_config"] = whole("os", "system")(network)

    path = with_config(good, change)
    assert load_checkpoint(path).layers
    assert read_network(path, lambda name: False)["compile_config"] is None


# ---------------------------------------------------------------- weights


def external(file, other):
    del file[KERNEL]
    file.create_dataset(KERNEL, (1, 1, 1, 1, 2), np.float32, external=[(str(other), 0, 8)])


def linked(file, other):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink(str(other), "x")


def virtual(file, other):
    del file[KERNEL]
    layout = h5py.VirtualLayout((1, 1, 1, 1, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "x", (1, 1, 1, 1, 2))
    file.create_virtual_dataset(KERNEL, layout)


def bomb(file, other):
    del file[KERNEL]
    file.create_dataset(KERNEL, (100_000,) * 3, np.float32, chunks=(32,) * 3)


REACHING = [
    pytest.param(external, "Not allowed: H5 file with external Dataset", id="CVE-2026-1669"),
    pytest.param(linked, "Not allowed: H5 file with ExternalLink", id="external link"),
    pytest.param(virtual, "Not allowed: H5 file with virtual Dataset", id="virtual dataset"),
    pytest.param(bomb, "refusing to loa", id="shape bomb, CVE-2026-0897"),
]


@pytest.mark.parametrize("how", ["load", "restore"])
@pytest.mark.parametrize(("change", "message"), REACHING)
def test_weights_that_reach_elsewhere_are_refused(change, message, how, good, network, tmp_path):
    members, other = members_of(good), tmp_path / "secret"
    other.write_bytes(SECRET)
    content = io.BytesIO(members[WEIGHTS])
    with h5py.File(content, "r+") as file:
        change(file, other)
    path = write(tmp_path / "harmed.keras", (members | {WEIGHTS: content.getvalue()}).items())
    with pytest.raises(RunError) as caught:
        load_checkpoint(path) if how == "load" else restore_checkpoint(network, path)
    told = str(caught.value)
    assert told.startswith(f"{path}: cannot be loaded, damaged or of another network (")
    assert message in told
    assert "hunter2" not in told


def test_raw_weights_bring_no_pickle(good, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    content = io.BytesIO()
    np.savez(content, np.array([Trap()], dtype=object))
    write(good, [*members_of(good).items(), (RAW, content.getvalue())])
    with pytest.raises(RunError, match=r"cannot be loaded.*allow_pickle"):
        read_raw(good)
    assert not (tmp_path / "trap").exists()
