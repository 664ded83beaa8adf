"""Our training step, as `train` makes it, on one batch and on the batches of `train`."""

import time
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.contestants.protocol import Call, serve
from benchmarks.contestants.steps import SIDE, best_gflops
from vol3dseg.config import load_config
from vol3dseg.planning.network_size import flops_per_patch
from vol3dseg.training.backend import keras, tf
from vol3dseg.training.compiled import compile_network, steps_per_epoch
from vol3dseg.training.data import open_data
from vol3dseg.training.feed import TrainingFeed, dataset
from vol3dseg.training.networks.building import build_network
from vol3dseg.training.precision import choose_precision, precision_policy

_PACKAGES = ("tensorflow", "keras", "numpy")
_WARM = 2  # steps of each part of a round that are not counted: threads that read ahead begin


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Build the network and read all cases once.

    Parameters
    ----------
    settings : dict
        config : path; prepared : folder that was made with it; precision : as in a config; threads;
        steps : of each part of a round.
    """
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    precision = choose_precision(settings["precision"]).precision
    config = load_config(settings["config"]).chosen(precision=precision)
    cases = list(open_data(Path(settings["prepared"]), config).training.values())
    with precision_policy(precision):
        model = build_network(config)
    compile_network(model, config, cases)
    epoch, steps = steps_per_epoch(cases, config), settings["steps"]
    feed = TrainingFeed(config, cases, epoch)
    for number in range(epoch):
        feed.batch(number)
    one = tf.data.Dataset.from_tensors(feed.batch(0)).repeat()
    fed = dataset(feed.batch, count(), config)

    def run() -> dict[str, Any]:
        return {
            "step_s": _step_s(model, one, steps),
            "fed_s": _step_s(model, fed, steps),
            "gflop": flops_per_patch(config) / 1e9,
            "gflops": _gflops(),
            "precision": precision,
        }

    return {"run": run}


def _step_s(model: Any, batches: Any, steps: int) -> float:
    """Return what a step of `fit` takes, the mean of several [s]."""
    ended: list[float] = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ended.append(time.perf_counter())
    )
    model.fit(
        batches, steps_per_epoch=_WARM + steps, callbacks=[callback], shuffle=False, verbose=0
    )
    return (ended[-1] - ended[_WARM - 1]) / steps


def _gflops() -> dict[str, float]:
    found = {}
    for name in ("float32", "bfloat16"):
        matrix = tf.cast(tf.random.uniform((SIDE, SIDE)), name)
        found[name] = best_gflops(lambda m=matrix: tf.linalg.matmul(m, m).numpy())
    return found


if __name__ == "__main__":
    serve(make, _PACKAGES)
