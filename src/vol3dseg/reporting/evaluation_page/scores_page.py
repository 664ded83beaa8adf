"""The page of an evaluation: all cases at a glance, those that explain the scores, every number."""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from html import escape
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any

from vol3dseg import __version__
from vol3dseg.evaluation.calibration import Calibration
from vol3dseg.evaluation.scoring import CaseScores, Summary
from vol3dseg.evaluation.structure_scores import SCORES
from vol3dseg.files import write_text
from vol3dseg.inference.record import Record
from vol3dseg.reporting.document import html
from vol3dseg.reporting.evaluation_page.certainty_charts import certainty_section
from vol3dseg.reporting.evaluation_page.score_overview import (
    confusion_section,
    distributions_section,
    summary_section,
)
from vol3dseg.reporting.evaluation_page.score_pictures import pictures_section
from vol3dseg.reporting.evaluation_page.telling_slices import Exhibit
from vol3dseg.reporting.page import html_page, script_json
from vol3dseg.reporting.score_files import SCORES_PAGE
from vol3dseg.reporting.score_report import WHOLE, Evaluation, cases_in_words, notes_of
from vol3dseg.reporting.wording import facts_table

_TITLES = {score.name: score.title for score in SCORES}
_DIGITS = 5
_HEADING = re.compile(r'<h2 id="(\w+)">(.*?)</h2>')
_CONTROLS = """<h2 id="cases">All cases</h2>
<div class="controls" role="group" aria-label="choose rows">
<label>case <input id="search" type="search" placeholder="part of the name"></label>
<label>structure <select id="structure"><option value="">all</option></select></label>
<button id="first" type="button">first</button><button id="previous" type="button">previous</button>
<button id="next" type="button">next</button><button id="last" type="button">last</button>
<span id="status" role="status"></span></div>
<div class="scroll" tabindex="0" role="region" aria-label="scores of all cases">
<table id="rows"><thead></thead><tbody></tbody></table></div>
<noscript><p>The table of all cases needs JavaScript; cases.csv holds the same.</p></noscript>
<script type="application/json" id="data">{data}</script>"""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an evaluation's label maps came from, and the record beside the predictions."""

    predictions: Path
    references: Path
    record: Record | None = None


def write_pages(
    folder: Path,
    found: Evaluation,
    exhibits: Mapping[str, Exhibit],
    sources: Sources,
    executor: Executor | None = None,
) -> None:
    """Write report.html into the folder of an evaluation; with a split into that of each part.

    The executor, if any, makes the pictures.
    """
    for part in found.summaries:
        of_part = folder if part == WHOLE else folder / part
        write_text(of_part / SCORES_PAGE, page(found, part, exhibits, sources, of_part, executor))


def page(
    found: Evaluation,
    part: str,
    exhibits: Mapping[str, Exhibit],
    sources: Sources,
    folder: Path,
    executor: Executor | None = None,
) -> str:
    """Return the whole HTML page of one part, which is to lie in `folder`."""
    cases, summary, cohort = found.cases[part], found.summaries[part], found.cohort_of(part)
    counted = cases_in_words(summary.cases, len(cohort.not_scored))
    of_part = "" if part == WHOLE else f" of part {part}"
    sections = [
        summary_section(summary),
        distributions_section(cases, summary),
        confusion_section(cases),
        pictures_section(cases, exhibits, executor),
        certainty_section(cases),
        case_section(_data(cases, summary)),
        _viewer(cases, exhibits, sources, folder),
        _provenance(summary, sources.record),
    ]
    return page_of(f"Scores{of_part}: {counted}", html(notes_of(cases, cohort)), sections)


def page_of(title: str, head: str, sections: Sequence[str]) -> str:
    """Return a page of sections, of which one has the table of cases, with links to them."""
    heads = [found for text in sections for found in _HEADING.findall(text)]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in heads)
    package = resources.files(__package__)
    return html_page(
        title,
        "\n".join([f'<nav aria-label="sections">{links}</nav>', head, *sections]),
        style=package.joinpath("scores.css").read_text("utf-8"),
        script=package.joinpath("scores.js").read_text("utf-8"),
    )


def case_section(data: Mapping[str, Any]) -> str:
    """Return the table of all cases, which sorts and filters.

    `data` has the names of `cases`, `structures` and `columns`, how many `digits` each column is
    shown with, and `rows` of the number of a case, that of a structure, and the values.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return _CONTROLS.format(data=script_json(text))


def _data(cases: Sequence[CaseScores], summary: Summary) -> dict[str, Any]:
    """Return every score of every case and structure, for the table."""
    names = list(next(iter(cases[0].structures.values())))
    known = any(case.calibration for case in cases)
    rows = []
    for place, case in enumerate(cases):
        sure = list((case.calibration or Calibration()).scores.values()) if known else []
        for number, scores in enumerate(case.structures.values()):
            values = [shortened(scores[name]) for name in names] + [
                shortened(value) for value in sure
            ]
            rows.append([place, number, *values])
    titles = [_TITLES[name] for name in names] + ["ECE", "mean entropy [nat]"] * known
    return {
        "cases": [case.case_id for case in cases],
        "structures": list(summary.names),
        "columns": titles,
        "digits": [digits_of(name) for name in names] + [4, 4] * known,
        "rows": rows,
    }


def digits_of(name: str) -> int:
    """Return how many digits behind the point a score is shown with."""
    ends = {"_mm": 2, "_ml": 3, "_found": 0, "_missed": 0, "_false": 0}
    return next((digits for end, digits in ends.items() if name.endswith(end)), 4)


def shortened(value: float) -> float | None:
    """Return a value with as many digits as a page needs; None where it is undefined."""
    return float(f"{value:.{_DIGITS}g}") if isfinite(value) else None


def _viewer(
    cases: Sequence[CaseScores], exhibits: Mapping[str, Exhibit], sources: Sources, folder: Path
) -> str:
    """Return the command that opens these cases; nothing where there are no images to show."""
    if not any(exhibits[case.case_id].case.images for case in cases):
        return ""
    references, predictions = (_from(folder, p) for p in (sources.references, sources.predictions))
    words = ["vol3dseg", "view", references, "--seg", predictions, "--report", "."]
    note = (
        "In the folder of this page; what stands below a picture, behind the address that this "
        "opens, leads there."
    )
    command = f"<pre><code>{escape(shlex.join(words))}</code></pre>"
    return f'<h2 id="viewer">Look closer</h2>{html([note])}{command}'


def _from(folder: Path, path: Path) -> str:
    """Return a path as it is seen from a folder."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return str(path)


def _provenance(summary: Summary, record: Record | None) -> str:
    """Return what predicted and what judged; nothing of patients, hence nothing of cases."""
    judging = summary.judging
    facts = {"judged by": f"vol3dseg {__version__}"}
    if record is not None:
        facts |= {
            "SHA-256 of the model": record.model_sha256,
            "fingerprint of its recipe": record.fingerprint,
            "ran on": record.provider,
            "views mirrored along": ", ".join(record.mirror) or "no axis",
            "post-processing": record.postprocessing_in_words,
            "predicted with": ", ".join(f"{k} {v}" for k, v in record.versions.items()),
        }
    facts["empty masks"] = judging.empty
    alone = "of lesions alone, by area" if judging.lesions else "not judged"
    facts["surfaces"] = judging.surface or alone
    facts["lesions"] = str(judging.lesions) if judging.lesions else "not told apart"
    table = facts_table(facts)
    return f'<h2 id="provenance">Provenance</h2>{html([table])}'
