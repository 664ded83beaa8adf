"""A training's epochs for TensorBoard, in the folder `tensorboard` of its run. Needs [tensorboard].

Nothing here needs TensorFlow before a training begins.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from vol3dseg.config import Config
from vol3dseg.extras import load_extra


def tensorboard_log(run: Path, config: Config, resumed: bool) -> AbstractContextManager[Any]:
    """Return what logs a training for TensorBoard while its block runs; it gives a Keras callback.

    A resumed training adds files to the same folder, which TensorBoard shows as one line. Each
    epoch is in them when the next begins, so a killed process loses none. MissingExtraError:
    TensorBoard is not installed.
    """
    load_tensorboard()
    return _logging(run / "tensorboard")


def load_tensorboard() -> None:
    """Raise MissingExtraError where TensorFlow would say, after an epoch, that there is none."""
    load_extra("tensorboard.summary.v2", "tensorboard")


@contextmanager
def _logging(folder: Path) -> Iterator[Any]:
    from vol3dseg.training.backend import keras

    callback = keras.callbacks.TensorBoard(folder, write_graph=False)
    try:
        yield callback
    except BaseException:
        callback.on_train_end()  # which Keras leaves out
        raise
