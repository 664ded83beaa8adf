"""The time of training steps, measured in a process of its own for `vol3dseg.planning`.

Reads a config as JSON from each line of stdin, and answers with a line of JSON: the median time of
its steps on noise, what went before the first, and memory.
"""

import json
import os
import statistics
import sys
import time
from typing import Any, TextIO

import numpy as np

from vol3dseg.config import Config
from vol3dseg.machine import resident_mb

_STEPS = 4  # that are timed, after one that is not
_LONG_S = 8.0  # a first step that took longer is not repeated as often


def main() -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as answers:
        sys.stdout = sys.stderr  # what libraries print is no answer
        _answer(answers)


def _answer(answers: TextIO) -> None:
    started = time.perf_counter()
    from vol3dseg.training.backend import tf
    from vol3dseg.training.precision import choose_precision

    start_s = time.perf_counter() - started
    program_mb = resident_mb()
    device = "the GPU" if tf.config.list_physical_devices("GPU") else "the CPU"
    auto = ""  # is chosen once
    for line in sys.stdin:
        config = Config.model_validate_json(line)
        if config.training.precision == "auto":
            auto = auto or choose_precision("auto").precision
            config = config.chosen(precision=auto)
        first_s, step_s = measure_steps(config)
        answer = {
            "step_s": step_s, "first_s": first_s, "start_s": start_s,
            "program_mb": program_mb, "device": device,
            "precision": config.training.precision,
        }  # fmt: skip
        answers.write(json.dumps(answer) + "\n")


def measure_steps(config: Config) -> tuple[float, float]:
    """Return the time until the first step has ended, building included, and that of others [s].

    The config names a precision.
    """
    from vol3dseg.training.backend import keras, tf
    from vol3dseg.training.compiled import compile_network
    from vol3dseg.training.feed import untuned
    from vol3dseg.training.networks.building import build_network
    from vol3dseg.training.precision import precision_policy

    started = time.perf_counter()
    keras.utils.set_random_seed(0)
    with precision_policy(config.training.precision):
        model = build_network(config)
    compile_network(model, config, [])
    batch = untuned(tf.data.Dataset.from_tensors(_noise(config)).repeat())
    times = _StepTimes()
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_begin=times.begin, on_train_batch_end=times.end
    )
    model.fit(batch, steps_per_epoch=1, shuffle=False, verbose=0)
    first_s = time.perf_counter() - started
    steps = 1 if first_s > 2 * _LONG_S else _STEPS
    model.fit(batch, steps_per_epoch=steps, callbacks=[callback], shuffle=False, verbose=0)
    return first_s, statistics.median(times.seconds)


class _StepTimes:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def begin(self, batch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def end(self, batch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def _noise(config: Config) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    shape = (config.training.batch_size, *config.recipe.patch_size)
    image = rng.standard_normal((*shape, len(config.model_recipe.modalities)), dtype=np.float32)
    return image, rng.integers(0, len(config.labels.classes), shape, dtype=np.uint8)


if __name__ == "__main__":
    main()
