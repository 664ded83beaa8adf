"""The end of a training whose loss is no number any more."""

from collections.abc import Callable, Sequence

from vol3dseg.errors import RunError
from vol3dseg.training.backend import keras
from vol3dseg.training.sampling import Draw


class StopOnNaN(keras.callbacks.TerminateOnNaN):  # type: ignore[misc]
    """Raise `RunError` at the first loss that is not finite, before anything is saved.

    `batch_of` gives in words what was in a micro-batch, by its number in the whole run; `steps` of
    them make an epoch, and `micro_batches` of them one change of the weights.
    """

    def __init__(self, batch_of: Callable[[int], str], steps: int, micro_batches: int = 1) -> None:
        super().__init__(raise_error=True)
        self._batch_of = batch_of
        self._steps = steps
        self._micro_batches = micro_batches
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the number of the epoch."""
        self._epoch = epoch

    def on_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss of a batch."""
        try:
            super().on_batch_end(batch, logs)
        except RuntimeError as error:
            step, within = divmod(batch, self._micro_batches)
            last = self._epoch * self._steps + batch
            seen = ", ".join(self._batch_of(n) for n in range(last - within, last + 1))
            raise RunError(
                f"the loss is {(logs or {}).get('loss')} at step {step + 1} of epoch "
                f"{self._epoch + 1}, on patches of {seen}",
                expected="a finite number",
                remedy="look at these cases with vol3dseg check and inspect, or train in another "
                "folder with a lower training.learning_rate, or with training.clip_norm",
            ) from error


def describe_batch(
    draws: Callable[[int], Sequence[Draw]], names: Sequence[str]
) -> Callable[[int], str]:
    """Return the function from the number of a batch to its cases, with the boxes of its patches.

    `draws` gives the patches of a batch by its number, `names` are those of their cases.
    """
    return lambda number: ", ".join(f"{names[draw.case]} ({draw.box})" for draw in draws(number))
