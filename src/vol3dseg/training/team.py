"""Who trains one network: a device, several of one machine, or those of several machines.

Each process has the weights once and changes them by itself; what it needs of the others it gets in
sums (`shared_step`). The first worker decides and writes; the others follow, and are told here.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import DeviceError, RunError
from vol3dseg.schema import differences
from vol3dseg.training.backend import tf
from vol3dseg.training.cluster_config import await_first, cluster_of
from vol3dseg.training.replicas import changes_variables, over_replicas

StrategyName = Literal["mirrored", "multi-worker"]
STRATEGIES: tuple[StrategyName, ...] = ("mirrored", "multi-worker")
_PATIENCE_S = 300.0  # for worker 0, which itself waits about as long for the others
_TASK = re.compile(r"/task:(\d+)")


@dataclass(frozen=True)
class Team:
    """The devices that share each batch of a training.

    Parameters
    ----------
    name : str or None
        As --strategy has it; None for one device.
    strategy : tf.distribute.Strategy or None
    workers : tuple of str
        HOST:PORT of each process; one without an address where there are no others.
    number : int
        Which of them this is. Worker 0 decides and writes.
    """

    name: StrategyName | None = None
    strategy: Any = None
    workers: tuple[str, ...] = ("",)
    number: int = 0

    @property
    def replicas(self) -> int:
        """How many devices there are in all."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    @property
    def here(self) -> int:
        """How many of them are of this process."""
        return self.replicas // len(self.workers)

    @property
    def is_first(self) -> bool:
        """Whether this process decides and writes."""
        return self.number == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return len(self.workers) == 1

    def __str__(self) -> str:
        machines = f" of {len(self.workers)} workers" * (not self.alone)
        return f"{self.replicas} devices{machines} ({self.name})"

    def from_first(self, arrays: Sequence[Any]) -> list[Any]:
        """Return tensors as the first worker has them; the others give some of the same shapes."""
        if self.alone:
            return list(arrays)
        mine = [tf.convert_to_tensor(array) for array in arrays]
        return self._sum(mine if self.is_first else [tf.zeros_like(array) for array in mine])

    def told(self, text: str) -> str:
        """Return the text of the first worker."""
        return self.texts(text)[0]

    def texts(self, text: str) -> list[str]:
        """Return the text of each worker."""
        if self.alone:
            return [text]
        own = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        sizes = self._sum([self._row(np.array([len(own)], np.int32))])[0].numpy()[:, 0]
        padded = np.zeros(max(sizes), np.int32)
        padded[: len(own)] = own
        rows = self._sum([self._row(padded)])[0].numpy().astype(np.uint8)
        return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]

    def _row(self, values: NDArray[np.int32]) -> Any:
        """Return a table with a row for each worker, all 0 but this one's."""
        table = np.zeros((len(self.workers), len(values)), np.int32)
        table[self.number] = values
        return tf.constant(table)

    def _sum(self, tensors: list[Any]) -> list[Any]:
        return list(self._summing(tensors))

    @cached_property
    def _summing(self) -> Any:
        """What adds up tensors over all workers."""

        def share(tensors: list[Any]) -> Any:
            own = tf.identity if changes_variables() else tf.zeros_like
            found = [own(tensor) for tensor in tensors]
            for kind in dict.fromkeys(tensor.dtype for tensor in found):  # each goes at once
                places = [n for n, tensor in enumerate(found) if tensor.dtype == kind]
                sums = over_replicas([found[n] for n in places])
                for n, total in zip(places, sums, strict=True):
                    found[n] = total
            return found

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def add(tensors: list[Any]) -> Any:
            found = self.strategy.run(share, args=(tensors,))
            return [self.strategy.experimental_local_results(each)[0] for each in found]

        return add

    def require_agreement(self, facts: Mapping[str, Any]) -> None:
        """Refuse to train with workers whose facts differ from those of the first."""
        every = [json.loads(text) for text in self.texts(json.dumps(facts))]
        for number, theirs in enumerate(every):
            if differ := differences(theirs, every[0]):
                raise RunError(
                    f"{self._named(number)} and {self._named(0)} differ in {differ}",
                    expected="the same version, config and prepared cases on all machines",
                    remedy="install, give or copy the same everywhere, and start all again",
                )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let the loss of another worker, which TensorFlow finds out, be an error of ours."""
        try:
            yield
        except tf.errors.OpError as error:
            lost = not self.alone and isinstance(
                error,
                tf.errors.UnavailableError | tf.errors.AbortedError | tf.errors.CancelledError
                | tf.errors.DeadlineExceededError | tf.errors.FailedPreconditionError
                | tf.errors.InternalError | tf.errors.UnknownError,
            )  # fmt: skip
            if not lost:
                raise
            raise RunError(
                f"{self._lost(str(error))} ended, or cannot be reached any more",
                expected=f"all of {len(self.workers)} workers until the training ends",
                remedy="see what it said last; start all again, with --resume if an epoch was done",
            ) from error

    def _lost(self, said: str) -> str:
        others = {int(n) for n in _TASK.findall(said)} - {self.number}
        others &= {*range(len(self.workers))}
        if len(self.workers) == 2:
            others = {1 - self.number}
        return " or ".join(map(self._named, sorted(others))) or "another worker"

    def _named(self, number: int) -> str:
        return f"worker {number} ({self.workers[number]})"


def team_of(name: str | None, say: Callable[[str], None]) -> Team:
    """Return who trains by a strategy: "mirrored", "multi-worker", or None for one device.

    It is the first that TensorFlow must do in a process; `say` is told who is waited for.
    """
    if name is None:
        return Team()
    if name not in STRATEGIES:
        raise DeviceError(f"strategy is {name!r}", expected=" or ".join(STRATEGIES))
    return _mirrored() if name == "mirrored" else _multi_worker(say)


@cache  # a second one of a process would take the first one's sums for its own
def _mirrored() -> Team:
    devices = tf.config.list_logical_devices("GPU")
    cpus = tf.config.list_logical_devices("CPU")
    if not devices and len(cpus) > 1:  # somebody has divided the processor on purpose
        devices = cpus
    if not devices:
        found = ", ".join(device.name for device in cpus) or "nothing"
        raise DeviceError(
            f"--strategy mirrored, and TensorFlow finds no GPU, only {found}",
            expected="a GPU at least",
            remedy="set TF_CPP_MIN_LOG_LEVEL=0 to see why, or train without --strategy",
        )
    return Team("mirrored", tf.distribute.MirroredStrategy([device.name for device in devices]))


@cache
def _multi_worker(say: Callable[[str], None]) -> Team:
    cluster = cluster_of()
    if cluster.number:
        await_first(cluster, _PATIENCE_S, say)
    elif len(cluster.workers) > 1:
        say(f"worker 0 waits for {' and '.join(cluster.workers[1:])}")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster.resolver)
    except RuntimeError as error:
        raise DeviceError(
            f"--strategy multi-worker cannot begin ({_short(error)})",
            expected="a process in which TensorFlow has not computed anything yet",
            remedy="train in a process of its own",
        ) from error
    except tf.errors.OpError as error:
        raise DeviceError(
            f"{len(cluster.workers)} workers did not come together ({_short(error)})",
            where=f"worker {cluster.number} ({cluster.workers[cluster.number]})",
            expected="all of TF_CONFIG, each by its own address, within some minutes",
            remedy="see what the others said, and start all again",
        ) from error
    return Team("multi-worker", strategy, cluster.workers, cluster.number)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
