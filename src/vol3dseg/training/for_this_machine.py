"""What suits this machine: precision, how much of a batch at once; and the network made so."""

from typing import Any

from vol3dseg.config import Config, TrainingConfig
from vol3dseg.machine import own_share_mb, resident_mb
from vol3dseg.planning.patch_fit import patch_warnings
from vol3dseg.training.backend import keras, tf, unused_gpu
from vol3dseg.training.data import RunData
from vol3dseg.training.growing import describe_growth, stages_of
from vol3dseg.training.memory_estimate import (
    MemoryEstimate,
    MicroBatch,
    NetworkSize,
    choose_micro_batch,
    describe_micro_batch,
)
from vol3dseg.training.networks.building import Network, build_network, size_of
from vol3dseg.training.precision import choose_precision, precision_policy
from vol3dseg.training.shared_step import require_shareable
from vol3dseg.training.team import Team
from vol3dseg.training.watching import Progress

# What Python with TensorFlow has, where the system does not tell [MB].
_PROGRAM_MB = 650.0


def for_this_machine(
    config: Config, network: Network | None, data: RunData, team: Team, progress: Progress
) -> tuple[Any, Config, MemoryEstimate]:
    """Return the network, the config with what suits the machine, and what that will take."""
    seed(config.training)
    precision = choose_precision(config.training.precision, ours=network is None)
    config = config.chosen(precision=precision.precision)
    model = make_network(config, network, team)
    size = size_of(model, config.recipe.patch_size)
    chosen = _micro_batch(config, size, data, team)
    for line in [
        *filter(None, [unused_gpu(), precision.why]),
        *describe_micro_batch(config, size, chosen),
    ]:
        progress(line)
    every = (*data.training.values(), *data.validation.values())
    for warning in patch_warnings(config, [case.shape for case in every]):
        progress(f"warning: {warning}")
    config = config.chosen(micro_batch=chosen.size)
    if grows := describe_growth(stages_of(config)):
        progress(grows)
    if team.name is not None:
        each = config.training.at_once // team.replicas
        progress(f"{team}, each with {each} of {config.training.at_once} patches at once")
    return model, config, chosen.estimate


def make_network(config: Config, network: Network | None, team: Team) -> Any:
    """Return the network of a config, in its precision."""
    with precision_policy(config.training.precision):
        model = build_network(config, network)
    require_shareable(model, team)
    return model


def _micro_batch(config: Config, network: NetworkSize, data: RunData, team: Team) -> MicroBatch:
    # On a GPU the network's memory is not the kernel's to count.
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return choose_micro_batch(
        config,
        network,
        data.training.values(),
        data.validation.values(),
        resident_mb() or _PROGRAM_MB,
        None if on_gpu else own_share_mb(),
        team.replicas,
        team.replicas if on_gpu else len(team.workers),
    )


def seed(training: TrainingConfig) -> None:
    """Let what is random follow from the seed of a config."""
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()
