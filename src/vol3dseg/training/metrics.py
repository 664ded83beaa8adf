"""What the log says of each epoch, all of it from one confusion matrix.

With TP, FP, FN and TN of a class against the rest, pooled over all voxels of the epoch:

====================  =====================================================================
accuracy              voxels with the right class / all voxels, background included
mean_iou              mean over all classes, background included, of TP / (TP + FP + FN)
iou                   mean over foreground classes of TP / (TP + FP + FN)
precision             mean over foreground classes of TP / (TP + FP)
sensitivity           mean over foreground classes of TP / (TP + FN)
specificity           mean over foreground classes of TN / (TN + FP)
dice                  mean over foreground classes of 2 TP / (2 TP + FP + FN)
dice_<class>          2 TP / (2 TP + FP + FN) of a foreground class
dice_<region>         the same of a region, where the network's outputs are of regions
====================  =====================================================================

Outputs of regions are first made classes of, as a deployed model does: a region then holds the
voxels of its classes, whichever output they come from.

A ratio with a denominator of 0 is undefined: NaN where it stands alone, left out of a mean, and a
mean of nothing is NaN. So a class that is neither in the references nor predicted has a Dice of NaN
and does not bear on `dice`, where 1 would flatter and 0 would punish. A class that is never
predicted is left out of `precision` alone.

Training values come from augmented patches and from weights that change along the epoch; both they
and the `val_` values count voxels of patches, not of whole volumes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vol3dseg.config import Config
from vol3dseg.evaluation.overlap import DICE, IOU, METRICS, Counts
from vol3dseg.model.outputs import Sigmoid
from vol3dseg.training.backend import keras, tf
from vol3dseg.training.partial_labels import Partial, judged_as
from vol3dseg.training.replicas import changes_variables, over_replicas


@keras.saving.register_keras_serializable(package="vol3dseg")
class ConfusionMetrics(keras.metrics.Metric):  # type: ignore[misc]
    """Counts which class was taken for which, and rates it as the module says.

    Its result has all names of the table; Keras puts each into the logs, and with the prefix `val_`
    those of the validation patches. `class_names` are in the order of outputs, background first.
    Where outputs are of regions, `regions` are their names with the class indices in them, and
    `paints` the class index that each output paints, in their order. `partial` are the class
    indices that nobody has looked for in some cases (`partial_labels`): background there that is
    taken for one of them is not counted.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        regions: Mapping[str, Sequence[int]] | None = None,
        paints: Sequence[int] | None = None,
        partial: Partial = (),
        name: str = "confusion",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        # Tuples, since Keras wraps lists and mappings that are set as attributes.
        self.class_names = tuple(class_names)
        self.regions = tuple((region, tuple(of)) for region, of in (regions or {}).items())
        self.paints = None if paints is None else tuple(paints)
        self.partial = tuple(tuple(each) for each in partial)
        size = len(self.class_names)
        # Counts of voxels soon pass 2**24, where float32 loses ones.
        self.matrix = self.add_variable((size, size), "zeros", dtype="int64", name="matrix")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count (n, i, j, k) class indices against (n, i, j, k, class) logits, each voxel once.

        Those that are ignored are not counted: their index is above that of any class, and so are
        their pairs.
        """
        size = len(self.class_names)
        predicted, truth = self._decided(y_pred), tf.cast(y_true, tf.int32)
        if self.partial:
            table = tf.constant(judged_as(size, self.partial).ravel())
            truth = tf.gather(table, truth * size + predicted)
        pairs = tf.reshape(truth * size + predicted, [-1])
        # As quick as argmax alone; tf.math.confusion_matrix takes four times as long.
        counts = tf.math.bincount(pairs, minlength=size**2, maxlength=size**2, dtype=tf.int64)
        counts = over_replicas(counts)
        if changes_variables():
            self.matrix.assign_add(tf.reshape(counts, (size, size)))

    def _decided(self, logits: Any) -> Any:
        """Return class indices: the most probable class, or what the last region paints."""
        if self.paints is None:
            return tf.argmax(logits, axis=-1, output_type=tf.int32)
        found = tf.zeros(tf.shape(logits)[:-1], tf.int32)
        for region, painted in enumerate(self.paints):
            found = tf.where(logits[..., region] > 0, painted, found)
        return found

    def result(self) -> dict[str, Any]:
        """Return the values of all voxels counted so far, by name."""
        matrix = tf.cast(tf.convert_to_tensor(self.matrix), tf.float64)
        every, tp = tf.reduce_sum(matrix), tf.linalg.diag_part(matrix)
        fp, fn = tf.reduce_sum(matrix, axis=0) - tp, tf.reduce_sum(matrix, axis=1) - tp
        ratios = {m: m.ratio(Counts(tp, fp, fn, every - tp - fp - fn)) for m in METRICS}
        values = {metric: part / whole for metric, (part, whole) in ratios.items()}
        result = {"accuracy": tf.reduce_sum(tp) / every}
        result[f"mean_{IOU.name}"] = _defined_mean(values[IOU])
        result |= {metric.name: _defined_mean(of[1:]) for metric, of in values.items()}
        for index, name in enumerate(self.class_names[1:], start=1):
            result[DICE.column(name)] = values[DICE][index]
        for name, members in self.regions:
            result[DICE.column(name)] = _dice_of_union(matrix, members)
        return {name: tf.cast(value, tf.float32) for name, value in result.items()}

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model needs to make the metric again."""
        return {
            **super().get_config(),
            "class_names": list(self.class_names),
            "regions": {name: list(members) for name, members in self.regions},
            "paints": None if self.paints is None else list(self.paints),
            "partial": [list(each) for each in self.partial],
        }


def metrics_of(config: Config, partial: Partial = ()) -> ConfusionMetrics:
    """Return the metrics of a config's targets."""
    labels = config.labels
    if config.training.targets == "classes":
        return ConfusionMetrics(labels.names, partial=partial)
    outputs = Sigmoid.of(labels)
    regions = {region.name: labels.indices(region.members) for region in outputs.regions}
    paints = labels.indices(region.paints for region in outputs.regions)
    return ConfusionMetrics(labels.names, regions, paints, partial)


def _dice_of_union(matrix: Any, members: Sequence[int]) -> Any:
    rows = tf.gather(matrix, members, axis=0)
    both = tf.reduce_sum(tf.gather(rows, members, axis=1))
    truth, guess = tf.reduce_sum(rows), tf.reduce_sum(tf.gather(matrix, members, axis=1))
    return 2 * both / (truth + guess)


def _defined_mean(ratios: Any) -> Any:
    """Return the mean of the ratios that are not 0 / 0; NaN if none is left."""
    defined = ~tf.math.is_nan(ratios)
    total = tf.reduce_sum(tf.where(defined, ratios, tf.zeros_like(ratios)))
    return total / tf.reduce_sum(tf.cast(defined, ratios.dtype))
