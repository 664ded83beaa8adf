"""How well a model does on cases that it has not learned from, with all modalities and with fewer.

A model that is trained with `training.modality_dropout` may be given scans that lack some of its
modalities. What that costs is part of the model, and is said of each such scan.
"""

from collections.abc import Sequence

from vol3dseg.schema import Count, Frozen, Share


class ValidationScores(Frozen):
    """Whole-volume scores on cases that were not learned from, through the deployed predictor.

    Those of the validation part; of a cross-validation, those that its folds hold out.

    Attributes
    ----------
    cases : int
    dice : mapping from class or region to mean Dice, None where no case has it
    mean_dice : float or None
        Mean over foreground classes.
    notes : tuple of str
        What is to be known of these cases.
    """

    cases: Count
    dice: dict[str, Share | None]
    mean_dice: Share | None
    notes: tuple[str, ...] = ()


class ScoresWithout(Frozen):
    """Scores of the validation cases that lack nothing, shown without some modalities.

    Attributes
    ----------
    missing : tuple of str
        In the order of the recipe; none for the scores that the others are compared with.
    scores : ValidationScores
    """

    missing: tuple[str, ...]
    scores: ValidationScores


def missing_in_words(missing: Sequence[str], scores: Sequence[ScoresWithout]) -> str:
    """Say which modalities a scan lacks and what that costs; empty where it lacks none."""
    if not missing:
        return ""
    named = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    by_missing = {each.missing: each.scores for each in scores}
    without, complete = by_missing.get(tuple(missing)), by_missing.get(())
    if without is None or complete is None:
        return f"{named}, and no validation case tells what that costs"
    classes = (
        f"{name} {_shown(dice)} instead of {_shown(complete.dice.get(name))}"
        for name, dice in without.dice.items()
    )
    return (
        f"{named}: without, mean Dice of {without.cases} validation cases is "
        f"{_shown(without.mean_dice)} instead of {_shown(complete.mean_dice)}; {', '.join(classes)}"
    )


def pooled_without(members: Sequence[Sequence[ScoresWithout]]) -> tuple[ScoresWithout, ...]:
    """Return the means of several networks over all their cases, where all tell of the same.

    Of the average of the networks nobody knows: each of its cases is one that a member has seen.
    """
    told = [{each.missing: each.scores for each in scores} for scores in members]
    if not told or any(each.keys() != told[0].keys() for each in told):
        return ()
    return tuple(
        ScoresWithout(missing=missing, scores=_mean([each[missing] for each in told]))
        for missing in told[0]
    )


def _mean(several: Sequence[ValidationScores]) -> ValidationScores:
    dice = {
        name: _weighted([(s.cases, s.dice.get(name)) for s in several]) for name in several[0].dice
    }
    return ValidationScores(
        cases=sum(each.cases for each in several),
        dice=dice,
        mean_dice=_weighted([(each.cases, each.mean_dice) for each in several]),
        notes=("each by a single fold",),
    )


def _weighted(values: Sequence[tuple[int, float | None]]) -> float | None:
    known = [(cases, value) for cases, value in values if value is not None]
    total = sum(cases for cases, _ in known)
    return sum(cases * value for cases, value in known) / total if total else None


def _shown(dice: float | None) -> str:
    return "undefined" if dice is None else f"{dice:.3f}"
