"""What must be said beside the numbers, once for Markdown and HTML alike; plain text."""

from vol3dseg.errors import some_of
from vol3dseg.evaluation.overlap import EMPTY_RULES
from vol3dseg.reporting.comparison.comparison import Comparison

POOLED = (
    "One confusion matrix over all voxels of all cases, averaged over all classes, background "
    "included. Not comparable with the values per case above: large cases weigh more, and the "
    "background lifts the mean."
)
PARAMETERS = "Keys of the config; “none” where a section is switched off."
RESULTS = (
    "Mean of the Dice per case ± standard deviation (number of cases that define it); best of each "
    "column in bold. “Mean in each case” averages the foreground classes that a case defines, "
    "then the cases; “mean of classes” averages the means of the classes, as vol3dseg evaluate "
    "does."
)
DIFFERENCES = (
    "First run minus second, case by case: above 0 the first is better. Cases where either Dice is "
    "undefined are left out; the mean of foreground classes is taken, in each case, over the "
    "classes that both define.",
    "The interval is a 95 % bootstrap interval over cases (BCa, 9999 resamples, fixed seed). Where "
    "it excludes 0, it is bold: other cases like these would hardly turn the sign of the mean "
    "difference; of many such intervals about 5 in 100 miss the true mean. Where it holds 0, these "
    "cases do not show which run is better, which is no proof that both are equal.",
    "p is that of Wilcoxon's signed-rank test, two-sided; cases of equal Dice are left out of the "
    "test (zero method “wilcox”), and without any other p is undefined. p (Holm) is adjusted for "
    "all tests of the table. The intervals are not adjusted.",
    "Each run was trained once: neither interval nor p says anything about the spread between "
    "seeds, so a difference belongs to these two trainings, not to their settings in general.",
)
STRIPS = "A dot is a case, at the same place in every strip; the black line is the mean."
FOREST = "Mean difference with its 95 % interval; filled and black where the interval excludes 0."
CURVES = (
    "Of the validation patches while training, not of whole volumes. A dot marks the epoch that "
    "the run's checkpoint holds. Losses can be compared between runs of one loss function only."
)
_PARTS = {
    "train": "Training cases: this says how well the runs fit what they learned from, not how they "
    "do on new cases.",
    "validation": "The best epoch of a run may have been chosen on these cases, so the scores are "
    "somewhat too good; the test part is free of that.",
}


def title(comparison: Comparison) -> str:
    """Return what is compared, in a line."""
    count = len(comparison.cases)
    return (
        f"{len(comparison.entries)} runs on {count} case{'s' * (count != 1)} "
        f"of the {comparison.part} part"
    )


def cases_note(comparison: Comparison) -> tuple[str, ...]:
    """Return what must be known of the cases: the part that they are, and who lacks some."""
    notes = [_PARTS[comparison.part]] if comparison.part in _PARTS else []
    common, others = set(comparison.cases), dict[tuple[str, ...], list[str]]()
    for entry in comparison.entries:
        extra = tuple(case for case in entry.scores.cases if case not in common)
        others.setdefault(extra, []).append(entry.letter)
    lists = [
        f"{some_of(extra)} (in {', '.join(runs)} only)" for extra, runs in others.items() if extra
    ]
    if lists:
        notes.append(
            f"The runs were judged on different cases. Only the {len(comparison.cases)} that all "
            f"have are compared; left out: {'; '.join(lists)}."
        )
    return tuple(notes)


def empty_note(comparison: Comparison) -> str:
    """Return the rule for empty masks that the scores follow, where their files say it."""
    rule = comparison.entries[0].scores.empty
    return next((text for name, text in EMPTY_RULES.items() if name == rule), "")


def pooled_note(comparison: Comparison) -> str:
    """Return what the pooled table is, and which cases are in it."""
    if all(len(e.scores.cases) == len(comparison.cases) for e in comparison.entries):
        return POOLED
    counts = ", ".join(f"{e.letter} {len(e.scores.cases)}" for e in comparison.entries)
    return f"{POOLED} Here each run stands with all its own cases ({counts})."
