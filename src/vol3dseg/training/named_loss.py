"""The loss of a config as Keras saves and calls it."""

from typing import Any

from vol3dseg.config import Config
from vol3dseg.training.backend import keras
from vol3dseg.training.losses import LOSSES, Weights
from vol3dseg.training.partial_labels import Partial
from vol3dseg.training.region_losses import REGION_LOSSES, Members


@keras.saving.register_keras_serializable(package="vol3dseg")
class NamedLoss(keras.losses.Loss):  # type: ignore[misc]
    """The loss that a config names, of class indices and logits.

    `weights` are those of the outputs; `regions` the class indices of each region, where the
    outputs are of regions; `partial` those of the classes that nobody has looked for in some cases.
    """

    def __init__(
        self,
        name: str,
        weights: Weights = None,
        regions: Members | None = None,
        partial: Partial = (),
        **options: Any,
    ) -> None:
        super().__init__(name=name, **options)
        self.weights = weights
        self.regions = regions
        self.partial = partial

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of a batch, a scalar tensor."""
        # Keras casts class indices to float32, which keeps them exact.
        labels = keras.ops.cast(y_true, "int32")
        if self.regions is None:
            return LOSSES[self.name](labels, y_pred, self.weights, self.partial)
        return REGION_LOSSES[self.name](labels, y_pred, self.regions, self.weights, self.partial)

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model needs to make the loss again."""
        own = {"weights": self.weights, "regions": self.regions, "partial": self.partial}
        return {**super().get_config(), **own}


def loss_of(config: Config, partial: Partial = ()) -> NamedLoss:
    """Return the loss that a config describes."""
    training, labels = config.training, config.labels
    weights: Weights = [training.class_weights.get(name, 1.0) for name in config.targets]
    regions = None
    if training.targets == "regions":
        regions = [labels.indices(labels.regions[name]) for name in config.targets]
    weights = weights if training.class_weights else None
    return NamedLoss(training.loss, weights, regions, partial)
