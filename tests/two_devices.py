"""Run in a process of its own: losses, batch norm and metrics of two devices against one.

Each device gets half of a batch in which they differ by all that may matter: classes that one half
lacks, voxels that are ignored or not known, values far from 0.
"""

import sys

import numpy as np
import tensorflow as tf

(_cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(_cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from vol3dseg.space.labels import IGNORED  # noqa: E402 - after there are two devices
from vol3dseg.training.losses import LOSSES  # noqa: E402
from vol3dseg.training.metrics import ConfusionMetrics  # noqa: E402
from vol3dseg.training.networks import norms  # noqa: E402
from vol3dseg.training.region_losses import REGION_LOSSES  # noqa: E402
from vol3dseg.training.replicas import over_replicas, replica_here, replicas  # noqa: E402
from vol3dseg.training.team import team_of  # noqa: E402
from vol3dseg.training.watching import quiet  # noqa: E402

RNG = np.random.default_rng(0)
PARTIAL = ((2,),)
LABELS = RNG.integers(0, 3, (4, 6, 5, 4)).astype(np.uint8)
LABELS[:2][LABELS[:2] == 1] = 0  # the first device sees no class 1
LABELS[0, :5] = IGNORED
LABELS[3, :3] = IGNORED - 1  # where nobody has looked for class 2


def on_two(compute, *arrays):
    """Return what both devices compute of halves, where they must agree; (sums, parts)."""
    strategy = team_of("mirrored", quiet).strategy

    @tf.function
    def run():
        halves = [np.split(array, 2) for array in arrays]
        return strategy.run(lambda: compute(*(tf.constant(h[replica_here()]) for h in halves)))

    return tf.nest.map_structure(
        lambda v: [p.numpy() for p in strategy.experimental_local_results(v)], run()
    )


def close(found, expected, what):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6, err_msg=what)


def check_loss(name, loss, *more):
    logits = (3 * RNG.normal(size=(*LABELS.shape, 3))).astype(np.float32)

    def graded(labels, part):
        with tf.GradientTape() as tape:
            tape.watch(part)
            value = loss(tf.cast(labels, tf.int32), part, *more)
            scaled = value / replicas()
        return value, tape.gradient(scaled, part)

    value, gradient = (t.numpy() for t in graded(tf.constant(LABELS), tf.constant(logits)))
    values, gradients = on_two(graded, LABELS, logits)
    close(values, [value, value], name)
    close(np.concatenate(gradients), gradient, name)


def check_batch_norm():
    images = (50 + RNG.normal(size=(4, 6, 5, 4, 3))).astype(np.float32)
    images[:2] += 7
    up = RNG.normal(size=images.shape).astype(np.float32)
    one, two = (norms.BatchNormalization(momentum=0.9, epsilon=1e-5) for _ in range(2))
    for layer in (one, two):
        layer.build(images.shape)

    def graded(layer):
        def compute(part, upper):
            with tf.GradientTape() as tape:
                tape.watch(part)
                result = layer(part, training=True)
                total = tf.reduce_sum(result * upper)
            by_part, by_scale = tape.gradient(total, [part, layer.gamma.value])
            return result, by_part, over_replicas(by_scale)

        return compute

    expected = graded(one)(tf.constant(images), tf.constant(up))
    result, by_part, by_scale = on_two(graded(two), images, up)
    np.testing.assert_allclose(np.concatenate(result), expected[0], atol=1e-3)
    np.testing.assert_allclose(np.concatenate(by_part), expected[1], atol=1e-3)
    np.testing.assert_allclose(by_scale[1], expected[2], rtol=1e-3)
    assert replicas() == 1
    for moving in ("moving_mean", "moving_variance"):
        found, wanted = (getattr(layer, moving).numpy() for layer in (two, one))
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def check_metrics():
    one, two = ConfusionMetrics(["a", "b", "c"]), ConfusionMetrics(["a", "b", "c"])
    logits = RNG.normal(size=(*LABELS.shape, 3)).astype(np.float32)
    one.update_state(tf.constant(LABELS), tf.constant(logits))

    def count(labels, part):
        two.update_state(labels, part)
        return tf.constant(0)

    on_two(count, LABELS, logits)
    np.testing.assert_array_equal(two.matrix.numpy(), one.matrix.numpy())
    assert two.matrix.numpy().sum() == np.count_nonzero(LABELS < 3)


if __name__ == "__main__":
    check_loss("the default", LOSSES["dice_cross_entropy"])
    for name, loss in LOSSES.items():
        check_loss(name, loss, [1.0, 2.0, 0.5], PARTIAL)
    for name, loss in REGION_LOSSES.items():
        check_loss(f"{name} of regions", loss, [[1, 2], [2], [0]], [1.0, 2.0, 0.5], PARTIAL)
    check_batch_norm()
    check_metrics()
    sys.stdout.write("equal\n")
