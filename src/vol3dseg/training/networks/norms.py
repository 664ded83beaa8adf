"""Normalisation layers, by the names that a config has for them."""

from typing import Any

from vol3dseg.config import ModelConfig
from vol3dseg.training.backend import keras

EPSILON = 1e-5
# Keras' default of 0.99 needs some 500 steps to forget its start; an epoch has a few dozen.
_MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="vol3dseg")
class InstanceNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Give every channel of every sample mean 0 and variance 1, then scale and shift it.

    Ulyanov et al., "Instance normalization: the missing ingredient for fast stylization", 2016.
    ``keras.layers.GroupNormalization(groups=-1)`` computes the same by way of reshapes, which make
    some twenty nodes and two transposes of each layer in ONNX. `epsilon` is added to the variance;
    a constant channel comes out as its shift.
    """

    def __init__(self, epsilon: float = EPSILON, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make scale and shift, one number for each channel."""
        shape = (input_shape[-1],)
        self.scale = self.add_weight(
            shape=shape, initializer="ones", name="scale", dtype="float32", autocast=False
        )
        self.shift = self.add_weight(
            shape=shape, initializer="zeros", name="shift", dtype="float32", autocast=False
        )

    def call(self, inputs: Any) -> Any:
        """Normalise a (n, i, j, k, c) tensor; statistics in float32 whatever the policy."""
        values = keras.ops.cast(inputs, "float32")
        centred = values - _mean(values)
        # Squares of differences, not the difference of squares, which cancels badly in float32.
        variance = _mean(keras.ops.square(centred))
        normal = centred * keras.ops.rsqrt(variance + self.epsilon)
        return keras.ops.cast(normal * self.scale + self.shift, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model needs to make the layer again."""
        return {**super().get_config(), "epsilon": self.epsilon}


def _mean(values: Any) -> Any:
    """Return the (n, 1, 1, 1, c) mean of each channel, one axis after the other.

    TensorFlow adds up all axes at once in one float32 sum a channel, which is wrong by 1 % for a
    channel of 96 x 96 x 96 voxels most of which are equal, as outside the body: every addition then
    rounds the same way. The short sums along one axis are right to 1e-6.
    """
    for axis in (3, 2, 1):
        values = keras.ops.mean(values, axis=axis, keepdims=True)
    return values


def make_norm(config: ModelConfig, name: str) -> Any:
    """Return the norm that follows a convolution."""
    if config.norm == "batch":
        return keras.layers.BatchNormalization(momentum=_MOMENTUM, epsilon=EPSILON, name=name)
    return InstanceNormalization(name=name)
