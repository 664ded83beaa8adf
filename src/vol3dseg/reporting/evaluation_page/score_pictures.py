"""The best and the worst cases in pictures: image, reference, prediction, where they differ.

Which case is which in the page is said beside each, with where to go in the viewer.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from html import escape
from math import ceil, isnan, nan
from urllib.parse import quote

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.errors import Vol3dSegError
from vol3dseg.evaluation.scoring import CaseScores, mean_defined
from vol3dseg.evaluation.structure_scores import HD95
from vol3dseg.reporting.evaluation_page.picture_layers import (
    ORDER,
    class_entries,
    difference_entries,
    panels,
)
from vol3dseg.reporting.evaluation_page.telling_slices import Exhibit, Telling, telling_slices
from vol3dseg.reporting.slices import PLANES
from vol3dseg.reporting.svg import legend

WORST, BEST = 6, 3
_LOG = logging.getLogger(__name__)
_NAMED = 8  # structures of a case


def mean_dice(case: CaseScores) -> float:
    """Return the mean Dice of the foreground classes that define it."""
    return mean_defined([case.structures[name]["dice"] for name in case.labels.foreground])


def chosen_cases(cases: Sequence[CaseScores]) -> tuple[list[CaseScores], list[CaseScores]]:
    """Return the worst cases, the worst first, and the best, the best first."""
    ranked = sorted((c for c in cases if not isnan(mean_dice(c))), key=mean_dice)
    worst = min(WORST, ceil(len(ranked) * WORST / (WORST + BEST)))
    return ranked[:worst], ranked[worst:][::-1][:BEST]


def pictures_section(
    cases: Sequence[CaseScores], exhibits: Mapping[str, Exhibit], executor: Executor | None = None
) -> str:
    """Return pictures of the worst and the best cases as HTML; empty where no case has a score."""
    worst, best = chosen_cases(cases)
    if not worst:
        return ""
    shown = {case.case_id: exhibits[case.case_id] for case in worst + best}
    whose = [exhibit.case for exhibit in shown.values()]
    told = dict(over_cases(partial(_told, shown), whose, executor, _untold))
    names = cases[0].labels.foreground
    parts = [
        '<h2 id="pictures">Worst and best cases</h2>',
        '<p class="note">By the mean Dice of foreground classes. Of each plane the slice in which '
        "the two differ most; R: the subject's right, A: front. Entropy is dark where the model "
        "was sure.</p>",
        '<div class="keys">',
        f"<p>classes</p>{legend(class_entries(names))}",
        f"<p>difference</p>{legend(difference_entries())}</div>",
    ]
    number = 0
    for title, chosen in (("Worst", worst), ("Best", best)):
        if chosen:
            parts.append(f'<h3>{title}</h3><div class="cards">')
        for case in chosen:
            parts.append(_card(case, told[case.case_id], number))
            number += 1
        parts.append("</div>" * bool(chosen))
    return "\n".join(parts)


def _told(exhibits: Mapping[str, Exhibit], case: Case) -> tuple[str, Telling | str]:
    """Return the slices of a case, or why there are none."""
    try:
        return case.id, telling_slices(exhibits[case.id])
    except Exception as error:  # noqa: BLE001 - a picture must not fail scores that are written
        return case.id, str(error)


def _untold(case: Case, error: Vol3dSegError) -> tuple[str, Telling | str]:
    return case.id, str(error)


def _card(case: CaseScores, found: Telling | str, number: int) -> str:
    """Return what is shown of a case; what is wrong with its pictures is said there, and logged."""
    scores = escape(_scores_in_words(case))
    head = f"<h4>{escape(case.case_id)} <span>mean Dice {mean_dice(case):.4f}</span></h4>"
    if isinstance(found, str):
        said = " ".join(found.split())
        _LOG.warning("no picture of case %s: %s", case.case_id, said)
        body = f'<p class="note">no picture: {escape(said)}</p>'
    else:
        for note in found.notes:
            _LOG.warning("picture of case %s: %s", case.case_id, note)
        body = "\n".join([panels(found, case.case_id, number), _caption(found, case.case_id)])
    return f'<article class="case">{head}<p class="note">{scores}</p>{body}</article>'


def _scores_in_words(case: CaseScores) -> str:
    """Return the scores of all structures; of many, those with the lowest Dice."""
    known = {name: scores for name, scores in case.structures.items() if not isnan(scores["dice"])}
    shown = list(case.structures)
    if len(shown) > _NAMED:
        shown = sorted(known, key=lambda name: known[name]["dice"])[:_NAMED]
    left = len(case.structures) - len(shown)
    said = " · ".join(f"{name} {_of_structure(case.structures[name])}" for name in shown)
    return said + f" · {left} more" * bool(left)


def _of_structure(scores: Mapping[str, float]) -> str:
    """Return Dice and, where there is one, the distance."""
    if isnan(scores["dice"]):
        return "–"
    distance = scores.get(HD95, nan)
    return f"{scores['dice']:.3f}" + ("" if isnan(distance) else f", HD95 {distance:.1f} mm")


def _caption(found: Telling, case_id: str) -> str:
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in found.notes)
    levels = ", ".join(f"{PLANES[axis]} {found.slices[axis].number}" for axis in ORDER)
    said = "; ".join(
        filter(None, (f"slices: {levels}", f"image: {found.shown}" * bool(found.shown)))
    )
    place = ",".join(f"{mm:.1f}" for mm in found.at_mm)
    link = f"#case={quote(case_id, safe='')}&mm={place}"
    return f'{notes}<p class="note">{escape(said)}; in the viewer: <code>{escape(link)}</code></p>'
