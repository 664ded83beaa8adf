"""A finished run, read from its folder: config, manifest, learning curves, scores."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.splits import PARTS, Split, read_split
from vol3dseg.errors import RunError, some_of
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.model.training_facts import TrainingFacts
from vol3dseg.reporting.figures import read_log
from vol3dseg.reporting.score_files import SUMMARY_NAME, PartScores, read_part


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run is and what it reached."""

    folder: Path
    config: Config
    manifest: Manifest
    curves: Mapping[str, tuple[float, ...]]  # of `read_log`
    split: Split
    scores: Mapping[str, PartScores]  # of the parts that were evaluated

    @property
    def training(self) -> TrainingFacts:
        """What training came to."""
        return self.manifest.trained[0]

    def scores_of(self, part: str) -> PartScores:
        """Return the scores of a part; a RunError names the commands that make them."""
        if part not in self.scores:
            raise RunError(
                f"has no scores of the {part} part",
                where=self.folder,
                expected=str(self.folder / "scores" / part / SUMMARY_NAME),
                remedy=how_to_score(self.folder, part),
            )
        return self.scores[part]


def how_to_score(folder: Path, part: str) -> str:
    """Return the commands that make the scores of a part of a run, as half a sentence."""
    run, split, scores = (
        shlex.quote(str(path)) for path in (folder, folder / "split.json", folder / "scores")
    )
    return (
        f"make them with: vol3dseg export-onnx {run} -o model.onnx; vol3dseg predict model.onnx "
        f"DATASET -o PREDICTIONS --split {split} --part {part}; vol3dseg evaluate PREDICTIONS "
        f"DATASET -o {scores} --split {split}"
    )


def read_run(folder: Path) -> RunSummary:
    """Read a finished run, made by `vol3dseg train`, with the scores of parts that it has."""
    _require_finished(folder)
    split = read_split(folder / "split.json")
    return RunSummary(
        folder=folder,
        config=load_config(folder / "config.yaml"),
        manifest=read_run_manifest(folder),
        curves=read_log(folder / "training.log"),
        split=split,
        scores={
            part: _read_scores(folder, part, split)
            for part in PARTS
            if (folder / "scores" / part / SUMMARY_NAME).is_file()
        },
    )


def _require_finished(folder: Path) -> None:
    if not (folder / "config.yaml").is_file():
        expected = "a folder made by vol3dseg train"
        raise RunError("not a run, it has no config.yaml", where=folder, expected=expected)
    if not (folder / "manifest.json").is_file():
        raise RunError(
            "an unfinished run, it has no manifest.json",
            where=folder,
            remedy=f"finish it with vol3dseg train PREPARED -o {folder} --resume",
        )


def _read_scores(folder: Path, part: str, split: Split) -> PartScores:
    """Read the scores of a part, and refuse cases of another: training must not pass for a test."""
    scores = read_part(folder / "scores" / part, part)
    # Cases that are in no part come from another data set, and may be scored.
    for other in (name for name in PARTS if name != part):
        wrong = [case for case in split.part(other) if case in scores.cases]
        if wrong:
            raise RunError(
                f"has scores of cases that split.json puts into the {other} part: {some_of(wrong)}",
                where=folder / "scores" / part,
                remedy=f"predict and evaluate with --split {folder / 'split.json'}",
            )
    return scores
