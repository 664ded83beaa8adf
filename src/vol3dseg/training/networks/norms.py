"""Normalisation of features, by the names that a config has for it.

While training, a norm written as arithmetic takes more time than the convolution before it: each
step of it reads and writes the whole feature map. TensorFlow has one kernel for all of it, with
its gradient, in any precision; Keras uses it for images alone. Both layers here do so for volumes,
and are plain arithmetic at inference and with other backends.

That kernel adds up each thread's part of a channel in one float32 sum, so that statistics are off
by up to a hundredth where most of a million voxels are equal. Those of a batch are a sample anyway;
at inference none are taken so.
"""

from typing import Any

from vol3dseg.config import ModelConfig
from vol3dseg.training.backend import keras, tf
from vol3dseg.training.replicas import changes_variables, over_replicas, replicas

ops = keras.ops

EPSILON = 1e-5
SLOPE = 0.01  # of the rectifiers, where their input is negative
_QUICK = keras.backend.backend() == "tensorflow"
# Keras' default of 0.99 needs some 500 steps to forget its start; an epoch has a few dozen.
_MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="vol3dseg")
class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras' layer of this name, quicker while it is trained.

    Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", 2015. Statistics are in float32 whatever the policy, and of all samples of a
    batch, also where several devices share it.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise a (n, i, j, k, c) tensor, and learn the statistics of inference."""
        if not (_QUICK and training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        normalised = _fused if replicas() == 1 else _together
        result, mean, variance = normalised(inputs, self.gamma, self.beta, self.epsilon)
        if changes_variables():
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        return result


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

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Normalise a (n, i, j, k, c) tensor; statistics in float32 whatever the policy."""
        if _QUICK and training and inputs.shape[0] is not None:
            # A batch of one at a time; the number of samples is known while a step is traced.
            return tf.concat(
                [
                    _fused(sample, self.scale, self.shift, self.epsilon)[0]
                    for sample in tf.split(inputs, inputs.shape[0])
                ],
                axis=0,
            )
        values = ops.cast(inputs, "float32")
        centred = values - _mean(values)
        # Squares of differences, not the difference of squares, which cancels badly in float32.
        variance = _mean(ops.square(centred))
        normal = centred * ops.rsqrt(variance + self.epsilon)
        return ops.cast(normal * self.scale + self.shift, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model needs to make the layer again."""
        return {**super().get_config(), "epsilon": self.epsilon}


def _fused(inputs: Any, scale: Any, shift: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return the normalised inputs, and mean and variance of each channel over all samples."""
    shape, channels = tf.shape(inputs), inputs.shape[-1]
    # The kernel is for images: two of the three axes of a volume are one to it.
    flat = tf.reshape(inputs, (shape[0], shape[1], -1, channels))
    values = [tf.convert_to_tensor(value) for value in (scale, shift)]
    result, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        flat, *values, epsilon=epsilon, is_training=True
    )
    voxels = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
    # It gives the variance of a sample, divided by one less.
    return tf.reshape(result, shape), mean, variance * (voxels - 1.0) / voxels


def _together(inputs: Any, scale: Any, shift: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return what `_fused` does, of the samples of all devices together, each with as many.

    Statistics are taken of each device's samples and then put together, since a sum of squares over
    all would cancel badly in float32.
    """
    values = tf.cast(inputs, tf.float32)
    own = tf.reduce_mean(_mean(values), axis=0, keepdims=True)
    own_variance = tf.reduce_mean(_mean(tf.square(values - own)), axis=0, keepdims=True)
    mean = over_replicas(own) / replicas()
    variance = over_replicas(own_variance + tf.square(own - mean)) / replicas()
    result = (values - mean) * tf.math.rsqrt(variance + epsilon) * scale + shift
    return tf.cast(result, inputs.dtype), tf.reshape(mean, [-1]), tf.reshape(variance, [-1])


def _mean(values: Any) -> Any:
    """Return the (n, 1, 1, 1, c) mean of each channel, one axis after the other.

    TensorFlow adds up all axes at once in one float32 sum a channel, which is wrong by 1 % for a
    channel of 96 x 96 x 96 voxels most of which are equal, as outside the body: every addition then
    rounds the same way. The short sums along one axis are right to 1e-6.
    """
    for axis in (3, 2, 1):
        values = ops.mean(values, axis=axis, keepdims=True)
    return values


def make_norm(config: ModelConfig, name: str) -> Any:
    """Return the norm that follows a convolution."""
    if config.norm == "batch":
        return BatchNormalization(momentum=_MOMENTUM, epsilon=EPSILON, name=name)
    return InstanceNormalization(name=name)
