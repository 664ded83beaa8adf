"""Which machines train one network together: what TF_CONFIG says, or SLURM."""

import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vol3dseg.errors import DeviceError
from vol3dseg.schema import Count, Frozen, parse_json
from vol3dseg.training.backend import tf

_VARIABLE = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"index": 0}}'
_REMEDY = (
    "set it on each machine, with the same workers and its own task.index from 0, "
    "see docs/several-devices.md"
)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The workers of a training, as HOST:PORT, and which of them this process is.

    `resolver` says so to TensorFlow. Worker 0 is the first: it alone writes.
    """

    workers: tuple[str, ...]
    number: int
    resolver: Any


class _Task(Frozen):
    type: str = "worker"
    index: Count


class _TfConfig(Frozen):
    cluster: dict[str, tuple[str, ...]]
    task: _Task


def cluster_of() -> Cluster:
    """Return the cluster that environment variables describe; a DeviceError where none does.

    They are read here alone, since this is how launchers of TensorFlow tell workers of each other.
    """
    if not os.environ.get(_VARIABLE):
        if "SLURM_PROCID" not in os.environ:
            raise DeviceError(
                f"--strategy multi-worker, and neither {_VARIABLE} nor SLURM names the workers",
                expected=f"{_VARIABLE}, as {_EXAMPLE}",
                remedy=_REMEDY,
            )
        os.environ[_VARIABLE] = _of_slurm()
    workers, number = read_tf_config(os.environ[_VARIABLE])
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver("worker", number, "grpc")
    return Cluster(workers, number, resolver)


def _of_slurm() -> str:
    """Return the TF_CONFIG of a job step of SLURM.

    TensorFlow's resolver would share out GPUs too, and cannot where there is none; SLURM does that.
    """
    try:
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        cluster = resolver.cluster_spec().as_dict()
    except (RuntimeError, ValueError, KeyError) as error:
        raise DeviceError(
            f"SLURM does not say who the workers are ({error})",
            expected="a job step, as srun starts it",
            remedy=f"start it with srun, or set {_VARIABLE}",
        ) from error
    return json.dumps({"cluster": cluster, "task": {"index": int(resolver.task_id)}})


def await_first(cluster: Cluster, seconds: float, say: Callable[[str], None]) -> None:
    """Wait until worker 0 listens, which TensorFlow would do for an hour without a word."""
    first = cluster.workers[0]
    host, port = first.rsplit(":", 1)
    end = time.monotonic() + seconds
    say(f"worker {cluster.number} waits for worker 0 ({first}), {seconds:.0f} s at most")
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise DeviceError(
                    f"worker 0 ({first}) cannot be reached ({error.strerror or error})",
                    expected=f"that it starts within {seconds:.0f} s, and that its port is open",
                    remedy="start it with the same TF_CONFIG but its own task.index",
                ) from error
            time.sleep(0.2)


def read_tf_config(text: str) -> tuple[tuple[str, ...], int]:
    """Return the workers of a TF_CONFIG, and the number of the one that it is for."""
    parsed = parse_json(
        _TfConfig, text, _VARIABLE, DeviceError, expected=f"as {_EXAMPLE}", remedy=_REMEDY
    )
    workers = parsed.cluster.get("worker", ())
    if fault := _fault(parsed, workers):
        raise DeviceError(fault, where=_VARIABLE, expected=f"as {_EXAMPLE}", remedy=_REMEDY)
    return workers, parsed.task.index


def _fault(parsed: _TfConfig, workers: tuple[str, ...]) -> str:
    """Return what is wrong, in words; nothing where all is right."""
    others = sorted({*parsed.cluster, parsed.task.type} - {"worker"})
    if others:
        return f"names {', '.join(others)}, and there are workers only"
    if not workers:
        return "names no worker"
    if wrong := next((w for w in workers if not _is_address(w)), None):
        return f"worker {wrong!r} is no HOST:PORT"
    if len({*workers}) < len(workers):
        return "names a worker twice"
    if parsed.task.index >= len(workers):
        return f"task.index is {parsed.task.index}, of {len(workers)} workers counted from 0"
    return ""


def _is_address(worker: str) -> bool:
    found = _ADDRESS.fullmatch(worker)
    return found is not None and 0 < int(found[2]) < 2**16
