"""Losses at coarser levels of the decoder as well, while a network is trained.

Dou et al., "3D deeply supervised network", 2017; levels and weights as in nnU-Net.
"""

from typing import Any

from vol3dseg.planning.network_size import supervised_levels as supervised_levels
from vol3dseg.training.backend import keras

ops = keras.ops


@keras.saving.register_keras_serializable(package="vol3dseg")
class DeeplySupervised(keras.Model):  # type: ignore[misc]
    """A network with outputs for coarser levels, which only its loss knows of.

    The first output is the network's own, and the only one outside of training steps; then come
    those of level 1, 2 and so on, each on the grid of its level. Metrics and the loss of validation
    are of the first.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the logits of all levels while training, else those of the full grid."""
        outputs = super().call(inputs, training=training, mask=mask)
        return outputs if training else outputs[0]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss, while training the mean over levels, each with half the weight."""
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        coarse = (coarse_labels(y, ops.shape(logits)) for logits in y_pred[1:])
        loss = super().compute_loss
        losses = [
            loss(x, labels, logits, sample_weight, training)
            for labels, logits in zip((y, *coarse), y_pred, strict=True)
        ]
        weights = level_weights(len(losses))
        return sum(weight * each for weight, each in zip(weights, losses, strict=True))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics of the full grid."""
        own = y_pred[0] if isinstance(y_pred, list) else y_pred
        return super().compute_metrics(x, y, own, sample_weight)


def level_weights(levels: int) -> list[float]:
    """Return what the loss of each level counts: half as much as that above it; their sum is 1."""
    weights = [0.5**level for level in range(levels)]
    return [weight / sum(weights) for weight in weights]


def coarse_labels(labels: Any, shape: Any) -> Any:
    """Return (n, i, j, k) class indices on a coarser grid, (n, i, j, k, c) of which is `shape`.

    Each coarse voxel has the class of the voxel at its middle, of two the later one. Shares of
    classes would keep what is thinner than a voxel, but every loss would need another form for
    them, and so would voxels that are ignored; the mean over many patches is the same.
    """
    for axis in (1, 2, 3):
        # Not as slices: TensorFlow forgets the rank of what is taken in steps that it must count.
        step = ops.shape(labels)[axis] // shape[axis]
        labels = ops.take(labels, ops.arange(shape[axis]) * step + step // 2, axis=axis)
    return labels


def without_supervision(model: Any) -> Any:
    """Return the network that is deployed: of the full grid alone. It shares all weights."""
    if not isinstance(model, DeeplySupervised):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
