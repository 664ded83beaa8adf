"""Does the data starve the step? Time to make a batch, part by part, and time to learn from one.

python -m benchmarks.feeding PREPARED [BATCHES]
"""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

from vol3dseg.config import AugmentConfig, Config
from vol3dseg.preprocessing.index import load_index
from vol3dseg.training.compiled import compile_network, steps_per_epoch
from vol3dseg.training.data import RunData, open_data
from vol3dseg.training.feed import TrainingFeed
from vol3dseg.training.networks.building import build_network
from vol3dseg.training.sampling import Batch, read_ahead

PARTS = (
    "rotation", "scaling", "elastic", "blur", "low_resolution", "noise", "brightness", "shift",
    "contrast", "gamma", "inverted_gamma",
)  # fmt: skip


def main(prepared: Path, batches: int) -> None:
    """Measure all with the prepared folder's own config."""
    config = load_index(prepared).config
    data, training = open_data(prepared, config), config.training
    _say_parts(config, data, batches)
    model = build_network(config)
    compile_network(model, config, list(data.training.values()))
    for cache_mb in (0, training.cache_mb):
        batch = _batches(_with(config, cache_mb=cache_mb), data)
        list(islice(read_ahead(batch, count(), training.workers), batches))  # fills the cache
        made = _elapsed(batch, batches)
        image, label = batch(0)
        model.train_on_batch(image, label)  # builds the graph
        step = _elapsed(
            lambda _, i=image, s=label: model.train_on_batch(i, s), max(2, batches // 5)
        )
        sys.stdout.write(
            f"cache {cache_mb} MB: a batch of {training.batch_size} is made in {made:.3f} s by one "
            f"thread, a step takes {step:.3f} s, {step / made:.1f} times as long\n"
        )


def _say_parts(config: Config, data: RunData, batches: int) -> None:
    """Say what the augmentation costs: that of the config, and each part on every patch."""
    patches = batches * config.training.batch_size
    alone = _processor_ms(_with(config, augment=None), data, batches) / config.training.batch_size
    sys.stdout.write(f"processor time for a patch, mean of {patches}, cases in memory:\n")
    sys.stdout.write(f"{'read alone':>16} {alone:8.1f} ms\n")
    for name, settings in _settings(config):
        spent = _processor_ms(_with(config, augment=settings), data, batches)
        more = spent / config.training.batch_size - alone
        sys.stdout.write(f"{name:>16} {more:+8.1f} ms\n")


def _settings(config: Config) -> Iterator[tuple[str, AugmentConfig]]:
    own = config.training.augment or AugmentConfig()
    yield "as in the config", own
    off = own.model_copy(update=dict.fromkeys(PARTS, 0.0) | {"flip_axes": ()})
    for part in PARTS:
        yield part, off.model_copy(update={part: 1.0})


def _with(config: Config, **training: object) -> Config:
    changed = config.training.model_copy(update=training)
    return config.model_copy(update={"training": changed})


def _batches(config: Config, data: RunData) -> Callable[[int], Batch]:
    cases = list(data.training.values())
    return TrainingFeed(config, cases, steps_per_epoch(cases, config)).batch


def _processor_ms(config: Config, data: RunData, batches: int) -> float:
    """Return the processor time of a batch [ms], on all threads, of cases that are in memory."""
    batch = _batches(config, data)
    for number in range(batches):
        batch(number)
    started = time.process_time()
    for number in range(batches):
        batch(number)
    return 1000 * (time.process_time() - started) / batches


def _elapsed(work: Callable[[int], object], times: int) -> float:
    started = time.perf_counter()
    for number in range(times):
        work(number)
    return (time.perf_counter() - started) / times


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
