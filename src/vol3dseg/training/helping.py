"""What a training does on all workers but the first: learn alike, write nothing."""

from itertools import count
from pathlib import Path
from typing import Any

from vol3dseg import __version__
from vol3dseg.config import Config
from vol3dseg.errors import RunError
from vol3dseg.model.manifest import Manifest
from vol3dseg.schema import Count, Frozen, parse_json
from vol3dseg.training.backend import keras
from vol3dseg.training.compiled import compile_network, steps_per_epoch
from vol3dseg.training.data import RunData, open_data
from vol3dseg.training.feed import TrainingFeed, dataset
from vol3dseg.training.for_this_machine import make_network, seed
from vol3dseg.training.networks.building import Network
from vol3dseg.training.shared_step import share_steps
from vol3dseg.training.team import Team
from vol3dseg.training.watching import Progress

_OF_ANOTHER = {
    "expected": "what this version of vol3dseg says",
    "remedy": "install the same version everywhere",
}


class Order(Frozen):
    """What the first worker tells the others before it begins.

    `first` is the epoch to begin with, from 0; None where there is nothing left to learn.
    """

    config: Config
    first: Count | None


class InStep(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep all workers alike: variables at the start of an epoch, and whether another one comes.

    It must be the last callback. What callbacks of the first worker do between epochs (a lower
    rate, weights of a checkpoint, stopping) so holds for all.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team = team

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Make the variables of the optimizer, which Keras leaves to the first step."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Take all variables of the first worker."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        values = self._team.from_first([variable.value for variable in variables])
        if not self._team.is_first:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Take the first worker's word for whether the training is over."""
        (stop,) = self._team.from_first([int(self.model.stop_training)])
        self.model.stop_training = bool(stop)


def in_step(team: Team) -> list[InStep]:
    """Return the callback that keeps workers alike; none where there is one."""
    return [] if team.alone else [InStep(team)]


def facts_of(config: Config, data: RunData) -> dict[str, Any]:
    """Return what all workers must have in common."""
    return {
        "version": __version__,
        "config": config.model_dump(mode="json"),
        "cases": {name: data.index.entry(name).contents for name in data.training},
    }


def help_train(
    team: Team,
    prepared: Path,
    config: Config,
    given: tuple[Network | None, Any],
    progress: Progress,
) -> Manifest:
    """Train with the first worker, which decides and writes; return its manifest."""
    network, loss = given
    data = open_data(prepared, config)
    team.require_agreement(facts_of(config, data))
    progress(f"worker {team.number} of {team}; worker 0 ({team.workers[0]}) writes the run")
    seed(config.training)
    order = parse_json(Order, team.told(""), "worker 0", RunError, **_OF_ANOTHER)
    if order.first is not None:
        model = make_network(order.config, network, team)
        compile_network(model, order.config, list(data.training.values()), loss, data.partial)
        _learn(team, model, order, data)
    return parse_json(Manifest, team.told(""), "worker 0", RunError, **_OF_ANOTHER)


def _learn(team: Team, model: Any, order: Order, data: RunData) -> None:
    config, first, cases = order.config, order.first or 0, list(data.training.values())
    training = config.training
    steps = steps_per_epoch(cases, config) * training.micro_batches
    feed = TrainingFeed(config, cases, steps, team.number, len(team.workers))
    share_steps(model, team)
    model.fit(
        dataset(feed.batch, count(first * steps), config, training.at_once // len(team.workers)),
        steps_per_epoch=steps,
        epochs=training.epochs,
        initial_epoch=first,
        callbacks=in_step(team),
        shuffle=False,
        verbose=0,
    )
