"""The config as a whole, of its sections: one frozen model, and what must agree in it."""

from collections import Counter

from pydantic import model_validator

from vol3dseg.config.model_section import ModelConfig
from vol3dseg.config.training_section import TrainingConfig
from vol3dseg.datasets.splits import SplitConfig
from vol3dseg.recipe import Recipe
from vol3dseg.schema import Frozen, differences
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.region_order import painted_classes


class Config(Frozen):
    """Everything that can be chosen. See `configs/` for the presets."""

    labels: LabelSet
    recipe: Recipe
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _patches_fit(self) -> "Config":
        divisor = self.model.divisor
        if any(n % d for n, d in zip(self.recipe.patch_size, divisor, strict=True)):
            raise ValueError(
                f"recipe.patch_size {list(self.recipe.patch_size)} must be multiples of "
                f"{list(divisor)}, what the strides of the {self.model.depth} levels multiply to"
            )
        grow = self.training.grow_patch
        if grow and grow.sides(0, self.recipe.patch_size, divisor) == self.recipe.patch_size:
            raise ValueError(
                f"training.grow_patch.start {grow.start:g} of recipe.patch_size "
                f"{list(self.recipe.patch_size)}, in multiples of {list(divisor)}, is the whole "
                "patch; give a smaller start, a larger patch, or grow_patch: null"
            )
        if self.training.deep_supervision and self.model.depth < 3:
            raise ValueError(
                f"training.deep_supervision needs model.depth 3 or more, found {self.model.depth}: "
                "the two coarsest levels have no output; raise the depth, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _classes_are_known(self) -> "Config":
        in_log = Counter("_".join(name.lower().split()) for name in self._named_in_log)
        if twice := [name for name, times in in_log.items() if times > 1]:
            raise ValueError(
                f"classes would share the column dice_{twice[0]} of training.log; give them names "
                "that differ in more than capitals and spaces"
            )
        if strange := sorted(set(self.training.class_weights) - set(self.targets)):
            raise ValueError(
                f"training.class_weights names {strange}, and targets are {list(self.targets)}"
            )
        drawn = self.labels.names[1:]
        if strange := sorted(set(self.training.foreground_weights) - set(drawn)):
            raise ValueError(
                f"training.foreground_weights names {strange}, and foreground classes are "
                f"{list(drawn)}"
            )
        return self

    @model_validator(mode="after")
    def _modalities_are_known(self) -> "Config":
        unknown = set(self.training.modalities or ()) - set(self.recipe.modalities)
        if unknown:
            raise ValueError(
                f"training.modalities {sorted(unknown)} are not in recipe.modalities "
                f"{list(self.recipe.modalities)}"
            )
        seen = self.model_recipe.modalities
        if strange := sorted(set(self.training.modality_dropout) - set(seen)):
            raise ValueError(
                f"training.modality_dropout names {strange}, and modalities are {list(seen)}"
            )
        if len(seen) == 1 and self.training.modality_dropout:
            raise ValueError(
                f"training.modality_dropout names {seen[0]}, which is the only modality; leave it "
                "out: nothing could be seen without it"
            )
        return self

    @property
    def optional(self) -> tuple[str, ...]:
        """The modalities that a case may lack, in the order of the recipe."""
        chosen = self.training.modality_dropout
        return tuple(name for name in self.model_recipe.modalities if name in chosen)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the network's outputs, in their order: classes, or regions as painted."""
        if self.training.targets == "regions":
            return tuple(painted_classes(self.labels))
        return self.labels.names

    @property
    def _named_in_log(self) -> list[str]:
        """Whose Dice is a column of training.log; a region may be named like its only class."""
        if self.training.targets == "classes":
            return list(self.labels.names)
        only = {name: members == (name,) for name, members in self.labels.regions.items()}
        return [*self.labels.names, *(name for name in self.targets if not only[name])]

    def chosen(self, **choices: object) -> "Config":
        """Return the config with what a machine has chosen of its section `training`."""
        training = self.training.model_copy(update=choices)
        return self.model_copy(update={"training": training})

    def with_epochs(self, epochs: int) -> "Config":
        """Return the config with another number of epochs."""
        training = self.training.model_copy(update={"epochs": epochs})
        return self.model_copy(update={"training": training})

    def resumes(self, before: "Config") -> "Config":
        """Return this config with what the machine chose for `before`, where this leaves it open.

        Those are the micro-batch and the precision.
        """
        ours, theirs = self.training, before.training
        precision = theirs.precision if ours.precision == "auto" else ours.precision
        return self.chosen(micro_batch=ours.micro_batch or theirs.micro_batch, precision=precision)

    @property
    def is_chosen(self) -> bool:
        """Whether it leaves nothing open that a machine chooses."""
        return self == self.resumes(self.chosen(micro_batch=1, precision="float32"))

    def differences(self, other: "Config") -> str:
        """Return in words what differs between two configs; empty where nothing does."""
        return differences(self.model_dump(mode="json"), other.model_dump(mode="json"))

    @property
    def model_recipe(self) -> Recipe:
        """The recipe of the model that is trained: only its modalities."""
        return self.recipe.select(self.training.modalities or self.recipe.modalities)
