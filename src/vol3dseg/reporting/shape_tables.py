"""Tables of distances and lesions, and the rules that they stand by, in words."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf, isnan

from vol3dseg.evaluation.scoring import CaseScores, Statistics, Summary
from vol3dseg.evaluation.structure_scores import HD95, SCORES, SURFACE_DICE
from vol3dseg.reporting.document import UNDEFINED, Block, Heading, Table, number

# Lesions are counted by how large they are [ml]; powers of ten, since their volumes are spread so.
_VOLUMES_ML = (0.0, 0.1, 1.0, 10.0, inf)
_TITLES = {score.name: score.title for score in SCORES}
_DISTANCES = (HD95, "hd_mm", "assd_mm", SURFACE_DICE)
_LESIONS = ("lesion_dice", "lesion_hd95_mm", "lesion_recall", "lesion_precision")
_COUNTS = ("lesions_found", "lesions_missed", "lesions_false")


def rules_in_words(summary: Summary) -> str:
    """Say by what rules the scores were made; every output says it."""
    judging = summary.judging
    return " ".join([f"Empty masks ({judging.empty}): {judging.rule.meaning}", *judging.in_words()])


def interval(found: Statistics) -> str:
    """Return the 95 % interval of a mean as text; nothing where there is none."""
    return "" if isnan(found.low) else f" [{number(found.low)}, {number(found.high)}]"


def shape_tables(cases: Sequence[CaseScores], summary: Summary) -> list[Block]:
    """Return the tables of distances and of lesions, as far as they were asked for."""
    blocks: list[Block] = []
    if summary.judging.surface:
        blocks += [Heading("Distances"), _distances(cases, summary)]
    if summary.judging.lesions:
        blocks += [Heading("Lesions"), _lesions(cases, summary), _recall(cases, summary)]
    return blocks


def _distances(cases: Sequence[CaseScores], summary: Summary) -> Table:
    """Return means over cases; what is missed may be left out of them."""
    rows = []
    for name, found in summary.statistics.items():
        volumes = [case.structures[name] for case in cases]
        missed = sum(v["reference_ml"] > 0 and v["prediction_ml"] == 0 for v in volumes)
        false = sum(v["reference_ml"] == 0 and v["prediction_ml"] > 0 for v in volumes)
        distances = found[HD95]
        shown = (f"{number(found[s].mean)}{interval(found[s])}" for s in _DISTANCES)
        counts = (str(distances.cases), str(missed), str(false))
        rows.append((name, *counts, *shown, number(distances.median)))
    counted = ("cases with distances", "missed", "seen where there is none")
    titles = (*(_TITLES[score] for score in _DISTANCES), "HD95 [mm], median")
    return Table(("class or region", *counted, *titles), tuple(rows))


def _lesions(cases: Sequence[CaseScores], summary: Summary) -> Table:
    rows = []
    for name, found in summary.statistics.items():
        totals = (
            str(int(sum(_defined(case.structures[name][count] for case in cases))))
            for count in _COUNTS
        )
        means = (f"{number(found[s].mean)}{interval(found[s])}" for s in _LESIONS)
        rows.append((name, *totals, *means))
    columns = ("class or region", *(_TITLES[name] for name in (*_COUNTS, *_LESIONS)))
    return Table(columns, tuple(rows))


def _recall(cases: Sequence[CaseScores], summary: Summary) -> Table:
    """Return how many lesions of each size were found."""
    bounds = list(pairwise(_VOLUMES_ML))
    rows = []
    for name in summary.names:
        every = [lesion for case in cases for lesion in case.lesions.get(name, ())]
        cells = []
        for low, high in bounds:
            of_size = [each for each in every if low < each.volume_mm3 / 1000 <= high]
            found = sum(each.found for each in of_size)
            cells.append(f"{found} of {len(of_size)}" if of_size else UNDEFINED)
        rows.append((name, *cells))
    titles = (
        f"{low:g} to {high:g} ml" if high < inf else f"above {low:g} ml" for low, high in bounds
    )
    return Table(("lesions found", *titles), tuple(rows))


def _defined(values: Iterable[float]) -> list[float]:
    return [value for value in values if not isnan(value)]
