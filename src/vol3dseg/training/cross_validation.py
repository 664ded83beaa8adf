"""Cross-validation: a run for each fold, judged on what it had not seen, and one table of all."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vol3dseg.config import Config
from vol3dseg.datasets.over_cases import worker_processes
from vol3dseg.errors import OutputError, RunError, StoreError
from vol3dseg.files import remove_ours
from vol3dseg.preprocessing.index import FILE_NAME as INDEX_NAME
from vol3dseg.training.child_process import Outcome, apart
from vol3dseg.training.fold_plan import FoldPlan, FoldRun, choose_folds, claim, plan_folds
from vol3dseg.training.pooled_folds import CrossValidation, pool_folds, pooled_paths
from vol3dseg.training.several import over_trainings
from vol3dseg.training.watching import Logger, Progress, Show, quiet
from vol3dseg.working_folder import working_in
from vol3dseg.written import usable_path

_Given = tuple[str | Path | None, Sequence[Logger], int | None]  # parent, loggers, threads


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
    workers: int | Executor | None = 1,
    threads: int | None = None,
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
        Called with lines of text, and with the steps of a training as they are made. Where folds
        are trained side by side there are no steps, and `progress` must be a function of a module,
        since other processes call it too.
    loggers : sequence of callable
        As of `train`; each fold is a run of its own to them. They are called in other processes.
    workers : int, Executor or None
        How many folds are trained at once in processes of this machine (None: one for each core),
        or an executor of `concurrent.futures` to train them; its processes must see the same paths.
    threads : int or None
        The most that each training takes; None: its share of the cores.

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
    place = usable_path(output, OutputError)
    told = (progress, show)
    with working_in(place, shared=bool(fold)):  # a fold is kept to itself by `train`
        plan = plan_folds(usable_path(prepared, StoreError), place, config, *chosen_by)
        chosen = [plan.fold(number) for number in choose_folds(plan, fold, resume)]
        claim(plan)
        return _done(plan, chosen, (parent, loggers, threads), workers, told)


def _done(
    plan: FoldPlan,
    chosen: Sequence[FoldRun],
    given: _Given,
    workers: int | Executor | None,
    told: tuple[Progress, Show],
) -> CrossValidation | None:
    """Do what is missing of the chosen folds; put all together where all are there."""
    progress = told[0]
    missing = [each for each in chosen if not each.is_done()]
    for each in chosen:
        if each not in missing:
            progress(f"{each.id} of {len(plan.splits)} had been finished")
    if missing:
        for path in reversed(pooled_paths(plan.folder)[-2:]):  # of folds that were others
            remove_ours(path)
    failed = _complete_all(plan, missing, given, workers, *told)
    if failed:
        raise RunError(
            "; ".join(f"{name} {said}" for name, said in failed.items()),
            where=plan.folder,
            remedy="mend what is said there, and go on with --resume",
        )
    if left := [str(number) for number in plan.splits if not plan.fold(number).is_done()]:
        progress(f"folds {', '.join(left)} are missing; the table comes when all are there")
        return None
    return pool_folds(plan.prepared, plan.folder, plan.index, plan.config, plan.splits, progress)


def _complete_all(
    plan: FoldPlan,
    folds: Sequence[FoldRun],
    given: _Given,
    workers: int | Executor | None,
    progress: Progress,
    show: Show,
) -> dict[str, str]:
    """Do what is missing of these folds; return what is said of those that failed."""
    failed = {}
    reads = [plan.prepared / INDEX_NAME, *([Path(given[0])] if given[0] else [])]
    with worker_processes(workers, len(folds)) as executor:
        outcomes = over_trainings(
            partial(_complete, plan.prepared, given), _chosen_alike(plan, folds, executor),
            executor, progress, show, reads, plan.folder,
        )  # fmt: skip
        for fold, outcome in outcomes:
            if not outcome.finished:
                failed[fold.id] = outcome.said
                progress(f"{fold.id} {outcome.said}")
    return dict(sorted(failed.items()))


def _chosen_alike(
    plan: FoldPlan, folds: Sequence[FoldRun], executor: Executor | None
) -> Sequence[FoldRun]:
    """Return the folds with what a machine chooses for the first, before several begin at once.

    One after the other they take it from those that were begun.
    """
    if executor is None or not folds or folds[0].alike().is_chosen:
        return folds
    choose = partial(_choose, plan.prepared)
    ((_, outcome),) = over_trainings(
        choose, folds[:1], executor, quiet, quiet, [plan.prepared / INDEX_NAME], plan.folder
    )
    if outcome.config is None:  # the fold itself will say why
        return folds
    return [replace(fold, config=fold.config.resumes(outcome.config)) for fold in folds]


def _choose(prepared: Path, fold: FoldRun, progress: Progress, show: Show) -> Outcome:
    return apart(_choose_by_machine, prepared, fold.config, progress=progress, show=show)


def _choose_by_machine(*words: Any, **named: Any) -> Outcome:
    # Imports TensorFlow, in the process of the fold alone.
    from vol3dseg.training.judging_folds import choose_by_machine

    return choose_by_machine(*words, **named)


def _complete(
    prepared: Path, given: _Given, fold: FoldRun, progress: Progress, show: Show
) -> Outcome:
    parent, loggers, threads = given
    progress(f"\n{fold.id} of {len(fold.every)} -> {fold.run}")
    facts = (prepared, fold.folder, fold.number, fold.alike(), parent, loggers)
    return apart(_complete_fold, *facts, threads=threads, progress=progress, show=show)


def _complete_fold(*words: Any, **named: Any) -> Outcome:
    from vol3dseg.training.judging_folds import complete_fold

    return complete_fold(*words, **named)
