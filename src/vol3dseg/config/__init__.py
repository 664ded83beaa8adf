"""The config: one YAML file with everything that can be chosen, parsed into frozen models."""

from vol3dseg.config.parsing import dump_config, load_config, parse_config, preset_names
from vol3dseg.config.sections import (
    AugmentConfig,
    Config,
    EarlyStoppingConfig,
    ModelConfig,
    ReduceLROnPlateauConfig,
    TrainingConfig,
)

__all__ = [
    "AugmentConfig",
    "Config",
    "EarlyStoppingConfig",
    "ModelConfig",
    "ReduceLROnPlateauConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
    "parse_config",
    "preset_names",
]
