"""Checkpoints of nnU-Net: read as torch reads them, and nothing in them is run."""

import os
import pickle
import time
import tracemalloc

import numpy as np
import pytest

from tests.torch_files import (
    Call,
    Named,
    Tensor,
    encoded,
    nnunet_checkpoint,
    pickled,
    scalar,
    torch_file,
    zipped,
)
from vol3dseg.errors import FileFormatError
from vol3dseg.export.nnunet.checkpoint import read_checkpoint
from vol3dseg.export.torch_files import pickle_machine, state

RNG = np.random.default_rng(0)


def saved(tmp_path, value, **options):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(value if isinstance(value, bytes) else torch_file(value, **options))
    return path


def refused(path, match):
    with pytest.raises(FileFormatError, match=match) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("order", ["little", "big", ""])
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        pytest.param("f4", RNG.normal(size=(2, 3, 4)), id="float32"),
        pytest.param("f2", RNG.normal(size=(2, 3, 4)), id="float16"),
        pytest.param("bfloat16", RNG.normal(size=(2, 3, 4)), id="bfloat16"),
        pytest.param("f8", RNG.normal(size=(2, 3, 4)), id="float64"),
        pytest.param("i8", np.array(7), id="a number of steps"),
    ],
)
def test_weights_of_either_byte_order_and_every_width(tmp_path, kind, given, order):
    tensor = Tensor(given, kind, order=">" if order == "big" else "<")
    path = saved(tmp_path, nnunet_checkpoint({"a": tensor}), order=order)
    found = read_checkpoint(path).state["a"]
    bits = {"f4": 24, "f2": 11, "bfloat16": 7, "f8": 24, "i8": 60}[kind]
    assert found.dtype == (np.int64 if kind == "i8" else np.float32)
    assert found.shape == given.shape
    np.testing.assert_allclose(found, given, rtol=2.0**-bits)


def test_facts_beside_the_weights(tmp_path):
    facts = {"init_args": {"fold": scalar(3, "i8"), "d": [(1, 2.5, None, True, "é")]}}
    dtype = Call("numpy.dtype", ("f8", False, True), (3, ">", None, None, None, -1, -1, 0))
    begun = (Named("numpy.ndarray"), (0,), encoded(b"b"))
    content = encoded(np.arange(6.0).astype(">f8").tobytes())
    array = Call("numpy.core.multiarray._reconstruct", begun, (1, (2, 3), dtype, False, content))
    facts["init_args"]["array"] = array
    path = saved(tmp_path, nnunet_checkpoint({"a": Tensor(np.ones(2))}, **facts))
    found = read_checkpoint(path)
    assert found.trainer == "nnUNetTrainer"
    assert found.epoch == 4
    assert found.mirror_axes == (0, 1, 2)
    assert found.init_args == {
        "fold": 3,
        "d": [(1, 2.5, None, True, "é")],
        "array": [[0, 1, 2], [3, 4, 5]],
    }
    assert len(found.sha256) == 64


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_compiled_networks_and_of_several_gpus(tmp_path, prefix):
    weights = {f"{prefix}{name}": Tensor(np.ones(2)) for name in ("a", "b")}
    assert list(read_checkpoint(saved(tmp_path, nnunet_checkpoint(weights))).state) == ["a", "b"]


def test_a_tensor_in_other_axes_is_a_view(tmp_path):
    numbers = np.arange(24.0)
    turned = Tensor(numbers, shape=(3, 4), strides=(1, 3), offset=5)
    path = saved(tmp_path, nnunet_checkpoint({"whole": Tensor(numbers), "turned": turned}))
    state = read_checkpoint(path).state
    np.testing.assert_array_equal(state["turned"], numbers[5:17].reshape(4, 3).T)
    assert np.shares_memory(state["turned"], state["whole"])
    assert not state["whole"].flags.writeable


def test_an_older_zip(tmp_path):
    path = saved(tmp_path, nnunet_checkpoint({"a": Tensor(np.ones(2))}), zip64=False)
    assert read_checkpoint(path).state["a"].tolist() == [1, 1]


def test_no_mirroring_is_said(tmp_path):
    said = nnunet_checkpoint({"a": Tensor(np.ones(2))}, inference_allowed_mirroring_axes=None)
    assert read_checkpoint(saved(tmp_path, said)).mirror_axes is None


# ---------------------------------------------------------------- what is not run


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.hostile
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_names_os_system_is_inert(tmp_path, protocol):
    """Python's own reader runs it, which shows that this would."""
    proof = tmp_path / "was here"
    content = pickle.dumps({"a": Evil(os.system, f"touch '{proof}'")}, protocol)
    path = saved(tmp_path, zipped({"archive/data.pkl": content}))
    wanted = f"asks for '{os.name}.system', which is not run" if protocol == 2 else "protocol 2"
    refused(path, wanted)
    assert not proof.exists()
    pickle.loads(content)
    assert proof.exists()


@pytest.mark.hostile
@pytest.mark.parametrize(
    "name",
    [
        *("builtins.eval", "builtins.getattr", "os.system", "numpy.core.multiarray.fromstring"),
        *("torch.load", "torch._utils._rebuild_tensor_v3", "torch.storage._load_from_bytes"),
        *("numpy.load", "collections.defaultdict", "pathlib.PosixPath", "x" * 150),
    ],
)
@pytest.mark.parametrize("place", ["network_weights", "logging", "init_args", "anything"])
def test_a_name_that_is_not_known_is_refused_wherever_it_stands(tmp_path, name, place):
    path = saved(tmp_path, nnunet_checkpoint({}, **{place: Call(f"a.{name}", ("x",))}))
    refused(path, f"asks for 'a.{name}', which is not run; expected numbers.* state_dict")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Call("torch.FloatStorage", ()), id="a type of numbers"),
        pytest.param(Call("numpy.ndarray", ((1,),)), id="a class"),
        pytest.param(Call("collections.OrderedDict", ([["a", 1]],)), id="with arguments"),
        pytest.param(Call("numpy.dtype", ("f4", False, True), {"x": 1}), id="another state"),
        pytest.param(Call("_codecs.encode", ("x", "zip")), id="another encoding"),
        pytest.param({(1, 2): 3}, id="a tuple as a key"),
        pytest.param({2**61 - 1: 3}, id="a large key, of those that are hashed alike"),
        pytest.param({1.5: 3}, id="half a key"),
        pytest.param({b"x"}, id="a set"),
    ],
)
def test_what_is_known_in_another_way_is_refused(tmp_path, value):
    refused(saved(tmp_path, nnunet_checkpoint({}, logging=value)), "its pickle ")


# ---------------------------------------------------------------- what is damaged, or too large


def long_pickle(middle, end=b"."):
    return zipped({"a/data.pkl": b"\x80\2" + middle + end})


DOUBLED = b"K\1" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))
MANY = 50_000


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(long_pickle(b")" + b"\x85" * MANY), "holds too much", id="tuples, nested"),
        pytest.param(long_pickle(b"(" + b"]" * MANY + b"t"), "holds too much", id="lists"),
        pytest.param(long_pickle(b"(" * MANY), "holds too much", id="marks"),
        pytest.param(long_pickle(b"N" * MANY * 2), "takes too long", id="nothings"),
        pytest.param(long_pickle(b"Nr\xff\xff\xff\xff0"), "unknown instruction", id="a large memo"),
        pytest.param(long_pickle(b"X\xff\xff\xff\xff"), "breaks off", id="text of 4 GB"),
        pytest.param(long_pickle(b"j\7\0\0\0"), "refers to what is not", id="what is not there"),
        pytest.param(long_pickle(b"t"), "refers to what is not there", id="no mark"),
        pytest.param(long_pickle(b"R"), "takes more than it has", id="an empty stack"),
        pytest.param(long_pickle(b"NN"), "breaks off", id="two values"),
        pytest.param(long_pickle(b"cos"), "breaks off", id="half a name"),
        pytest.param(long_pickle(b"X\1\0\0\0\xff"), "breaks off", id="no text"),
        pytest.param(long_pickle(DOUBLED), "holds no 'network_weights'", id="doubled 60 times"),
    ],
)
def test_bombs_are_refused_in_little_time_and_memory(tmp_path, content, match, monkeypatch):
    monkeypatch.setattr(pickle_machine, "_MOST_MADE", MANY // 2)
    monkeypatch.setattr(pickle_machine, "_MOST_STEPS", MANY)
    path = saved(tmp_path, content)
    started = time.perf_counter()
    tracemalloc.start()
    try:
        refused(path, match)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 5


def test_what_is_doubled_in_init_args_is_not_written_out(tmp_path):
    value = [1]
    for _ in range(30):
        value = [value, value]
    refused(saved(tmp_path, nnunet_checkpoint({}, init_args={"a": value})), "init_args hold too")


@pytest.mark.hostile
def test_a_container_within_itself(tmp_path):
    value = {}
    value["a"] = value
    refused(saved(tmp_path, nnunet_checkpoint({}, init_args=value)), "init_args hold too much")


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"shape": (5, 5)}, "lies beside its 24 numbers", id="larger than its numbers"),
        pytest.param({"shape": (10**6, 10**6), "strides": (0, 0)}, "beside", id="a number often"),
        pytest.param({"shape": (4,), "strides": (-1,), "offset": 9}, "beside", id="backwards"),
        pytest.param({"shape": (4,), "offset": -1}, "beside", id="before its numbers"),
        pytest.param({"shape": (4,), "offset": 21}, "beside", id="behind its numbers"),
        pytest.param({"shape": (2, 2), "strides": (1, 23)}, "beside", id="a step too wide"),
        pytest.param({"shape": (-1, -4), "strides": (1, 1)}, "beside", id="sides below zero"),
        pytest.param({"shape": (2,), "strides": (1, 1)}, "beside", id="another number of steps"),
        pytest.param({"shape": (True, 4), "strides": (4, 1)}, "bool stands where int", id="true"),
        pytest.param({"shape": (1,) * 9}, "beside", id="nine axes"),
        pytest.param({"shape": (0,)}, "beside", id="empty"),
        pytest.param({"shape": (0, 2**62), "strides": (1, 1)}, "beside", id="empty and large"),
        pytest.param({"shape": (2**700,) * 3}, "beside", id="sides of 700 bits"),
        pytest.param({"count": 25}, "has 96 bytes; expected 25 numbers of 4", id="another number"),
        pytest.param({"count": -1}, "beside", id="less than no numbers"),
    ],
)
def test_tensors_that_do_not_lie_in_their_storage(tmp_path, change, match):
    tensor = Tensor(np.arange(24.0), **change)
    refused(saved(tmp_path, nnunet_checkpoint({"a": tensor})), match)


def test_the_step_along_an_axis_of_one_does_not_matter(tmp_path):
    tensor = Tensor(np.arange(24.0), shape=(1, 4, 1), strides=(2**62, 6, 2**90))
    found = read_checkpoint(saved(tmp_path, nnunet_checkpoint({"a": tensor}))).state["a"]
    assert found.ravel().tolist() == [0, 6, 12, 18]


def test_a_storage_that_is_not_there(tmp_path):
    content, _ = pickled(nnunet_checkpoint({"a": Tensor(np.ones(3))}))
    refused(saved(tmp_path, zipped({"a/data.pkl": content})), "it has no member 'a/data/0'")


def members():
    content, numbers = pickled(nnunet_checkpoint({"a": Tensor(np.arange(24.0))}))
    return {"a/data.pkl": content, **{f"a/{name}": part for name, part in numbers.items()}}


WHOLE = zipped(members(), zip64=True)


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(b"", "it ends early", id="empty"),
        pytest.param(b"PK\5\6" + bytes(18), "holds 0 pickles", id="no members"),
        pytest.param(WHOLE[:-1], "not where they should be", id="cut off"),
        pytest.param(WHOLE[1:], "not stand at its end", id="cut at the front"),
        pytest.param(WHOLE.replace(b"PK\3\4", b"PK\3\5"), "not where they", id="no local header"),
        pytest.param(WHOLE.replace(b"\0\0\0A", b"\0\0\0B"), "another checksum", id="a bit"),
        pytest.param(zipped(members(), method=8), "compressed or encrypted", id="compressed"),
        pytest.param(zipped(members(), flags=1), "compressed or encrypted", id="encrypted"),
        pytest.param(
            zipped(members(), sizes={"a/data/0": 2**31}), "reaches into the next", id="larger"
        ),
        pytest.param(
            zipped(members(), sizes={"a/data.pkl": 5000}), "reaches into the next", id="overlapping"
        ),
        pytest.param(zipped([*members().items(), *members().items()]), "a name twice", id="twice"),
        pytest.param(
            zipped({"a/data.pkl": b"", "b/data.pkl": b""}), "holds 2 pickles", id="two pickles"
        ),
        pytest.param(zipped({"a/data.pkl": b""}), "protocol 2", id="an empty pickle"),
        pytest.param(
            pickle.dumps({"state_dict": {}}, 2),
            "is a bare pickle, .*save it again",
            id="before the zip",
        ),
        pytest.param(
            torch_file({"state_dict": {}, "plans": {}}),
            "holds no 'network_weights', but 'state_dict', 'plans';.* nnU-Net v1",
            id="of nnU-Net v1",
        ),
        pytest.param(torch_file([1]), "holds no 'network_weights'", id="a list"),
        pytest.param(
            torch_file(nnunet_checkpoint({}), order="middle"), "says no byte order", id="middle"
        ),
        pytest.param(
            torch_file(nnunet_checkpoint({"a": 3})),
            "hold 'a' of type int",
            id="a weight that is none",
        ),
        pytest.param(
            torch_file(nnunet_checkpoint({}, trainer_name=3)),
            "trainer_name is of type int; expected str",
            id="trainer",
        ),
        pytest.param(
            torch_file(nnunet_checkpoint({}, trainer_name="a b\n")), "says trainer_name", id="name"
        ),
        pytest.param(
            torch_file(nnunet_checkpoint({}, current_epoch=2**60)), "says current_epoch", id="epoch"
        ),
        pytest.param(
            torch_file(nnunet_checkpoint({}, inference_allowed_mirroring_axes=(0, 3))),
            "axes to mirror that a network has not",
            id="axes",
        ),
        pytest.param(
            torch_file(nnunet_checkpoint({}, init_args={"a": Named("torch.FloatStorage")})),
            "init_args hold the type Name",
            id="a name as a value",
        ),
    ],
)
def test_damaged_files(tmp_path, content, match):
    refused(saved(tmp_path, content), match)


@pytest.mark.hostile
def test_more_bytes_than_any_network_has(tmp_path, monkeypatch):
    path = saved(tmp_path, b"")
    with path.open("r+b") as file:
        file.truncate(2**35)  # without taking a place on the disk
    refused(path, "has 34359738368 bytes; expected at most 17179869184")
    two = nnunet_checkpoint({"a": Tensor(np.ones(30)), "b": Tensor(np.zeros(30))})
    monkeypatch.setattr(state, "_MOST_OF_WEIGHTS", 239)
    refused(saved(tmp_path, two), "weights of many bytes; expected at most 239")
    monkeypatch.setattr(state, "_MOST_OF_WEIGHTS", 240)
    assert list(read_checkpoint(path).state) == ["a", "b"]


@pytest.mark.parametrize("folder", [False, True])
def test_no_file(tmp_path, folder):
    path = tmp_path / "checkpoint_final.pth"
    if folder:
        path.mkdir()
    refused(path, "is no file" if folder else "is missing")


def test_real_checkpoints(shared_nnunet):
    found = [read_checkpoint(path) for path in sorted(shared_nnunet.rglob("checkpoint_final.pth"))]
    assert [len(each.state) for each in found] == [188] * 5
    assert {each.init_args["configuration"] for each in found} == {"3d_fullres"}
    for each in found:
        assert each.mirror_axes == (0, 1, 2)
        head = each.state["decoder.seg_layers.2.weight"]
        assert head.shape[1:] == (8, 1, 1, 1)
        twins = [f"encoder.stages.0.0.convs.0.{name}.weight" for name in ("conv", "all_modules.0")]
        assert np.shares_memory(*(each.state[name] for name in twins))
