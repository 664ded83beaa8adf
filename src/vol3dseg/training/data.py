"""The prepared cases of a run: checked, split, opened for the model's modalities."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.config import Config
from vol3dseg.datasets.splits import PARTS, Split, make_split, split_table
from vol3dseg.errors import RunError, StoreError, some_of
from vol3dseg.files import require_writable, write_text
from vol3dseg.preprocessing.index import Index, load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.quality.training_data import TrainingData, describe_data
from vol3dseg.reporting.figures import save_split
from vol3dseg.training.partial_labels import Partial, partial_of, with_indices
from vol3dseg.training.run_config import choose_config


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run learns from: subjects and foreground volumes [ml] of all labelled cases.

    `partial` says which classes nobody has looked for in some cases (`partial_labels`).
    """

    index: Index
    split: Split
    subjects: Mapping[str, str]
    volumes_ml: Mapping[str, float]
    training: Mapping[str, StoredCase]
    validation: Mapping[str, StoredCase]
    partial: Partial = ()

    def lacks(self, part: str) -> list[str]:
        """Return the classes that no case of a part of the split has."""
        voxels = [self.index.entry(case).class_voxels or {} for case in self.split.part(part)]
        return [
            name for name in self.index.labels.foreground if not any(v.get(name) for v in voxels)
        ]


def open_data(prepared: Path, config: Config) -> RunData:
    """Check a prepared folder against the config and open its training and validation cases.

    Its recipe and labels must be those of the folder; `config.training.modalities` chooses
    modalities.
    """
    index = load_index(prepared)
    index.require_made_with(config, prepared)
    _require_modalities(prepared, index, config)
    subjects, volumes_ml = labelled_subjects(prepared, index), foreground_ml(index)
    split = split_of(prepared, index, config)
    modalities = config.model_recipe.modalities
    cases = open_cases(prepared, index, (*split.train, *split.validation), modalities)
    partial = partial_of(cases.values(), index.labels)
    cases = with_indices(cases, index.labels, partial)
    training = {name: cases[name] for name in split.train}
    validation = {name: cases[name] for name in split.validation}
    return RunData(index, split, subjects, volumes_ml, training, validation, partial)


def _require_modalities(prepared: Path, index: Index, config: Config) -> None:
    """Refuse cases that lack a modality which the model is not taught to do without."""
    needed = {*config.model_recipe.modalities} - {*config.optional}
    lacking = {entry.id: sorted(needed & {*entry.missing}) for entry in index.cases}
    if ids := [name for name, missing in lacking.items() if missing]:
        names = sorted({name for missing in lacking.values() for name in missing})
        raise StoreError(
            f"{len(ids)} of {len(lacking)} cases lack {' or '.join(names)}: {some_of(ids)}",
            where=prepared,
            expected="every modality that training.modality_dropout does not name",
            remedy="name it there with the share of patches in which it is left out, such as 0.25; "
            "or choose others by training.modalities",
        )


def require_classes(data: RunData, prepared: Path) -> list[str]:
    """Refuse a class that no training case has; return notes on those of the validation part."""
    if missing := data.lacks("train"):
        raise StoreError(
            f"no training case has {' or '.join(missing)}, of {len(data.split.train)}",
            where=prepared,
            expected="a case for each class: one that is never seen would be learned as nothing",
            remedy="divide the cases otherwise (split.seed, split.stratify, split.file), or leave "
            "the class out of labels.classes and prepare again",
        )
    unjudged = data.lacks("validation") if data.validation else []
    return [
        f"no validation case has {name}, so nothing says how well it is found" for name in unjudged
    ]


def split_of(prepared: Path, index: Index, config: Config) -> Split:
    """Return how training divides the labelled cases of an index."""
    return make_split(labelled_subjects(prepared, index), config.split, foreground_ml(index))


def write_split(
    prepared: str | Path,
    output: str | Path,
    config: str | Path | None = None,
    stratify: bool = False,
) -> str:
    """Divide cases as training would; write split.json, split.md and split.png.

    Parameters
    ----------
    prepared : str or Path
        Made by `vol3dseg preprocess`.
    output : str or Path
        The folder of the three.
    config : str, Path or None
        A preset's name or a YAML file; None takes the one that `prepared` was made with.
    stratify : bool
        Divide by foreground volume, whatever the config says.

    Returns
    -------
    str
        How cases are divided, with a table of the parts, as Markdown.

    Raises
    ------
    StoreError
        `prepared` is no prepared folder, or none of its cases has a label map.
    DatasetError
        The cases cannot be divided so.
    MissingExtraError
        matplotlib is not installed.
    """
    prepared, output = Path(prepared), Path(output)
    require_no_run(output, "choose another folder: a run keeps the split that it was trained with")
    require_writable(output, ("split.json", "split.md", "split.png"))
    index = load_index(prepared)
    settings = choose_config(prepared, config).split
    if stratify:
        settings = settings.model_copy(update={"stratify": True, "file": None})
    subjects, volumes_ml = labelled_subjects(prepared, index), foreground_ml(index)
    split = make_split(subjects, settings, volumes_ml)
    table = split_table(split, subjects, volumes_ml, index.outside)
    notes = "".join(f"Note: {line}.\n\n" for line in index.unseen)
    text = f"{settings.in_words}\n\n{notes}{table}\n"
    save_split(output / "split.png", split, volumes_ml)
    write_text(output / "split.md", f"# Split\n\n{text}\n![split](split.png)\n")
    split.write(output / "split.json")
    return text


def require_no_run(folder: Path, remedy: str) -> None:
    """Refuse a folder that a training has written into, beyond its first epoch."""
    if (folder / "last.keras").exists() or (folder / "manifest.json").exists():
        raise RunError("holds a run already", where=folder, remedy=remedy)


def labelled_subjects(prepared: Path, index: Index) -> dict[str, str]:
    """Return the subject of each case that has a label map; `StoreError` if none has."""
    subjects = {e.id: e.subject for e in index.cases if e.class_voxels is not None}
    if not subjects:
        raise StoreError(
            index.unlabelled or "holds no case",
            where=prepared,
            expected="labelled cases to learn from",
            remedy="add label maps to the data set and prepare it again",
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


def training_scans(config: Config, index: Index, split: Split) -> TrainingData:
    """Return the section of the manifest on what the cases of a split look like."""
    modalities = config.model_recipe.modalities
    looks = {
        part: [index.entry(i).appearance.select(modalities) for i in split.part(part)]
        for part in PARTS
    }
    volumes_ml = [index.entry(i).volumes_ml for i in split.train]
    classes = config.labels.foreground
    by_class = {c: [v[c] for v in volumes_ml if c in v] for c in classes}
    return describe_data(looks["train"], looks["validation"], by_class).with_seen(looks)
