import csv
import math

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from tests.conftest import batches
from vol3dseg.evaluation.overlap import DICE
from vol3dseg.training.metrics import ConfusionMetrics

pytestmark = pytest.mark.train

NAMES = ["background", "necrotic", "edema", "Enhancing Tumour"]
# Rows are the true class, columns the predicted one.
MATRIX = np.array([[10, 1, 0, 1], [2, 4, 1, 0], [0, 0, 6, 2], [1, 0, 0, 2]])


def voxels(matrix):
    """Return labels and sure probabilities that count up to `matrix`."""
    pairs = [(t, p) for (t, p), n in np.ndenumerate(matrix) for _ in range(n)]
    truth, guess = np.array(pairs).T
    shape = (1, len(pairs), 1, 1)
    probabilities = np.eye(len(matrix), dtype=np.float32)[guess].reshape(*shape, -1)
    return truth.astype(np.uint8).reshape(shape), probabilities


def result_of(matrix, names=NAMES):
    metric = ConfusionMetrics(names)
    metric.update_state(*voxels(matrix))
    return {name: float(value) for name, value in metric.result().items()}


def test_four_classes_equal_what_a_hand_computes():
    expected = {
        "accuracy": 22 / 30,
        "mean_iou": (10 / 15 + 4 / 8 + 6 / 9 + 2 / 6) / 4,
        "iou": (4 / 8 + 6 / 9 + 2 / 6) / 3,
        "precision": (4 / 5 + 6 / 7 + 2 / 5) / 3,
        "sensitivity": (4 / 7 + 6 / 8 + 2 / 3) / 3,
        "specificity": (22 / 23 + 21 / 22 + 24 / 27) / 3,
        "dice": (8 / 12 + 12 / 15 + 4 / 8) / 3,
        "dice_necrotic": 8 / 12,
        "dice_edema": 12 / 15,
        "dice_enhancing_tumour": 4 / 8,
    }
    assert result_of(MATRIX) == pytest.approx(expected)


def test_a_class_that_is_nowhere_is_nan_and_bears_on_no_mean():
    matrix = MATRIX.copy()
    matrix[2, :] = matrix[:, 2] = 0
    result = result_of(matrix)
    assert math.isnan(result["dice_edema"])
    assert result["dice"] == pytest.approx((8 / 11 + 4 / 6) / 2)
    assert result["mean_iou"] == pytest.approx((10 / 15 + 4 / 7 + 2 / 4) / 3)


def test_a_class_that_is_missed_is_left_out_of_precision_alone():
    result = result_of(np.array([[5, 0, 0], [0, 3, 0], [2, 0, 0]]), ["background", "a", "b"])
    assert result["precision"] == 1
    assert result["sensitivity"] == pytest.approx((1 + 0) / 2)
    assert (result["dice_b"], result["dice"]) == (0, pytest.approx((1 + 0) / 2))


def test_only_background_leaves_no_mean_over_foreground_classes():
    result = result_of(np.array([[4, 0], [0, 0]]), ["background", "a"])
    assert (result["accuracy"], result["mean_iou"], result["specificity"]) == (1, 1, 1)
    assert all(math.isnan(result[n]) for n in ("precision", "sensitivity", "dice", "dice_a"))


def test_batches_add_up_to_one_matrix_and_reset_forgets_them():
    metric = ConfusionMetrics(NAMES)
    metric.update_state(*voxels(MATRIX))
    metric.update_state(*voxels(MATRIX.T))
    assert (metric.matrix.numpy() == MATRIX + MATRIX.T).all()
    metric.reset_state()
    assert not metric.matrix.numpy().any()


def test_counts_beyond_what_float32_can_tell_apart_are_exact():
    metric = ConfusionMetrics(NAMES)
    metric.matrix.assign(np.full((4, 4), 2**24))
    metric.update_state(*voxels(MATRIX))
    assert (metric.matrix.numpy() == 2**24 + MATRIX).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("edema", "dice_edema", id="as it is"),
        pytest.param("Left  Lung ", "dice_left_lung", id="spaces and capitals"),
    ],
)
def test_names_of_classes_suit_a_column(name, expected):
    assert DICE.column(name) == expected


def test_every_value_stands_in_the_log_with_and_without_val(tmp_path):
    truth, guess = voxels(MATRIX)
    model = keras.Sequential(
        [keras.Input((30, 1, 1, 4)), keras.layers.Dense(4, kernel_initializer="identity")]
    )
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        metrics=[ConfusionMetrics(NAMES)],
    )
    log = tmp_path / "training.log"
    model.fit(
        batches(guess, truth),
        shuffle=False,
        epochs=2,  # the second epoch must not remember the first
        validation_data=batches(guess, truth),
        verbose=0,
        callbacks=[keras.callbacks.CSVLogger(log)],
    )
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, value in result_of(MATRIX).items():
        for key in (name, f"val_{name}"):
            assert [float(row[key]) for row in rows] == pytest.approx([value] * 2), key


def test_survives_a_round_through_a_saved_model():
    metric = ConfusionMetrics(NAMES)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.class_names == tuple(NAMES)
