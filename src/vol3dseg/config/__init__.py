"""The config: one YAML file with everything that can be chosen, parsed into frozen models."""

from vol3dseg.config.augment_section import AugmentConfig as AugmentConfig
from vol3dseg.config.growth_section import GrowPatchConfig as GrowPatchConfig
from vol3dseg.config.model_section import ModelConfig as ModelConfig
from vol3dseg.config.parsing import dump_config as dump_config
from vol3dseg.config.parsing import load_config as load_config
from vol3dseg.config.parsing import parse_config as parse_config
from vol3dseg.config.parsing import preset_names as preset_names
from vol3dseg.config.training_section import VOLUME_DICE as VOLUME_DICE
from vol3dseg.config.training_section import EarlyStoppingConfig as EarlyStoppingConfig
from vol3dseg.config.training_section import Measure as Measure
from vol3dseg.config.training_section import ReduceLROnPlateauConfig as ReduceLROnPlateauConfig
from vol3dseg.config.training_section import TrainingConfig as TrainingConfig
from vol3dseg.config.whole import Config as Config
