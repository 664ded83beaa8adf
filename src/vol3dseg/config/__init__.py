"""The config: one YAML file with everything that can be chosen, parsed into frozen models."""

from vol3dseg.config.parsing import dump_config as dump_config
from vol3dseg.config.parsing import load_config as load_config
from vol3dseg.config.parsing import parse_config as parse_config
from vol3dseg.config.parsing import preset_names as preset_names
from vol3dseg.config.sections import AugmentConfig as AugmentConfig
from vol3dseg.config.sections import Config as Config
from vol3dseg.config.sections import EarlyStoppingConfig as EarlyStoppingConfig
from vol3dseg.config.sections import ModelConfig as ModelConfig
from vol3dseg.config.sections import ReduceLROnPlateauConfig as ReduceLROnPlateauConfig
from vol3dseg.config.sections import TrainingConfig as TrainingConfig
