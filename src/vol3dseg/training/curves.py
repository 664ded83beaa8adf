"""The learning curves as a picture that grows while the training runs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vol3dseg.errors import OutputError
from vol3dseg.reporting.figures import save_curves
from vol3dseg.training.backend import keras

# A picture takes a third of a second: at most a fiftieth of the training goes into pictures.
_PAUSE = 50


class CurvesEachEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Draw curves.png from training.log after each epoch, unless epochs are too short for that.

    The log must have been written before. Where the picture cannot be written, `say` is told once:
    that is no reason to end a training.
    """

    def __init__(
        self,
        run: Path,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._run = run
        self._say = say
        self._clock = clock
        self._next: float | None = clock()  # None where it is given up

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draw."""
        begun = self._clock()
        if self._next is None or begun < self._next:
            return
        try:
            save_curves(self._run / "curves.png", self._run / "training.log")
        except OutputError as error:
            self._say(f"note: {error}")
            self._next = None
            return
        ended = self._clock()
        self._next = ended + _PAUSE * (ended - begun)
