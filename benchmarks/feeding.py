"""Does the data starve the step? Time to make a batch, and time to learn from one.

python -m benchmarks.feeding PREPARED [BATCHES]
"""

import sys
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

from vol3dseg.config import AugmentConfig, Config
from vol3dseg.preprocessing.index import load_index
from vol3dseg.training.augment import augment
from vol3dseg.training.compiled import compile_network
from vol3dseg.training.data import RunData, open_data
from vol3dseg.training.networks.building import build_network
from vol3dseg.training.sampling import Batch, CaseReader, PatchSampler, read_ahead, training_batches


def main(prepared: Path, batches: int) -> None:
    """Measure both with the prepared folder's own config and print them with their ratio."""
    config = load_index(prepared).config
    data, training = open_data(prepared, config), config.training
    if training.augment is None:
        raise SystemExit("the config has no augmentation; nothing to measure but reading")
    model = build_network(config)
    compile_network(model, config, list(data.training.values()))
    for cache_mb in (0, training.cache_mb):
        batch = _batch(config, data, cache_mb)
        list(islice(read_ahead(batch, count(), training.workers), batches))  # fills the cache
        made = _timed(lambda number, batch=batch: batch(number), batches)
        image, label = batch(0)
        model.train_on_batch(image, label)  # builds the graph
        step = _timed(lambda _, i=image, s=label: model.train_on_batch(i, s), max(2, batches // 5))
        sys.stdout.write(
            f"cache {cache_mb} MB: a batch of {training.batch_size} is made in {made:.3f} s by one "
            f"thread, a step takes {step:.3f} s, {step / made:.1f} times as long\n"
        )


def _batch(config: Config, data: RunData, cache_mb: int) -> Callable[[int], Batch]:
    training, cases = config.training, list(data.training.values())
    settings = training.augment or AugmentConfig()
    reader = CaseReader(cases, cache_mb)
    return training_batches(
        reader,
        PatchSampler(reader, config.recipe.patch_size, training.foreground, training.seed),
        training.batch_size,
        lambda image, label, rng: augment(image, label, settings, rng),
    )


def _timed(work: Callable[[int], object], times: int) -> float:
    started = time.perf_counter()
    for number in range(times):
        work(number)
    return (time.perf_counter() - started) / times


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
