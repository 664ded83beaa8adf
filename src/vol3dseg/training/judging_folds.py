"""One fold of a cross-validation: train it, then segment what it holds out and score that."""

from collections.abc import Sequence
from pathlib import Path

from vol3dseg.config import Config
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.files import write_text
from vol3dseg.formats import write_labels
from vol3dseg.inference.batch import volumes_ml
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import CaseRecord
from vol3dseg.model.manifest import read_run_manifest
from vol3dseg.preprocessing.index import CaseEntry, load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.reporting.score_report import write_report
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.child_process import Outcome
from vol3dseg.training.data import open_data
from vol3dseg.training.fit import train
from vol3dseg.training.for_this_machine import for_this_machine
from vol3dseg.training.held_out import (
    FILE_NAME,
    PREDICTIONS,
    HeldOut,
    deployed_checkpoint,
    fold_folder,
    is_judged,
    prediction_file,
    test_scores,
)
from vol3dseg.training.results import keras_predictor
from vol3dseg.training.team import Team
from vol3dseg.training.training_state import LAST, goes_on, read_origin
from vol3dseg.training.watching import Logger, Progress, Show
from vol3dseg.written import sha256_file


def choose_by_machine(
    prepared: Path, config: Config, again: bool, progress: Progress, show: Show
) -> Outcome:
    """Say what this machine, with its memory, chooses where a config leaves it open."""
    _, chosen, _ = for_this_machine(config, None, open_data(prepared, config), Team(), progress)
    return Outcome("chosen", finished=True, config=chosen)


def complete_fold(
    prepared: Path,
    folder: Path,
    number: int,
    config: Config,
    parent: str | Path | None,
    loggers: Sequence[Logger],
    again: bool,
    progress: Progress,
    show: Show,
) -> Outcome:
    """Do what is missing of a fold: all of it, the rest of its training, or its scores."""
    run = fold_folder(folder, number)
    if not (run / "manifest.json").is_file() or goes_on(run, config):
        resume = (run / LAST).is_file()
        train(
            prepared, run, config, parent=parent, resume=resume, progress=progress, show=show,
            loggers=loggers,
        )  # fmt: skip
    if not is_judged(folder, number, deployed_checkpoint(run)):
        judge_fold(prepared, folder, number, progress)
    return Outcome("finished", finished=True, manifest=read_run_manifest(run))


def judge_fold(prepared: Path, folder: Path, number: int, progress: Progress) -> None:
    """Segment and score the cases that a finished fold holds out."""
    run, index = fold_folder(folder, number), load_index(prepared)
    manifest, checkpoint = read_run_manifest(run), deployed_checkpoint(run)
    split = read_origin(checkpoint).split
    predictor = keras_predictor(load_checkpoint(checkpoint), manifest)
    cases = open_cases(prepared, index, split.test, manifest.recipe.modalities)
    made, scores = {}, []
    for place, (case_id, case) in enumerate(cases.items(), start=1):
        made[case_id], found = _judge(predictor, index.entry(case_id), case, folder / PREDICTIONS)
        scores.append(found)
        if place % 10 == 0 or place == len(cases):
            progress(f"held-out cases {place}/{len(cases)}")
    write_report(test_scores(folder, number), scores, summarise(scores))
    done = HeldOut(checkpoint_sha256=sha256_file(checkpoint), cases=made)
    write_text(run / FILE_NAME, done.model_dump_json(indent=1) + "\n")


def _judge(
    predictor: Predictor, entry: CaseEntry, case: StoredCase, folder: Path
) -> tuple[CaseRecord, CaseScores]:
    prepared = case.prepared()
    prediction = predictor.segment(prepared.volume, prepared.source)
    found, file = prediction.segmentation, prediction_file(entry.id)
    write_labels(found, folder / file)
    record = CaseRecord(
        file=file,
        plan=str(prediction.plan),
        volumes_ml=volumes_ml(found),
        warnings=predictor.warnings(prepared.appearance),
        sha256=sha256_file(folder / file),
        sources=entry.sources,
        part="test",
        missing=predictor.manifest.lacking(prepared.appearance.modalities),
        replaced=entry.replaced,
        notes=entry.notes,
        repairs=entry.repairs,
    )
    return record, evaluate_case(entry.id, case.reference(found.labels), found)
