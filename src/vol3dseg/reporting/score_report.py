"""What is written of an evaluation: CSV for machines, JSON for programs, Markdown for people."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from vol3dseg.evaluation.overlap import EMPTY_RULES
from vol3dseg.evaluation.scoring import METRICS, CaseScores, Summary
from vol3dseg.files import write_json, write_text


def write_report(folder: Path, cases: Sequence[CaseScores], summary: Summary) -> None:
    """Write cases.csv, summary.json and summary.md into `folder`, each atomically.

    Undefined values are empty in CSV, null in JSON and a dash in Markdown.
    """
    write_text(folder / "cases.csv", _csv(cases))
    write_json(folder / "summary.json", _json(summary))
    write_text(folder / "summary.md", markdown(summary))


def markdown(summary: Summary) -> str:
    """Return the summary as Markdown tables."""
    lines = [
        f"# Scores over {summary.cases} case{'s' * (summary.cases != 1)}",
        "",
        "| class or region | cases | Dice (mean ± std) | Dice (median) | IoU | precision "
        "| sensitivity | specificity |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in summary.names:
        spread = summary.spreads[name]
        dice = spread["dice"]
        others = [number(spread[metric].mean) for metric in METRICS[1:]]
        lines.append(
            f"| {cell(name)} | {dice.cases} | {number(dice.mean)} ± {number(dice.std)} "
            f"| {number(dice.median)} | {' | '.join(others)} |"
        )
    means = [number(summary.mean_foreground[metric]) for metric in METRICS]
    lines += [
        f"| **mean of foreground classes** | | {means[0]} | | {' | '.join(means[1:])} |",
        "",
        f"The column of cases counts those that define Dice. {EMPTY_RULES[summary.empty]}",
        "",
        "Pooled over all voxels of all cases and averaged over all classes, background included; "
        "classes that no case has are left out; not comparable with the scores above:",
        "",
        "| pooled | value |",
        "|---|---:|",
        *(f"| {cell(name)} | {number(value)} |" for name, value in summary.pooled.items()),
        "",
    ]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text so that it may stand in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def number(value: float) -> str:
    """Return a score as tables show it; a dash where it is undefined."""
    return "-" if isnan(value) else f"{value:.4f}"


def _csv(cases: Sequence[CaseScores]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "structure", *METRICS, "reference_ml", "prediction_ml"])
    for case in cases:
        for name, structure in case.structures.items():
            values = asdict(structure.scores)
            scores = ["" if isnan(values[m]) else f"{values[m]:.6f}" for m in METRICS]
            volumes = [f"{structure.reference_ml:.4f}", f"{structure.prediction_ml:.4f}"]
            writer.writerow([case.case_id, name, *scores, *volumes])
    return text.getvalue()


def _json(summary: Summary) -> dict[str, Any]:
    return {
        "cases": summary.cases,
        "empty_masks": {"rule": summary.empty, "meaning": EMPTY_RULES[summary.empty]},
        "mean_foreground_dice": summary.mean_foreground_dice,
        "mean_foreground": {m: _null(v) for m, v in summary.mean_foreground.items()},
        "structures": {
            name: {
                metric: {key: _null(value) for key, value in asdict(spread).items()}
                for metric, spread in summary.spreads[name].items()
            }
            for name in summary.names
        },
        "pooled": {name: _null(value) for name, value in summary.pooled.items()},
    }


def _null(value: float) -> float | None:
    return None if isnan(value) else value
