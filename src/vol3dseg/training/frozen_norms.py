"""Norms whose statistics rest while the weights still learn, in the last part of a training."""

from typing import Any

from vol3dseg.training.backend import keras


class FrozenNorms(keras.callbacks.Callback):  # type: ignore[misc]
    """Let norms use their moving statistics in the last `share` of all epochs, and not move them.

    A layer with an attribute `frozen` is told by it, and its scale and shift may go on learning.
    Keras' batch norm is told by `trainable`, which stops those as well. Both hold while steps are
    made; a model that is saved after them is as it was built.
    """

    def __init__(self, share: float, epochs: int) -> None:
        super().__init__()
        self._first = epochs - round(share * epochs)
        self._traced = False

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Look for the layers; one that does not learn from the start stays as it is."""
        self._norms = [layer for layer in norms_of(self.model) if layer.trainable]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Freeze the norms in the epochs that are meant, in a resumed run too."""
        frozen = epoch >= self._first
        self._freeze(frozen)
        if frozen != self._traced:  # the traced function has what was before
            self.model.make_train_function(force=True)
            self._traced = frozen

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Let the model be as it was built."""
        self._freeze(False)

    def _freeze(self, frozen: bool) -> None:
        for layer in self._norms:
            if hasattr(layer, "frozen"):
                layer.frozen = frozen
            else:
                layer.trainable = not frozen


def norms_of(model: Any) -> list[Any]:
    """Return the layers whose statistics can rest, of nested models too."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if hasattr(layer, "frozen") or isinstance(layer, keras.layers.BatchNormalization)
    ]
