"""A data set inspected: one HTML page, and the same as files for other programs."""

import csv
import io
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.case import allow_repairs
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.layouts.label_names import named_labels
from vol3dseg.datasets.layouts.layout import folder_name
from vol3dseg.datasets.over_cases import worker_processes
from vol3dseg.errors import OutputError
from vol3dseg.files import require_writable, write_json, write_text
from vol3dseg.quality.appearance import rounded
from vol3dseg.quality.case_facts import CaseFacts
from vol3dseg.reporting.inspection.inspection_page import page
from vol3dseg.reporting.inspection.survey import Progress, Survey, draw_cases, survey
from vol3dseg.reporting.inspection.thumbnails import require_pillow
from vol3dseg.working_folder import one_at_a_time
from vol3dseg.written import usable_path

PAGE_NAME = "index.html"
CASES_NAME = "cases.csv"
SUSPECTS_NAME = "suspects.json"


@one_at_a_time("output")
def inspect(
    dataset: str | Path,
    output: str | Path,
    config: Config | str | Path | None = None,
    sample: int = 100,
    workers: int | Executor | None = 1,
    repair: bool = False,
    progress: Progress = lambda stage, total: None,
) -> Survey:
    """Look at the scans and masks of a data set: which cases are unlike the others, and why.

    Writes index.html, which opens in a browser without a network, and cases.csv and suspects.json
    for programs.

    Parameters
    ----------
    dataset : str or Path
        A folder in a layout that `find_cases` knows, or a dataset table.
    output : str or Path
    config : Config, str, Path or None
        A config, the name of a preset, or a YAML file; it names the classes and the modalities
        that a case should have. None expects of every case what any of them has, and names classes
        as dataset.json does, or by their values.
    sample : int
        Cases that get pictures besides the suspects.
    workers : int, Executor or None
        Processes that work on cases side by side, None for one for each core; or an executor.
    repair : bool
        Read files that are wrong where there is a repair; each repair is a reason for suspicion.
    progress : callable
        Called after each case with what is being done and the number of cases.

    Returns
    -------
    Survey

    Raises
    ------
    ConfigError
        The config is not valid.
    DatasetError
        There are no cases, or their layout is not known.
    OutputError
        `output` cannot be written.
    MissingExtraError
        Pillow is not installed.
    """
    require_pillow()
    chosen, source, folder = (
        config and load_config(config),
        Path(dataset),
        usable_path(output, OutputError),
    )
    modalities = chosen.recipe.modalities if chosen else None
    optional = chosen.optional if chosen else ()
    labels = chosen.labels if chosen else named_labels(source)
    cases, layout = allow_repairs(find_cases(source, modalities or ()), repair), layout_of(source)
    require_writable(folder, (PAGE_NAME, CASES_NAME, SUSPECTS_NAME))
    with worker_processes(workers, len(cases)) as executor:
        windows = chosen.recipe.windows if chosen else {}
        found = survey(cases, modalities, labels, executor, progress, windows, optional)
        found = replace(found, title=folder_name(source), layout=layout.name if layout else "")
        gallery = draw_cases(cases, found, labels, sample, executor, progress)
    write_tables(folder, found)
    write_text(folder / PAGE_NAME, page(found, gallery))
    return found


def write_tables(folder: Path, found: Survey) -> None:
    """Write cases.csv, one row for each case, and suspects.json, the most suspicious first."""
    verdicts = {verdict.case_id: verdict for verdict in found.verdicts}
    rows = [
        {
            "case": case.case_id,
            "subject": case.subject,
            "score": verdicts[case.case_id].score,
            "reasons": "; ".join(reason.text for reason in verdicts[case.case_id].reasons),
            "left_out": found.left_out.get(case.case_id, ""),
            "notes": "; ".join(case.notes),
            **_numbers(case),
        }
        for case in found.cases
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    # Not with six decimals, as scores are: intensities may be tiny.
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / CASES_NAME, stream.getvalue())
    write_json(folder / SUSPECTS_NAME, _document(found))


def _numbers(case: CaseFacts) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if (grid := case.geometry) is not None:
        for axis, voxels, spacing_mm in zip("ijk", grid.shape, grid.spacing_mm, strict=True):
            row |= {f"voxels_{axis}": voxels, f"spacing_{axis}_mm": rounded(spacing_mm)}
        row["axes"] = grid.axis_codes
    row |= {f"{name}_ml": rounded(ml) for name, ml in (case.volumes_ml or {}).items()}
    for name, facts in case.modalities.items():
        for fact in ("minimum", "low", "median", "high", "maximum", "mean", "deviation", "noise"):
            row[f"{name}_{fact}"] = getattr(facts, fact)
    row |= {f"contrast_{c}_{m}": value for (c, m), value in case.contrasts.items()}
    return row | {f"correlation_{a}_{b}": value for (a, b), value in case.correlations.items()}


def _document(found: Survey) -> dict[str, Any]:
    suspects = [
        {
            "case": verdict.case_id,
            "score": round(verdict.score, 3),
            "reasons": [{**r._asdict(), "score": round(r.score, 3)} for r in verdict.reasons],
        }
        for verdict in found.suspects
    ]
    return {
        "dataset": found.title,
        "cases": len(found.cases),
        "suspects": suspects,
        "left_out": found.left_out,
        "failed": found.failed,
        "tracebacks": {case.case_id: case.traceback for case in found.cases if case.traceback},
        "notes": found.notes,
    }
