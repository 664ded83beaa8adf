"""The prepared cases of a run: checked, split, opened for the model's modalities."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.config import Config
from vol3dseg.datasets.splits import Split, make_split
from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.index import Index, load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run learns from.

    Parameters
    ----------
    index : Index
    split : Split
    subjects : mapping from case to subject
        Of the cases with a label map.
    volumes_ml : mapping from case to float
        Their foreground [ml].
    training, validation : mapping from case to StoredCase
    """

    index: Index
    split: Split
    subjects: Mapping[str, str]
    volumes_ml: Mapping[str, float]
    training: Mapping[str, StoredCase]
    validation: Mapping[str, StoredCase]


def open_data(prepared: Path, config: Config) -> RunData:
    """Check a prepared folder against the config and open its training and validation cases.

    Parameters
    ----------
    prepared : Path
    config : Config
        Its recipe and what it reads as labels must be those of the folder; choosing modalities is
        for `config.training.modalities`.

    Raises
    ------
    RecipeMismatch
        The recipes differ; the message names the fields.
    StoreError
        Labels differ, no case has labels, or a file is not the one that was written or not built
        as one (see `vol3dseg.preprocessing.store.open_cases`).
    """
    index = load_index(prepared)
    index.require_made_with(config.recipe, config.labels, prepared)
    subjects, volumes_ml = labelled_subjects(prepared, index), foreground_ml(index)
    split = make_split(subjects, config.split, volumes_ml)
    modalities = config.model_recipe.modalities
    cases = open_cases(prepared, index, (*split.train, *split.validation), modalities)
    training = {name: cases[name] for name in split.train}
    validation = {name: cases[name] for name in split.validation}
    return RunData(index, split, subjects, volumes_ml, training, validation)


def labelled_subjects(prepared: Path, index: Index) -> dict[str, str]:
    """Return the subject of each case that has a label map.

    Raises
    ------
    StoreError
        None has.
    """
    subjects = {e.id: e.subject for e in index.cases if e.class_voxels is not None}
    if not subjects:
        raise StoreError(
            f"{prepared}: no case has a label map; expected labelled cases to learn from"
        )
    return subjects


def foreground_ml(index: Index) -> dict[str, float]:
    """Return the volume of all foreground classes together of each case with a label map [ml]."""
    background = index.labels.names[0]
    return {
        entry.id: sum(ml for name, ml in entry.volumes_ml.items() if name != background)
        for entry in index.cases
        if entry.class_voxels is not None
    }
