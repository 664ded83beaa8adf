"""What training loops share: a batch, steps that are timed, matrices beside them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 4096
_TIMES = 3


def noise(settings: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a batch: (n, i, j, k, c) images and (n, i, j, k) classes; no step depends on values.

    Parameters
    ----------
    settings : dict
        shape : of the images; classes : how many.
    """
    rng, shape = np.random.default_rng(0), settings["shape"]
    labels = rng.integers(0, settings["classes"], shape[:-1])
    return rng.standard_normal(shape, dtype=np.float32), labels


def seconds_of(step: Callable[[], object], steps: int) -> float:
    """Return what a step takes, the mean of several after one that is not counted [s]."""
    step()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps


def best_gflops(multiply: Callable[[], object]) -> float:
    """Return how fast two square matrices are multiplied [GFLOP/s], the best of a few."""
    multiply()
    return max(2 * SIDE**3 / seconds_of_one(multiply) / 1e9 for _ in range(_TIMES))


def seconds_of_one(work: Callable[[], object]) -> float:
    """Return how long one call takes [s]."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
