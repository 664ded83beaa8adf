"""A finished run as its folder tells it: config, manifest, split, curves, scores."""

import csv
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.splits import PARTS, Split, read_split
from vol3dseg.errors import RunError, some_of
from vol3dseg.model.manifest import Manifest, TrainingFacts, parse_manifest
from vol3dseg.reporting.score_files import SUMMARY_NAME, PartScores, read_part


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run is and what it reached.

    Parameters
    ----------
    folder : Path
    config : Config
    manifest : Manifest
    split : Split
    curves : mapping from column of training.log to tuple of float
        One value for each epoch; NaN where there is none.
    scores : mapping from part to PartScores
        Of the parts that were evaluated.
    """

    folder: Path
    config: Config
    manifest: Manifest
    split: Split
    curves: Mapping[str, tuple[float, ...]]
    scores: Mapping[str, PartScores]

    @property
    def training(self) -> TrainingFacts:
        """What training came to."""
        return self.manifest.members[0]

    def scores_of(self, part: str) -> PartScores:
        """Return the scores of a part.

        Raises
        ------
        RunError
            The part was not evaluated; the message names the commands that do it.
        """
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
    """Read a finished run.

    Parameters
    ----------
    folder : Path
        Made by `vol3dseg train`; with `scores/<part>/` of each part that was evaluated.

    Raises
    ------
    RunError
        The folder is no run, its training is unfinished, or a file in it is damaged. Scores of
        cases that belong to another part of the run's own split are refused as well.
    ConfigError, DatasetError, ModelError
        config.yaml, split.json or manifest.json cannot be read.
    """
    _require_finished(folder)
    manifest = folder / "manifest.json"
    split = read_split(folder / "split.json")
    scores = {
        part: read_part(folder / "scores" / part, part)
        for part in PARTS
        if (folder / "scores" / part / SUMMARY_NAME).is_file()
    }
    for found in scores.values():
        _require_own_part(folder, found, split)
    return RunSummary(
        folder=folder,
        config=load_config(folder / "config.yaml"),
        manifest=parse_manifest(manifest.read_bytes(), str(manifest)),
        split=split,
        curves=_read_curves(folder / "training.log"),
        scores=scores,
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


def _require_own_part(folder: Path, scores: PartScores, split: Split) -> None:
    """Refuse cases of another part: scores of training cases must not pass for a test.

    Cases that are in no part come from another data set, and may be scored.
    """
    for part in PARTS:
        wrong = sorted(set(scores.cases) & set(split.part(part))) if part != scores.part else []
        if wrong:
            raise RunError(
                f"has scores of cases that split.json puts into the {part} part: {some_of(wrong)}",
                where=folder / "scores" / scores.part,
                remedy=f"predict and evaluate with --split {folder / 'split.json'}",
            )


def _read_curves(path: Path) -> dict[str, tuple[float, ...]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        # Keras writes an empty cell or NA for what an epoch does not have.
        curves = {
            str(column): tuple(_number(row[column]) for row in rows) for column in (rows or [{}])[0]
        }
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            f"cannot be read ({error})",
            where=path,
            expected="the log that vol3dseg train writes",
            remedy="copy the whole run folder",
        ) from error
    if not rows:
        raise RunError("holds no epoch", where=path, remedy="train for at least one")
    return curves


def _number(text: str | None) -> float:
    return nan if text in {None, "", "NA"} else float(str(text))
