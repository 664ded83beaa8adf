"""The prepared cases of a run: checked, split, opened for the model's modalities."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.splits import Split, make_split, split_table
from vol3dseg.errors import StoreError
from vol3dseg.files import write_text
from vol3dseg.preprocessing.index import Index, load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.reporting.figures import save_split


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
    index.require_made_with(config, prepared)
    subjects, volumes_ml = labelled_subjects(prepared, index), foreground_ml(index)
    split = make_split(subjects, config.split, volumes_ml)
    modalities = config.model_recipe.modalities
    cases = open_cases(prepared, index, (*split.train, *split.validation), modalities)
    training = {name: cases[name] for name in split.train}
    validation = {name: cases[name] for name in split.validation}
    return RunData(index, split, subjects, volumes_ml, training, validation)


def write_split(
    prepared: str | Path,
    output: str | Path,
    config: str | Path | None = None,
    stratify: bool = False,
) -> str:
    """Divide the cases of a prepared folder as training would, and write what comes of it.

    Parameters
    ----------
    prepared : str or Path
    output : str or Path
        The folder of split.json, split.md and split.png.
    config : str, Path or None
        A preset or a YAML file; None takes what the folder was prepared with.
    stratify : bool
        By foreground volume, whatever the config says.

    Returns
    -------
    str
        How cases are divided and a table of the parts, as Markdown.

    Raises
    ------
    ConfigError, DatasetError, StoreError
        The config, the split or the prepared folder is not valid.
    MissingExtraError
        matplotlib is not installed.
    """
    prepared, output = Path(prepared), Path(output)
    index = load_index(prepared)
    source = load_config(config) if config else index.config
    settings = source.split
    if stratify:
        settings = settings.model_copy(update={"stratify": True, "file": None})
    subjects, volumes_ml = labelled_subjects(prepared, index), foreground_ml(index)
    split = make_split(subjects, settings, volumes_ml)
    text = f"{settings.in_words}\n\n{split_table(split, subjects, volumes_ml)}\n"
    save_split(output / "split.png", split, volumes_ml)
    write_text(output / "split.md", f"# Split\n\n{text}\n![split](split.png)\n")
    split.write(output / "split.json")
    return text


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
