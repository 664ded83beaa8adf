"""What the scans that a network learned from looked like, of the modalities that it sees."""

from vol3dseg.config import Config
from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.preprocessing.index import Index
from vol3dseg.quality.training_data import TrainingData, describe_data


def training_scans(config: Config, index: Index, split: Split) -> TrainingData:
    """Return the section of the manifest on the cases of a split."""
    modalities = config.model_recipe.modalities
    looks = {
        part: [index.entry(i).appearance.select(modalities) for i in split.part(part)]
        for part in PARTS
    }
    volumes_ml = [index.entry(i).volumes_ml for i in split.train]
    classes = config.labels.foreground
    by_class = {c: [v[c] for v in volumes_ml if c in v] for c in classes}
    return describe_data(looks["train"], looks["validation"], by_class).with_seen(looks)
