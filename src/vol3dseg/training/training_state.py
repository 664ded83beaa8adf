"""What our checkpoints hold beside the weights: where a training stood, and what it was made of.

It is one more member of the .keras archive, `vol3dseg-state.json`. In one file with the weights,
since two files can disagree after a crash; so that config.yaml, split.json and environment.json of
a run are for people, and nobody goes on with other data because one of them is lost or was changed.
Nothing here needs TensorFlow.
"""

import csv
import zipfile
from pathlib import Path

from vol3dseg.config import Config
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import RunError, reading, some_of
from vol3dseg.files import write_text
from vol3dseg.model.training_facts import Parent
from vol3dseg.preprocessing.index import Index
from vol3dseg.schema import Count, Frozen, Real, parse_json
from vol3dseg.training.keras_archive import (
    AGAIN,
    DAMAGE,
    MEMBER,
    WANTED,
    damaged,
    require_archive,
)

LAST, MANIFEST = "last.keras", "manifest.json"
_LARGEST = 2**26  # bytes of a state: hundreds of thousands of cases


class Origin(Frozen):
    """What a run is made of.

    Attributes
    ----------
    config : Config
        With the micro-batch that was chosen.
    prepared : Path
        The prepared folder, as an absolute path.
    split : Split
    contents : mapping from case to SHA-256
        Of the prepared training and validation cases.
    parent : Parent or None
        The model that the network started from.
    """

    config: Config
    prepared: Path
    split: Split
    contents: dict[str, str]
    parent: Parent | None = None

    def changed(self, index: Index) -> list[str]:
        """Return the cases that the run learns from which an index lacks, or has others for."""
        now = {entry.id: entry.contents for entry in index.cases}
        return [case for case, digest in self.contents.items() if now.get(case) != digest]


class TrainingState(Frozen):
    """Where a training stood at the end of an epoch, beside weights and optimizer.

    `val_loss` and `val_volume_dice` are of the last epoch done; `remembered` what callbacks must
    know to go on, by the name of their class; `seeds` the state of the random generators in the
    network (dropout), which Keras does not save.
    """

    epochs: Count
    val_loss: Real | None = None
    val_volume_dice: Real | None = None
    remembered: dict[str, dict[str, Count | Real | None]] = {}
    seeds: tuple[tuple[Count, ...], ...] = ()
    origin: Origin | None = None

    @property
    def has_best(self) -> bool:
        """Whether an epoch was the best one so far, so that best.keras holds it."""
        return self.remembered.get("BestCheckpoint", {}).get("best") is not None

    @property
    def stopped_early(self) -> bool:
        """Whether `EarlyStopping` has ended the run; there is nothing left to resume then."""
        return bool(self.remembered.get("EarlyStopping", {}).get("stopped_epoch"))


def read_state(path: Path) -> TrainingState:
    """Read where the training stood when a checkpoint of ours was written."""
    require_archive(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as member:
            state = member.read(_LARGEST)
    except KeyError as error:
        raise RunError(
            f"holds no {MEMBER}",
            where=path,
            expected=WANTED,
            remedy="start the run anew in another folder",
        ) from error
    except DAMAGE as error:
        raise damaged(path, error) from error
    return parse_json(TrainingState, state, path, RunError, expected=WANTED, remedy=AGAIN)


def read_origin(path: Path) -> Origin:
    """Read what the run of a checkpoint is made of."""
    origin = read_state(path).origin
    if origin is None:
        raise RunError("does not say what it was made of", where=path, expected=WANTED)
    return origin


def longer_run(run: Path) -> Path:
    """Return the folder, within a finished run, in which it goes on to more epochs."""
    return run / "more-epochs"


def goes_on(run: Path, config: Config) -> bool:
    """Tell whether a run is finished, but with fewer epochs than `config` wants."""
    longer = longer_run(run)
    if (longer / MANIFEST).is_file() and (longer / LAST).is_file():
        return True  # killed before it had taken the run's place
    finished = (run / MANIFEST).is_file() and (run / LAST).is_file()
    return finished and read_origin(run / LAST).config.training.epochs < config.training.epochs


def require_same_config(run: Path, config: Config) -> Config:
    """Return the config to go on with: `config`, unless the run began with another.

    More epochs than before are no other config. What the run has chosen by the memory of its
    machine stays so.
    """
    state, before = read_state(run / LAST), read_origin(run / LAST).config
    config = config.resumes(before)
    epochs = config.training.epochs
    if before.training.epochs > epochs or before.with_epochs(epochs) != config:
        raise RunError(
            f"its config differs from this one in {before.differences(config)}",
            where=run,
            remedy="resume with the run's own, in which only training.epochs may grow, or train in "
            "another folder",
        )
    if state.stopped_early and before != config:
        raise RunError(
            f"early stopping ended it after {state.epochs} epochs",
            where=run,
            expected="a run that more epochs would change",
            remedy="train in another folder with a larger training.early_stopping.patience",
        )
    return config


def require_same_data(run: Path, index: Index, split: Split) -> None:
    """Refuse to go on with other cases than the run began with, or with others of their names."""
    before = read_origin(run / LAST)
    changed, found = before.changed(index), ""
    if before.split != split:
        found = "cases were added, removed or divided anew since the run began"
    elif changed:
        found = f"prepared cases have changed since the run began: {some_of(changed)}"
    if found:
        raise RunError(
            found,
            where=run,
            expected="the same images and labels of the same cases",
            remedy="train in another folder",
        )


def trim_log(training_log: Path, epochs: int) -> None:
    """Cut the log back to the first `epochs` epochs, so that a resumed run goes on after them.

    A crash may leave the row of an epoch whose checkpoint was never written, or half a row. What
    is no text at all is refused.
    """
    if not training_log.exists():
        return
    expected, remedy = "the log that vol3dseg train writes", "move it elsewhere and resume again"
    with reading(training_log, RunError, expected=expected, remedy=remedy):
        content = training_log.read_bytes()
    try:
        lines = content.decode().splitlines(keepends=True)
        kept = [line for line in lines[1:] if _is_row(line, lines[0], epochs)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(
            "is damaged", where=training_log, expected=expected, remedy=remedy
        ) from error
    write_text(training_log, "".join(lines[:1] + kept))


def _is_row(line: str, header: str, epochs: int) -> bool:
    """Tell whether a line is the whole row of one of the first epochs."""
    cells, names = next(csv.reader([line]), [""]), next(csv.reader([header]), [])
    whole = line.endswith("\n") and len(cells) == len(names)
    return whole and cells[0].isdecimal() and int(cells[0]) < epochs
