"""Which machines train one network together: what TF_CONFIG says, or SLURM."""

import os
import re
from collections.abc import Mapping
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


def cluster_of(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Return the cluster that environment variables describe; a DeviceError where none does."""
    resolvers = tf.distribute.cluster_resolver
    if text := environment.get(_VARIABLE):
        workers, number = _read(text)
        spec = tf.train.ClusterSpec({"worker": list(workers)})
        resolver = resolvers.SimpleClusterResolver(
            spec, task_type="worker", task_id=number, rpc_layer="grpc"
        )
        return Cluster(workers, number, resolver)
    if "SLURM_PROCID" in environment:
        resolver = resolvers.SlurmClusterResolver()
        workers = tuple(resolver.cluster_spec().as_dict()["worker"])
        return Cluster(workers, int(resolver.task_id), resolver)
    raise DeviceError(
        f"--strategy multi-worker, and neither {_VARIABLE} nor SLURM says who the workers are",
        expected=f"{_VARIABLE}, as {_EXAMPLE}",
        remedy=_REMEDY,
    )


def _read(text: str) -> tuple[tuple[str, ...], int]:
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
