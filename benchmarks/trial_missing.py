"""What a missing modality costs: a model that was taught to do without, and one that was not.

python -m benchmarks.trial_missing CROPS_FOLDER [OUTPUT] [--share 0.1]

Both are trained by the preset crops32 on the same split, one with modality_dropout of that share
for each modality. The crops of the test part are segmented with all four modalities and without
each of them; the model that knows nothing of it is given zeros there. What is trained stays.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.fold_runs import difference_table
from benchmarks.straight_line import changed_config, run
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_case
from vol3dseg.datasets.selection import only_part
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predictor import Predictor
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.reporting.comparison.paired_differences import Difference, paired_differences
from vol3dseg.reporting.score_files import CASE_MEAN, PartScores
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

PLAIN, TAUGHT = "plain", "with dropout"
Segment = Callable[[Volume, str], Segmentation]


def main(crops: Path, folder: Path, share: float) -> None:
    """Train both, segment the test part in every way, and print the tables."""
    modalities = load_config("crops32").recipe.modalities
    shares = {PLAIN: {}, TAUGHT: dict.fromkeys(modalities, share)}
    prepared = folder / "prepared"
    if not (prepared / "index.json").is_file():
        run("preprocess", crops, "-o", prepared, "--config", "crops32")
    models = {
        name: _trained(prepared, folder / name.replace(" ", "-"), each)
        for name, each in shares.items()
    }
    ways: dict[str, Segment] = {
        PLAIN: _on_zeros(load_predictor(models[PLAIN], device="cpu")),
        TAUGHT: _without(load_predictor(models[TAUGHT], device="cpu")),
    }
    split = models[PLAIN].parent / "run" / "split.json"
    found = score(crops, split, modalities, ways)
    sys.stdout.write(f"\n{report(found)}")


def score(
    crops: Path, split: Path, modalities: tuple[str, ...], ways: Mapping[str, Segment]
) -> dict[str, dict[str, PartScores]]:
    """Return the scores of the test part by what is missing, "" for nothing, and by model."""
    labels = load_config("crops32").labels
    scores: dict[str, dict[str, list[CaseScores]]] = {
        missing: {way: [] for way in ways} for missing in ("", *modalities)
    }
    for case in only_part(find_cases(crops, modalities), split, "test"):
        volume, reference = read_case(case, modalities, labels)
        if reference is None:
            raise SystemExit(f"{case.id} has no label map")
        for missing, of_ways in scores.items():
            for way, segment in ways.items():
                found = segment(volume, missing)
                of_ways[way].append(evaluate_case(case.id, reference, found))
    return {
        missing: {way: _as_part(each) for way, each in of_ways.items()}
        for missing, of_ways in scores.items()
    }


def report(found: Mapping[str, Mapping[str, PartScores]]) -> str:
    """Return mean Dice by what is missing, and what dropout gains or loses, as Markdown."""
    names = list(found[""][PLAIN].structures)
    lines = [f"| missing | model | {' | '.join(names)} | mean |"]
    lines.append("|---|---|" + "---:|" * (len(names) + 1))
    rows: dict[str, tuple[Difference, ...]] = {}
    for missing, of_ways in found.items():
        said = missing or "nothing"
        for way, part in of_ways.items():
            means = [float(np.nanmean(list(part.dice[name].values()))) for name in names]
            means.append(float(np.mean(means)))
            lines.append(f"| {said} | {way} | {' | '.join(f'{m:.3f}' for m in means)} |")
        rows[f"{said}: {TAUGHT} - {PLAIN}"] = paired_differences(
            of_ways[TAUGHT].dice, of_ways[PLAIN].dice, (*names, CASE_MEAN)
        )
    return "\n".join(lines) + f"\n\n{difference_table(rows)}"


def _trained(prepared: Path, folder: Path, shares: Mapping[str, float]) -> Path:
    """Train a run and export it, unless that is done; return the model."""
    model = folder / "model.onnx"
    if not model.is_file():
        config = folder / "config.yaml"
        changed_config("crops32", {"training": {"modality_dropout": dict(shares)}}, config)
        resume = ["--resume"] if (folder / "run" / "last.keras").is_file() else []
        run("train", prepared, "-o", folder / "run", "-c", config, *resume)
        run("export-onnx", folder / "run", "-o", model)
    return model


def _on_zeros(predictor: Predictor) -> Segment:
    """Return what shows a model zeros in place of what is missing, after normalisation."""

    def segment(volume: Volume, missing: str) -> Segmentation:
        prepared = prepare(volume, predictor.manifest.recipe)
        if missing:
            channel = prepared.volume.modalities.index(missing)
            prepared.volume.array[..., channel] = 0
        return predictor.segment(prepared.volume, prepared.source).segmentation

    return segment


def _without(predictor: Predictor) -> Segment:
    """Return what gives a model a scan that lacks what is missing."""

    def segment(volume: Volume, missing: str) -> Segmentation:
        there = [n for n, name in enumerate(volume.modalities) if name != missing]
        names = tuple(volume.modalities[n] for n in there)
        lacking = Volume(volume.array[..., there], volume.geometry, names)
        return predictor(lacking).segmentation

    return segment


def _as_part(scores: list[CaseScores]) -> PartScores:
    dice = {
        name: {case.case_id: case.structures[name]["dice"] for case in scores}
        for name in scores[0].labels.foreground
    }
    return PartScores("test", dice, {}, scores[0].empty)


if __name__ == "__main__":
    reading = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reading.add_argument("crops", type=Path)
    reading.add_argument("output", type=Path, nargs="?", default=Path("trials/missing"))
    reading.add_argument("--share", type=float, default=0.1)
    words = reading.parse_args()
    main(words.crops, words.output, words.share)
