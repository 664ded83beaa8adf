"""The page: an overview, then all cases, suspects first, twenty at a time."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from typing import Any

from vol3dseg.quality.case_facts import CaseFacts, ModalityFacts
from vol3dseg.quality.suspects import Verdict
from vol3dseg.reporting.inspection.overview import describe_grid, legend, overview
from vol3dseg.reporting.inspection.survey import Gallery, Survey
from vol3dseg.reporting.inspection.thumbnails import Picture, colour_of
from vol3dseg.reporting.page import html_page, script_json

_PER_MILLE = 1000  # histograms are sent in whole thousandths of their sum
_CONTROLS = """<h2 id="cases">Cases, suspects first</h2>
{legend}
<div class="controls" role="group" aria-label="choose cases">
<label>case <input id="search" type="search" placeholder="part of the name"></label>
<label>show <select id="kind"><option value="all">all</option>
<option value="suspects">suspects only</option><option value="left_out">left out only</option>
<option value="drawn">with pictures only</option></select></label>
<button id="first" type="button">first</button><button id="previous" type="button">previous</button>
<button id="next" type="button">next</button><button id="last" type="button">last</button>
<span id="status" role="status"></span></div>
<div id="list"></div>
<noscript><p>The list of cases needs JavaScript; suspects.json and cases.csv hold the same.</p>
</noscript>
<script type="application/json" id="data">{data}</script>"""


def page(found: Survey, gallery: Gallery) -> str:
    """Return the whole HTML page."""
    package = resources.files(__package__)
    data = json.dumps(_data(found, gallery), separators=(",", ":"), allow_nan=False)
    controls = _CONTROLS.format(legend=legend(found.classes), data=script_json(data))
    return html_page(
        f"Inspection of {found.title}",
        overview(found, gallery.example) + controls,
        style=package.joinpath("inspection.css").read_text("utf-8"),
        script=package.joinpath("inspection.js").read_text("utf-8"),
    )


def _data(found: Survey, gallery: Gallery) -> dict[str, Any]:
    facts = {case.case_id: case for case in found.cases}
    return {
        "classes": found.classes,
        "colours": [colour_of(number) for number in range(len(found.classes))],
        "whole": _whole(found),
        "cases": [
            _case(verdict, facts[verdict.case_id], found, gallery.drawings.get(verdict.case_id, ()))
            for verdict in found.verdicts
        ],
    }


def _whole(found: Survey) -> dict[str, Any]:
    """Return a histogram for each modality, in which cases weigh alike.

    It is of the cases that have the commonest scale, since not all may be in one unit.
    """
    result = {}
    for name in found.modalities:
        every = found.facts_of(name)
        if every:
            ((scale, cases),) = Counter(facts.scale for facts in every).most_common(1)
            shares = [_shares(facts.histogram) for facts in every if facts.scale == scale]
            sums = [sum(column) for column in zip(*shares, strict=True)]
            note = f"{cases} case{'s, each of equal weight' if cases > 1 else ''}"
            note += f"; {len(every) - cases} have another scale" * (cases < len(every))
            result[name] = {"histogram": sums, "note": note, "scale": scale}
    return result


def _shares(counts: Sequence[int]) -> list[int]:
    total = max(sum(counts), 1)
    return [round(_PER_MILLE * count / total) for count in counts]


def _case(
    verdict: Verdict, facts: CaseFacts, found: Survey, pictures: Sequence[Picture]
) -> dict[str, Any]:
    return {
        "id": verdict.case_id,
        "score": _short(verdict.score),
        "reasons": [reason.text for reason in verdict.reasons],
        "left_out": found.left_out.get(verdict.case_id, ""),
        "notes": facts.notes,
        "readable": bool(facts.modalities),
        "grid": facts.geometry and describe_grid(facts.geometry),
        "volumes": facts.volumes_ml and {n: _short(v) for n, v in facts.volumes_ml.items()},
        "modalities": {name: _modality(each) for name, each in facts.modalities.items()},
        "pictures": [_picture(picture) for picture in pictures] or None,
    }


def _modality(facts: ModalityFacts) -> dict[str, Any]:
    names = ("minimum", "low", "median", "high", "maximum", "inside", "noise")
    numbers = {name: _short(getattr(facts, name)) for name in names}
    return {**numbers, "histogram": _shares(facts.histogram), "scale": facts.scale}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _picture(picture: Picture) -> dict[str, Any]:
    return {"src": picture.uri, "captions": picture.captions, "alt": picture.alternative}
