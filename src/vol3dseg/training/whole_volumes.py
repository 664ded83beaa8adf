"""Whole volumes of validation cases, judged every few epochs by what would be deployed."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vol3dseg.config import VOLUME_DICE, Config
from vol3dseg.evaluation.scoring import summarise
from vol3dseg.training.backend import keras
from vol3dseg.training.data import RunData
from vol3dseg.training.results import describe_model, keras_predictor, validate


def volume_dice(config: Config, data: RunData, model: Any, given: bool) -> "list[VolumeDice]":
    """Return the callback that judges whole volumes; none where the config has none of it.

    `given` says whether the model is a network of the user's own.
    """
    training = config.training
    if training.validate_every is None:
        return []
    volumes_ml = {case: data.volumes_ml[case] for case in data.validation}
    chosen = choose_cases(volumes_ml, training.validation_volumes, training.seed)
    cases = {case: data.validation[case] for case in chosen}
    manifest = describe_model(config, model if given else None)

    def judge() -> float | None:
        predictor = keras_predictor(model, manifest)  # anew: it has the weights of its making
        return summarise(validate(predictor, cases, lambda line: None)).mean_foreground_dice

    return [VolumeDice(judge, training.validate_every, training.epochs)]


def choose_cases(volumes_ml: Mapping[str, float], count: int | None, seed: int) -> list[str]:
    """Return `count` of the cases, None for all: one of each of as many parts, from small to large.

    `volumes_ml` is the foreground of each case [ml]. The same seed chooses the same cases.
    """
    ordered = sorted(volumes_ml, key=lambda case: (volumes_ml[case], case))
    if count is None or count >= len(ordered):
        return ordered
    rng = np.random.default_rng(seed)
    return [str(rng.choice(part)) for part in np.array_split(ordered, count)]


class VolumeDice(keras.callbacks.Callback):  # type: ignore[misc]
    """Put the mean foreground Dice of whole volumes into the logs, every few epochs and at the end.

    NaN stands for epochs that are not judged, and where no case has any foreground.
    """

    def __init__(self, judge: Callable[[], float | None], every: int, epochs: int) -> None:
        super().__init__()
        self._judge = judge
        self._every = every
        self._epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the weights that the model has, which are those that would be deployed."""
        if logs is None:
            return
        done = epoch + 1
        found = self._judge() if done % self._every == 0 or done == self._epochs else None
        logs[VOLUME_DICE] = math.nan if found is None else found
