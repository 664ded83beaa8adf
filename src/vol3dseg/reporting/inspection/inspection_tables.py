"""Facts and suspects as files for other programs."""

import csv
import io
from pathlib import Path
from typing import Any

from vol3dseg.files import write_json, write_text
from vol3dseg.quality.case_facts import CaseFacts
from vol3dseg.reporting.inspection.survey import Survey

CASES_NAME = "cases.csv"
SUSPECTS_NAME = "suspects.json"


def write_tables(folder: Path, found: Survey) -> None:
    """Write cases.csv, one row for each case, and suspects.json, the most suspicious first."""
    reasons = {v.case_id: "; ".join(r.text for r in v.reasons) for v in found.verdicts}
    scores = {verdict.case_id: verdict.score for verdict in found.verdicts}
    rows = []
    for case in found.cases:
        row = {"case": case.case_id, "subject": case.subject, "score": scores[case.case_id]}
        row |= {"reasons": reasons[case.case_id], "left_out": found.left_out.get(case.case_id, "")}
        rows.append(row | _numbers(case))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / CASES_NAME, stream.getvalue())
    write_json(folder / SUSPECTS_NAME, _document(found))


def _numbers(case: CaseFacts) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if case.geometry is not None:
        for axis, n in zip("ijk", range(3), strict=True):
            row[f"voxels_{axis}"] = case.geometry.shape[n]
            row[f"spacing_{axis}_mm"] = round(case.geometry.spacing_mm[n], 6)
        row["axes"] = case.geometry.axis_codes
    for name, volume_ml in (case.volumes_ml or {}).items():
        row[f"{name}_ml"] = round(volume_ml, 6)
    for name, facts in case.modalities.items():
        for fact in ("minimum", "low", "median", "high", "maximum", "mean", "deviation", "noise"):
            row[f"{name}_{fact}"] = getattr(facts, fact)
    row |= {f"contrast_{c}_{m}": value for (c, m), value in case.contrasts.items()}
    return row | {f"correlation_{a}_{b}": value for (a, b), value in case.correlations.items()}


def _document(found: Survey) -> dict[str, Any]:
    return {
        "dataset": found.title,
        "cases": len(found.cases),
        "suspects": [
            {
                "case": verdict.case_id,
                "score": round(verdict.score, 3),
                "reasons": [
                    {"kind": r.kind, "text": r.text, "score": round(r.score, 3)}
                    for r in verdict.reasons
                ],
            }
            for verdict in found.suspects
        ],
        "left_out": found.left_out,
    }
