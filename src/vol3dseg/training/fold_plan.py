"""What a cross-validation is to do: its folds, and what is refused before any is trained."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.config import Config, parse_config
from vol3dseg.datasets.folds import Fold, read_folds, write_folds
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import ConfigError, RunError, some_of
from vol3dseg.files import require_writable
from vol3dseg.preprocessing.index import Index, load_index
from vol3dseg.reporting.score_report import report_paths
from vol3dseg.training.data import labelled_subjects, require_no_run, split_of
from vol3dseg.training.held_out import (
    PREDICTIONS,
    deployed_checkpoint,
    fold_folder,
    fold_numbers,
    is_judged,
    prediction_file,
    require_each_once,
    test_scores,
)
from vol3dseg.training.pooled_folds import pooled_paths
from vol3dseg.training.run_config import choose_config
from vol3dseg.training.training_state import (
    LAST,
    MANIFEST,
    goes_on,
    read_origin,
    require_same_config,
    require_same_data,
)
from vol3dseg.written import require_ours

FOLDS_NAME = "splits.json"


@dataclass(frozen=True, slots=True)
class FoldRun:
    """A fold, as a piece of work that may be done elsewhere."""

    number: int
    folder: Path  # of all folds
    config: Config
    every: tuple[int, ...]  # the numbers of all folds
    paths: tuple[Path, ...] = ()

    @property
    def id(self) -> str:
        """Its name in messages."""
        return f"fold {self.number}"

    @property
    def run(self) -> Path:
        """Its run folder."""
        return fold_folder(self.folder, self.number)

    def alike(self) -> Config:
        """Return its config, with what the machine chose for the first fold that was begun."""
        runs = (fold_folder(self.folder, number) / LAST for number in self.every)
        first = next((last for last in runs if last.is_file()), None)
        return self.config if first is None else self.config.resumes(read_origin(first).config)

    def is_done(self) -> bool:
        """Tell whether it is trained and has judged what it holds out."""
        finished = (self.run / MANIFEST).is_file() and not goes_on(self.run, self.config)
        return finished and is_judged(self.folder, self.number, deployed_checkpoint(self.run))


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """What is to be done, before anything is trained."""

    prepared: Path
    folder: Path
    index: Index
    config: Config  # without a fold
    splits: Mapping[int, Split]

    def fold(self, number: int) -> FoldRun:
        """Return a fold."""
        return FoldRun(number, self.folder, _of_fold(self.config, number), tuple(self.splits))


def _of_fold(config: Config, number: int) -> Config:
    split = config.split.model_copy(update={"fold": number})
    return config.model_copy(update={"split": split})


def plan_folds(
    prepared: Path,
    folder: Path,
    config: Config | str | Path | None,
    folds: int | None,
    splits: str | Path | None,
    validation: float | None,
    changes: Mapping[str, object] | None,
    parent: str | Path | None,
) -> FoldPlan:
    """Choose config and folds; refuse what does not fit, before anything is trained."""
    begun = [fold_folder(folder, n) for n in fold_numbers(folder)]
    before = next((run for run in begun if (run / LAST).is_file()), None)
    whole = choose_config(prepared, config, before, changes, parent)
    if splits is not None and folds is not None:
        raise ConfigError("folds are given twice, by number and as a file", remedy="give one")
    named = whole.split.file if splits is None else Path(splits).resolve()
    if named is not None and folds is not None:
        raise ConfigError(
            f"{folds} folds are asked for, but split.file names {named}",
            remedy="set split.file to null, or leave the number out",
        )
    count = folds or whole.split.folds
    if named is not None:
        count = len(read_folds(named))
    if validation is None:
        chooses = whole.training.model_checkpoint or whole.training.judges
        validation = whole.split.validation if chooses else 0.0
    facts = {"file": named, "folds": count, "fold": None, "validation": validation}
    data = whole.model_dump(mode="json")
    data["split"].update(facts)
    chosen = parse_config(data, "the config of the folds")
    index = load_index(prepared)
    index.require_made_with(chosen, prepared)
    parts = {n: split_of(prepared, index, _of_fold(chosen, n)) for n in range(1, count + 1)}
    held = Counter(case for split in parts.values() for case in split.test)
    require_each_once(held, labelled_subjects(prepared, index))
    return FoldPlan(prepared, folder, index, chosen, parts)


def choose_folds(plan: FoldPlan, wanted: Sequence[int], resume: bool) -> list[int]:
    """Return the folds to do; refuse runs that are there already, or that are of others."""
    if strangers := [str(n) for n in wanted if n not in plan.splits]:
        raise ConfigError(
            f"there is no fold {some_of(strangers)}", expected=f"1 to {len(plan.splits)}"
        )
    numbers = fold_numbers(plan.folder)
    if not numbers:
        require_no_run(plan.folder, "choose another folder")
    chosen = sorted(wanted) or list(plan.splits)
    there = [n for n in numbers if (fold_folder(plan.folder, n) / LAST).exists()]
    if again := [str(n) for n in there if n in chosen and not resume]:
        raise RunError(
            f"holds fold {some_of(again)} already",
            where=plan.folder,
            remedy="go on with --resume, which leaves finished folds as they are; or choose others "
            "with --fold",
        )
    for number in there:
        run = fold_folder(plan.folder, number)
        if number not in plan.splits:
            raise RunError(
                f"is one of more than {len(plan.splits)} folds",
                where=run,
                remedy="choose another folder",
            )
        require_same_config(run, _of_fold(plan.config, number))
        require_same_data(run, plan.index, plan.splits[number])
    return chosen


def claim(plan: FoldPlan) -> None:
    """Write the folds, once it is known that nothing is replaced that is not ours."""
    folder = plan.folder
    require_writable(folder)
    scores = [path for n in plan.splits for path in report_paths(test_scores(folder, n))]
    cases = [case for split in plan.splits.values() for case in split.test]
    predictions = [folder / PREDICTIONS / prediction_file(case) for case in cases]
    require_ours([*pooled_paths(folder), *scores, *predictions, folder / FOLDS_NAME])
    folds = (
        Fold(train=(*split.train, *split.validation), val=split.test)
        for split in plan.splits.values()
    )
    write_folds(folder / FOLDS_NAME, folds)
