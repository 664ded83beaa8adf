"""Which part of a batch goes through the network at once, so that a training fits into memory."""

from collections.abc import Iterable
from dataclasses import dataclass

from vol3dseg.config import Config
from vol3dseg.planning.memory_model import MB, USABLE, estimate_memory
from vol3dseg.planning.memory_model import MemoryEstimate as MemoryEstimate
from vol3dseg.planning.network_size import NetworkSize as NetworkSize
from vol3dseg.preprocessing.store import StoredCase


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """How a batch goes through the network: `size` patches at once, a divisor of the batch.

    `free_mb` is what the process could take beside what it has [MB]; None where that is not known.
    """

    size: int
    estimate: MemoryEstimate
    free_mb: float | None

    @property
    def fits(self) -> bool:
        """Whether the estimate lies below what is free, with a margin; True if nothing is known."""
        if self.free_mb is None:
            return True
        return self.estimate.total_mb - self.estimate.start_mb <= USABLE * self.free_mb


def choose_micro_batch(
    config: Config,
    network: NetworkSize,
    training: Iterable[StoredCase],
    validation: Iterable[StoredCase],
    start_mb: float,
    free_mb: float | None,
    devices: int = 1,
    memories: int = 1,
) -> MicroBatch:
    """Return the micro-batch of the config, or the largest that fits where it leaves that open.

    A patch for each of the `devices` where not even that fits. `start_mb` is what the process has
    now, `free_mb` what it could take beside that [MB]; a micro-batch lies in so many `memories`.
    """
    batch, given = config.training.batch_size, config.training.micro_batch
    shared = [n for n in range(batch, 0, -1) if batch % n == 0 and n % devices == 0]
    sizes = [given] if given else shared
    parts = [sum(case.memory_bytes for case in part) / MB for part in (training, validation)]

    def estimate(size: int) -> MemoryEstimate:
        return estimate_memory(config, network, size // memories, parts[0], parts[1], start_mb)

    choices = [MicroBatch(size, estimate(size), free_mb) for size in sizes]
    return next((choice for choice in choices if choice.fits), choices[-1])


def describe_micro_batch(config: Config, network: NetworkSize, chosen: MicroBatch) -> list[str]:
    """Return in words what a training will take, and what is computed over which patches."""
    free = "" if chosen.free_mb is None else f"; {chosen.free_mb / 1024:.1f} GB are free"
    lines = [f"memory at its peak: {chosen.estimate}{free}"]
    if not chosen.fits:
        lines.append(
            "warning: that may be more than there is; use a smaller training.micro_batch, "
            "training.cache_mb, model.width or recipe.patch_size"
        )
    batch = config.training.batch_size
    if chosen.size < batch:
        lines.append(
            f"a batch of {batch} goes through the network as {batch // chosen.size} micro-batches "
            f"of {chosen.size}, whose gradients are averaged; {_seen(config, network, chosen.size)}"
        )
    return lines


def _seen(config: Config, network: NetworkSize, size: int) -> str:
    norm = (
        f"batch norm takes its statistics from {size} patches, not from the whole batch"
        if network.batch_norm
        else "each patch is normalised by itself, as it would be in a whole batch"
    )
    pooled = "dice" in config.training.loss
    return norm + f"; the loss pools Dice over {size} patches" * pooled
