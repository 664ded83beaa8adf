"""Small whole checkpoints of nnU-Net, and what is done with one."""

import sys

import numpy as np

from tests.fuzzing.promise import BrokenPromise
from tests.fuzzing.sample import NAME, Sample
from tests.nnunet_networks import configuration, state_of
from tests.torch_files import Tensor, nnunet_checkpoint, scalar, torch_file
from vol3dseg.export.nnunet.architecture import architecture_of
from vol3dseg.export.nnunet.checkpoint import read_checkpoint
from vol3dseg.export.nnunet.network import write_network

_FILE = "checkpoint_final.pth"
_CHANNELS, _OUTPUTS = 2, 3
_RUNNING = {  # what Python says it is about to do, when something runs
    *("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class"),
    *("exec", "compile", "import", "socket.connect", "ctypes.dlopen"),
}


def checkpoint_samples():
    """Checkpoints of both kinds of network, byte orders and widths, old and new zip files."""
    few = {"n_blocks_per_stage": 1, "features_per_stage": [2, 3, 3]}
    made = {
        "plain": _file("PlainConvUNet"),
        "residual": _file("ResidualEncoderUNet", order="big", zip64=False, **few),
        "bfloat16": _file("PlainConvUNet", kind="bfloat16", conv_bias=False),
    }
    return tuple(Sample(name, {_FILE: content}, _FILE) for name, content in made.items())


def adopt(path):
    """Read a checkpoint and write its network, while nothing may be run.

    Raises
    ------
    BrokenPromise
        Something was run, or weights are not plain numbers.
    Vol3dSegError
    """
    with _watch:
        checkpoint = read_checkpoint(path)
        for name, weights in checkpoint.state.items():
            if weights.dtype.kind not in "fiub" or not isinstance(name, str):
                raise BrokenPromise(f"weights of {weights.dtype}")
        said = checkpoint.init_args.get("plans")
        architecture = architecture_of(said if isinstance(said, dict) else {}, path)
        model = write_network(architecture, checkpoint.state, _CHANNELS, _OUTPUTS, (2, 1, 0))
        if not model.graph.node:
            raise BrokenPromise("a network without layers")


class _Watch:
    """Hears what Python is about to run, between the start of reading a file and its end."""

    def __init__(self):
        self._hears, self._heard, self._hooked = False, [], False

    def __enter__(self):
        if not self._hooked:  # for ever: an audit hook cannot be taken away
            sys.addaudithook(self._hear)
            self._hooked = True
        self._heard.clear()
        self._hears = True

    def __exit__(self, *error):
        self._hears = False
        if self._heard:
            raise BrokenPromise(f"runs something: {self._heard[:5]}")

    def _hear(self, event, arguments):
        if self._hears and event in _RUNNING:
            self._heard.append(event)


_watch = _Watch()


def _file(network, kind="f4", order="little", zip64=True, **changes):
    said = configuration(network, **changes)
    state = state_of(architecture_of(said, "plans"), _CHANNELS, _OUTPUTS, np.random.default_rng(0))
    sign = ">" if order == "big" else "<"
    tensors = {name: Tensor(weights, kind, order=sign) for name, weights in state.items()}
    more = {"plans": said, "dataset_json": {"name": NAME}, "fold": scalar(0, "i8")}
    return torch_file(nnunet_checkpoint(tensors, init_args=more), order=order, zip64=zip64)
