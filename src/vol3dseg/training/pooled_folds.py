"""All folds together: one table, one record, and the manifest of their average."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from vol3dseg.config import Config
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import RunError
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.files import write_text
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.model.validation_scores import pooled_without
from vol3dseg.preprocessing.index import Index
from vol3dseg.reporting.fold_scores import (
    POOLED,
    FoldScores,
    as_validation,
    fold_csv,
    fold_markdown,
    score_fold,
)
from vol3dseg.reporting.score_report import report_paths, write_report
from vol3dseg.schema import Frozen, differences, read_json
from vol3dseg.training.data import training_scans
from vol3dseg.training.held_out import (
    PREDICTIONS,
    HeldOutMaps,
    deployed_checkpoint,
    fold_folder,
    fold_numbers,
    held_out_cases,
    read_held_out,
    record_of,
)
from vol3dseg.training.postprocessing_choice import Choice, choose_postprocessing
from vol3dseg.written import sha256_file

RECORD_NAME, TABLE = "cross-validation.json", "cross-validation"
CHOICE_NAME = "postprocessing.json"
JUDGED = "of a cross-validation: each case was judged by the member that had not seen it"
UNCHANGED = "judged as the network says, without the post-processing that was chosen by these cases"
_FINISH = "finish it with vol3dseg cross-validate --resume"
_ALIKE = ("recipe", "labels", "network", "outputs", "tiling")


class FoldResult(Frozen):
    """One fold: the cases that it holds out, and how it does on them."""

    cases: tuple[str, ...]
    checkpoint_sha256: str
    scores: FoldScores


class CrossValidation(Frozen):
    """`cross-validation.json`: written last of all, so what has it is finished.

    Attributes
    ----------
    config : Config
        Of all folds; `split.fold` is None.
    data_fingerprint : str
        SHA-256 over names and contents of all labelled cases.
    folds : tuple of FoldResult
    pooled : FoldScores
        Over all cases of all folds.
    """

    format: Literal["vol3dseg.cross-validation"] = "vol3dseg.cross-validation"
    version: Literal[1] = 1
    config: Config
    data_fingerprint: str
    folds: tuple[FoldResult, ...] = Field(min_length=2)
    pooled: FoldScores

    @property
    def rows(self) -> dict[str, FoldScores]:
        """Scores by the name of the fold, then those of all together."""
        rows = {str(n): fold.scores for n, fold in enumerate(self.folds, start=1)}
        return rows | {POOLED: self.pooled}


def read_cross_validation(folder: Path) -> CrossValidation:
    """Read the record of a finished cross-validation; a RunError says what is wrong with it."""
    return read_json(
        CrossValidation,
        folder / RECORD_NAME,
        RunError,
        expected="what vol3dseg cross-validate writes when all folds are done",
        remedy=_FINISH,
    )


def is_cross_validation(folder: Path) -> bool:
    """Tell whether a folder is of `vol3dseg cross-validate`, finished or not."""
    return (folder / RECORD_NAME).is_file() or bool(fold_numbers(folder))


def read_folds_of(folder: Path) -> CrossValidation:
    """Return the record of a cross-validation whose folds are still those that were judged."""
    if not is_cross_validation(folder):
        raise RunError(
            "no cross-validation",
            where=folder,
            expected="a folder of vol3dseg cross-validate",
            remedy="leave out --each, if it is a run",
        )
    if not (folder / RECORD_NAME).is_file():
        raise RunError(
            "an unfinished cross-validation",
            where=folder,
            expected=f"{RECORD_NAME}, which is written when all folds are done",
            remedy=f"{_FINISH}, or export one fold: {fold_folder(folder, fold_numbers(folder)[0])}",
        )
    record = read_cross_validation(folder)
    for number, fold in enumerate(record.folds, start=1):
        checkpoint = deployed_checkpoint(fold_folder(folder, number))
        if not checkpoint.is_file() or sha256_file(checkpoint) != fold.checkpoint_sha256:
            raise RunError(
                "is not the checkpoint that was judged",
                where=checkpoint,
                expected=f"the one that {RECORD_NAME} names",
                remedy=_FINISH,
            )
    return record


def pooled_paths(folder: Path) -> list[Path]:
    """Return what `pool_folds` writes, the record last."""
    names = (f"{TABLE}.md", f"{TABLE}.csv", CHOICE_NAME, "manifest.json", RECORD_NAME)
    record = folder / PREDICTIONS / "predictions.json"
    return [*report_paths(folder / "scores"), record, *(folder / name for name in names)]


def pool_folds(
    prepared: Path,
    folder: Path,
    index: Index,
    config: Config,
    splits: Mapping[int, Split],
    progress: Callable[[str], None] = lambda line: None,
) -> CrossValidation:
    """Score the held-out cases of all folds as they lie in `predictions`, and write what comes.

    Scores, table, predictions.json, the choice of post-processing, the manifest of the folds'
    average and, last, the record.
    """
    members = {number: read_run_manifest(fold_folder(folder, number)) for number in splits}
    require_alike(members, folder)
    first = next(iter(members.values()))
    held = {number: read_held_out(folder, number) for number in splits}
    scores: dict[int, list[CaseScores]] = {number: [] for number in splits}
    for number, case_id, reference, prediction in held_out_cases(folder, prepared, first, held):
        scores[number].append(evaluate_case(case_id, reference, prediction))
    every = sorted((case for of in scores.values() for case in of), key=lambda case: case.case_id)
    subjects = {entry.id: entry.subject for entry in index.cases}
    record = CrossValidation(
        config=config,
        data_fingerprint=index.data_fingerprint(case.case_id for case in every),
        folds=tuple(
            FoldResult(
                cases=splits[number].test,
                checkpoint_sha256=held[number].checkpoint_sha256,
                scores=score_fold(of, subjects),
            )
            for number, of in scores.items()
        ),
        pooled=score_fold(every, subjects),
    )
    write_report(folder / "scores", every, summarise(every))
    write_text(folder / f"{TABLE}.md", fold_markdown(record.rows, _in_words(config, len(splits))))
    write_text(folder / f"{TABLE}.csv", fold_csv(record.rows))
    record_of(first, held).save(folder / PREDICTIONS)
    maps = HeldOutMaps(folder, prepared, first, held)
    choice = choose_postprocessing(maps, first.labels, subjects, progress)
    write_text(folder / CHOICE_NAME, choice.model_dump_json(indent=1) + "\n")
    mean = average_manifest(list(members.values()), config, index, splits.values(), record.pooled)
    mean = with_postprocessing(mean, choice)
    write_text(folder / "manifest.json", mean.model_dump_json(indent=1) + "\n")
    write_text(folder / RECORD_NAME, record.model_dump_json(indent=1) + "\n")
    return record


def require_alike(members: Mapping[int, Manifest], where: Path) -> None:
    """Refuse folds that are not of one kind, so that their outputs cannot be averaged."""
    (first, one), *others = members.items()
    for number, other in others:
        ours, theirs = (
            {name: getattr(each, name).model_dump(mode="json") for name in _ALIKE}
            for each in (one, other)
        )
        if found := differences(ours, theirs):
            raise RunError(
                f"folds {first} and {number} differ in {found}",
                where=where,
                expected="one recipe, label set and network in all folds",
                remedy="train them in one cross-validation",
            )


def average_manifest(
    members: Sequence[Manifest],
    config: Config,
    index: Index,
    splits: Iterable[Split],
    pooled: FoldScores,
) -> Manifest:
    """Return what the average of all folds is: what any of them has seen, it has seen."""
    splits = list(splits)
    learned = {case for split in splits for case in split.train}
    chosen = {case for split in splits for case in split.validation} - learned
    seen = Split(train=tuple(sorted(learned)), validation=tuple(sorted(chosen)))
    facts = {
        "members": tuple(facts for member in members for facts in member.members),
        "training_data": training_scans(config, index, seen),
        "validation": as_validation(pooled, JUDGED),
        "without": pooled_without([member.without for member in members]),
    }
    return members[0].model_copy(update=facts)


def with_postprocessing(manifest: Manifest, choice: Choice) -> Manifest:
    """Return the manifest of the folds' average with the post-processing that they speak for."""
    scores = manifest.validation
    if scores is None or not choice.steps:
        return manifest
    said = scores.model_copy(update={"notes": (*scores.notes, UNCHANGED)})
    return manifest.model_copy(update={"postprocessing": choice.steps, "validation": said})


def _in_words(config: Config, folds: int) -> str:
    share = f"{100 * config.split.validation:.4g} % of the other subjects chose the epoch"
    drawn = (
        f"read from {config.split.file}"
        if config.split.file
        else f"drawn with seed {config.split.seed}"
        + ", stratified by foreground volume" * config.split.stratify
    )
    chosen = share if config.split.validation else "all other subjects were learned from"
    return f"{folds} folds of subjects, {drawn}; in each, {chosen}."
