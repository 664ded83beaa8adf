"""In which precision a network is trained: what the device is quickest in, measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from vol3dseg.training.backend import keras, tf

Precision = Literal["float32", "bfloat16", "float16"]

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# A convolution of the size that most of a training is spent on: 64 filters over 2 x 24^3 voxels.
_PROBE = (2, 24, 24, 24, 64)
_ROUNDS = 5
# bfloat16 is not taken for less: its numbers have three digits.
_WORTH = 1.1


@dataclass(frozen=True, slots=True)
class Chosen:
    """The precision of a training, and why it was chosen, in words."""

    precision: Precision
    why: str = ""


def choose_precision(asked: str, ours: bool = True) -> Chosen:
    """Return the precision that is asked for; of "auto" the quicker of float32 and bfloat16.

    Neither needs a scale for its loss. float16, which does, is taken only where it is asked for.
    Of a network that is not ours nobody knows which layers TensorFlow gets wrong in bfloat16 (see
    `networks.building`), so "auto" is float32 there.
    """
    if asked == "auto" and not ours:
        return Chosen("float32")
    if asked != "auto":
        return Chosen(asked)  # type: ignore[arg-type]  # the config has checked it
    single, half = _seconds_of_steps()
    times = f"a convolution and its gradient take {half / single:.2f} times as long as in float32"
    if single < _WORTH * half:
        return Chosen("float32", f"precision: float32, since in bfloat16 {times}")
    return Chosen("bfloat16", f"precision: bfloat16, in which {times}")


@contextmanager
def precision_policy(precision: str) -> Iterator[None]:
    """Let layers that are made meanwhile compute in a precision; weights stay in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(model: Any) -> Any:
    """Return a network of the same weights that computes in float32, as a deployed one does.

    The model itself where it does so already.
    """
    if all(layer.compute_dtype in {"float32", None} for layer in model._flatten_layers()):
        return model

    def plain(layer: Any) -> Any:
        config = layer.get_config()
        config["dtype"] = "float32"
        return type(layer).from_config(config)

    # Without optimizer and loss, which a clone would have made again.
    bare = keras.Model(model.input, model.output, name=model.name)
    twin = keras.models.clone_model(bare, clone_function=plain)
    twin.set_weights(model.get_weights())
    return twin


@cache
def _seconds_of_steps() -> tuple[float, float]:
    """Return how long a convolution and its gradient take in float32 and in bfloat16, at best [s].

    In turn, so that what else the machine does bears on both; once in a process.
    """
    runs = [_probe(dtype) for dtype in (tf.float32, tf.bfloat16)]
    for run in runs:
        run()  # traced, and its kernels chosen
    times = [[_timed(run) for run in runs] for _ in range(_ROUNDS)]
    single, half = (min(column) for column in zip(*times, strict=True))
    return single, half


def _probe(dtype: Any) -> Any:
    filters = _PROBE[-1]
    image = tf.ones(_PROBE, dtype)
    kernel = tf.ones((3, 3, 3, filters, filters), dtype)

    @tf.function  # type: ignore[untyped-decorator]
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            result = tf.nn.conv3d(image, kernel, (1, 1, 1, 1, 1), "SAME")
            loss = tf.reduce_sum(result)
        return [tf.reduce_sum(part) for part in tape.gradient(loss, [image, kernel])]

    return lambda: [part.numpy() for part in step()]


def _timed(run: Any) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
