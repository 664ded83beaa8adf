"""Cross-validation: a run for each fold, judged on what it had not seen, and one table of all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.config import Config, parse_config
from vol3dseg.datasets.folds import Fold, read_folds, write_folds
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import ConfigError, RunError, some_of
from vol3dseg.files import remove_ours, require_writable
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
from vol3dseg.training.pooled_folds import CrossValidation, pool_folds, pooled_paths
from vol3dseg.training.run_config import choose_config
from vol3dseg.training.several import Outcome, apart
from vol3dseg.training.training_state import (
    LAST,
    goes_on,
    read_origin,
    require_same_config,
    require_same_data,
)
from vol3dseg.training.watching import Logger, Progress, Show, quiet
from vol3dseg.written import require_ours

FOLDS_NAME = "splits.json"
_Told = tuple[Progress, Show, Sequence[Logger]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done: config and split of each fold, before anything is trained."""

    prepared: Path
    folder: Path
    index: Index
    config: Config  # without a fold
    splits: Mapping[int, Split]

    def config_of(self, number: int) -> Config:
        """Return the config of a fold."""
        split = self.config.split.model_copy(update={"fold": number})
        return self.config.model_copy(update={"split": split})

    def alike(self, number: int) -> Config:
        """Return the config of a fold, with what the machine chose for the first that was begun."""
        runs = [fold_folder(self.folder, n) / LAST for n in self.splits]
        first = next((last for last in runs if last.is_file()), None)
        config = self.config_of(number)
        return config if first is None else config.resumes(read_origin(first).config)

    def is_done(self, number: int) -> bool:
        """Tell whether a fold is trained and has judged what it holds out."""
        run = fold_folder(self.folder, number)
        finished = (run / "manifest.json").is_file() and not goes_on(run, self.config_of(number))
        return finished and is_judged(self.folder, number, deployed_checkpoint(run))


def cross_validate(
    prepared: str | Path,
    output: str | Path,
    config: Config | str | Path | None = None,
    *,
    folds: int | None = None,
    fold: Sequence[int] = (),
    splits: str | Path | None = None,
    validation: float | None = None,
    changes: Mapping[str, object] | None = None,
    parent: str | Path | None = None,
    resume: bool = False,
    progress: Progress = quiet,
    show: Show = quiet,
    loggers: Sequence[Logger] = (),
) -> CrossValidation | None:
    """Train a network for each fold, and judge each on the subjects that it had not seen.

    Each fold is an ordinary run, in a process of its own; what it holds out is the test part of its
    split and serves nothing but its scores.

    Parameters
    ----------
    prepared : str or Path
        Made by `vol3dseg preprocess`; nothing is written into it.
    output : str or Path
        Gets the run folders fold-1, fold-2, ..., the segmentations of all held-out cases in
        predictions/, their scores in scores/, splits.json, cross-validation.md and .csv,
        postprocessing.json, manifest.json of the folds' average and, last of all,
        cross-validation.json.
    config : Config, str, Path or None
        A config, a preset's name or a YAML file; None takes that of the folds that are there, or
        the one that `prepared` was made with.
    folds : int or None
        How many; None takes the config's `split.folds`.
    fold : sequence of int
        Only these, counted from 1; others may be added later. Empty stands for all.
    splits : str, Path or None
        A file of folds in the form of nnU-Net's splits_final.json, instead of folds that are drawn.
    validation : float or None
        Share of the subjects that a fold learns from which is kept back for choosing the epoch;
        None takes the config's `split.validation`, or none where the config chooses nothing by it.
    changes : mapping or None
        Of fields of the config's section `training`, such as `epochs`.
    parent : str, Path or None
        What every fold starts from, as of `train`. Scores of held-out cases that it has learned
        from itself say nothing.
    resume : bool
        Go on: finished folds are left as they are, interrupted ones go on after their last epoch.
    progress, show : callable
        Called with lines of text, and with the steps of a training as they are made. They must be
        functions of a module, since other processes call them too.
    loggers : sequence of callable
        As of `train`; each fold is a run of its own to them.

    Returns
    -------
    CrossValidation or None
        As in cross-validation.json; None while folds are missing.

    Raises
    ------
    ConfigError
        The config is not valid, or there is no such fold.
    DatasetError
        The folds do not fit the cases, or subjects are too few.
    RunError
        A fold is there already, or was begun with another config or other data, or has failed.
    StoreError
        The prepared folder does not fit the config.
    OutputError
        The output cannot be written, or holds what is not ours.
    """
    chosen_by = (folds, splits, validation, changes, parent)
    plan = _plan(Path(prepared), Path(output), config, *chosen_by)
    chosen = _chosen(plan, fold, resume)
    _claim(plan)
    failed = {}
    for number in chosen:
        if plan.is_done(number):
            progress(f"fold {number} of {len(plan.splits)} had been finished")
            continue
        progress(f"\nfold {number} of {len(plan.splits)} -> {fold_folder(plan.folder, number)}")
        for path in reversed(pooled_paths(plan.folder)[-2:]):  # of folds that were others
            remove_ours(path)
        outcome = _complete(plan, number, parent, (progress, show, loggers))
        if not outcome.finished:
            failed[number] = outcome.said
            progress(f"fold {number} {outcome.said}")
    if failed:
        raise RunError(
            "; ".join(f"fold {number} {said}" for number, said in failed.items()),
            where=plan.folder,
            remedy="mend what is said there, and go on with --resume",
        )
    if missing := [str(number) for number in plan.splits if not plan.is_done(number)]:
        progress(f"folds {', '.join(missing)} are missing; the table comes when all are there")
        return None
    return pool_folds(plan.prepared, plan.folder, plan.index, plan.config, plan.splits, progress)


def _complete(plan: _Plan, number: int, parent: str | Path | None, told: _Told) -> Outcome:
    config = plan.alike(number)
    return apart(_complete_fold, plan.prepared, plan.folder, number, config, parent, told)


def _complete_fold(
    prepared: Path,
    folder: Path,
    number: int,
    config: Config,
    parent: str | Path | None,
    told: _Told,
) -> Outcome:
    # Imports TensorFlow, in the process of the fold alone.
    from vol3dseg.training.judging_folds import complete_fold

    return complete_fold(prepared, folder, number, config, parent, *told)


def _plan(
    prepared: Path,
    folder: Path,
    config: Config | str | Path | None,
    folds: int | None,
    splits: str | Path | None,
    validation: float | None,
    changes: Mapping[str, object] | None,
    parent: str | Path | None,
) -> _Plan:
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
    plan = _Plan(prepared, folder, index, chosen, {})
    parts = {n: split_of(prepared, index, plan.config_of(n)) for n in range(1, count + 1)}
    held = Counter(case for split in parts.values() for case in split.test)
    require_each_once(held, labelled_subjects(prepared, index))
    return _Plan(prepared, folder, index, chosen, parts)


def _chosen(plan: _Plan, wanted: Sequence[int], resume: bool) -> list[int]:
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
        require_same_config(run, plan.config_of(number))
        require_same_data(run, plan.index, plan.splits[number])
    return chosen


def _claim(plan: _Plan) -> None:
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
