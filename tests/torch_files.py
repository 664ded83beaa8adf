"""Files as torch and nnU-Net write them, made without either: a pickle of protocol 2 in a zip."""

import io
import pickle
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STORAGES = {"f4": "Float", "f2": "Half", "f8": "Double", "i8": "Long", "bfloat16": "BFloat16"}


@dataclass(frozen=True)
class Named:
    """What a pickle names, whether it is there or not."""

    name: str

    def __call__(self):
        raise AssertionError("only named")


@dataclass
class Call:
    """What a pickle makes by calling a name, and tells more about itself afterwards."""

    name: str
    arguments: tuple
    state: Any = None


@dataclass
class Tensor:
    """A tensor over a whole storage, unless its place in one is said."""

    array: np.ndarray
    kind: str = "f4"
    order: str = "<"
    strides: tuple | None = None
    offset: int = 0
    shape: tuple | None = None
    key: str = ""
    count: int | None = None

    @property
    def content(self):
        if self.kind == "bfloat16":
            upper = np.asarray(self.array, "f4").view("u4") >> 16
            return upper.astype(f"{self.order}u2").tobytes()
        return np.asarray(self.array).astype(self.order + self.kind).tobytes()


def scalar(value, dtype="f4", core="numpy._core"):
    said = Call("numpy.dtype", (dtype, False, True), (3, "<", None, None, None, -1, -1, 0))
    return Call(f"{core}.multiarray.scalar", (said, encoded(np.asarray(value, dtype).tobytes())))


def encoded(content):
    return Call("_codecs.encode", (content.decode("latin1"), "latin1"))


def ordered(pairs):
    return _Ordered(dict(pairs))


@dataclass
class _Ordered:
    pairs: dict


@dataclass
class _Storages:
    members: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)


class _Pickler(pickle._Pickler):
    """Python's own pickler, in Python, that can write names of what is not installed."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.members = {}
        self._keys = {}

    def persistent_id(self, value):
        if not isinstance(value, _Stored):
            return None
        tensor = value.tensor
        key = tensor.key or self._keys.setdefault(id(tensor.array), str(len(self._keys)))
        self.members[f"data/{key}"] = tensor.content
        count = tensor.array.size if tensor.count is None else tensor.count
        kind = Named(f"torch.{STORAGES[tensor.kind]}Storage")
        return ("storage", kind, key, "cuda:0", count)

    def _named(self, value):
        module, _, name = value.name.rpartition(".")
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(value)

    def _call(self, value):
        self.save_reduce(Named(value.name), value.arguments, value.state, obj=value)

    def _tensor(self, value):
        shape = value.array.shape if value.shape is None else value.shape
        steps = value.strides
        if steps is None:
            steps = tuple(int(np.prod(shape[n + 1 :])) for n in range(len(shape)))
        said = (_Stored(value), value.offset, shape, steps, False, _Ordered({}))
        self.save_reduce(Named("torch._utils._rebuild_tensor_v2"), said, obj=value)

    def _ordered(self, value):
        name = Named("collections.OrderedDict")
        items = iter(value.pairs.items())
        self.save_reduce(name, (), {"_metadata": {}}, None, items, obj=value)

    dispatch = {
        **pickle._Pickler.dispatch,
        Named: _named,
        Call: _call,
        Tensor: _tensor,
        _Ordered: _ordered,
    }


@dataclass
class _Stored:
    tensor: Tensor


def pickled(value):
    """The pickle of a value, and the members that hold its numbers."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return file.getvalue(), pickler.members


def torch_file(value, order="little", zip64=True):
    """What torch.save writes."""
    content, members = pickled(value)
    parts = {"data.pkl": content, "byteorder": order.encode(), **members, "version": b"3\n"}
    if not order:
        del parts["byteorder"]
    return zipped({f"checkpoint_final/{name}": part for name, part in parts.items()}, zip64)


def zipped(members, zip64=False, method=0, flags=0, sizes=None):
    """A zip file of (name, content), as they are; `sizes` are told instead of true ones."""
    file, directory = bytearray(), bytearray()
    pairs = list(members.items() if isinstance(members, dict) else members)
    for name, content in pairs:
        text, start, crc = name.encode(), len(file), zlib.crc32(content)
        size = (sizes or {}).get(name, len(content))
        same = (20, flags, method, 0, 0, crc, size, size, len(text))
        file += struct.pack("<4s5H3L2H", b"PK\3\4", *same, 0) + text + content
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *same, 0, 0, 0, 0, 0, start) + text
    start, count, size = len(file), len(pairs), len(directory)
    file += directory
    if zip64:
        place = len(file)
        file += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        file += struct.pack("<4sLQL", b"PK\6\7", 0, place, 1)
    return bytes(file + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, start, 0))


def nnunet_checkpoint(weights, **more):
    """What nnU-Net keeps, around weights by name."""
    return {
        "network_weights": ordered(weights),
        "optimizer_state": {"state": {0: {"momentum_buffer": Tensor(np.ones(3))}}},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [scalar(0.5)], "lrs": [0.01]},
        "_best_ema": scalar(0.5, "f8", core="numpy.core"),
        "current_epoch": 4,
        "init_args": {
            "plans": {"plans_name": "nnUNetPlans"},
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {"labels": {"background": 0, "a": 1}},
            "device": Call("torch.device", ("cuda", 0)),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **more,
    }
