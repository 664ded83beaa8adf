"""Which prediction is judged by which reference, and why other cases are not judged."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vol3dseg.datasets.case import Case, allow_repairs, spelled
from vol3dseg.datasets.selection import label_files, reference_cases
from vol3dseg.datasets.splits import PARTS, Split
from vol3dseg.errors import EvaluationError, Vol3dSegError, some_of
from vol3dseg.formats import is_companion, label_stem
from vol3dseg.inference.output_files import VOLUMES
from vol3dseg.inference.record import RECORD_NAME, CaseRecord, Record

Pair = tuple[str, Path, Case]
Parts = Mapping[str, tuple[str, ...]]


# What scores of a part are worth.
WORTH = {
    "train": "Training cases: they show how well a model fits what it learned from, not how it "
    "does on new cases.",
    "validation": "The best epoch of a model may have been chosen on these cases, so the scores "
    "are somewhat too good; the test part is free of that.",
}


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who is scored, and who is not."""

    not_scored: Mapping[str, str] = field(default_factory=dict)  # cases, with what they lack
    parts: Parts = field(default_factory=dict)  # of the scored cases, as far as known
    notes: tuple[str, ...] = ()
    # Of the cases that are not scored, those that failed when they were, with their errors.
    failed: Mapping[str, Vol3dSegError] = field(default_factory=dict)

    def of(self, part: str, members: Collection[str]) -> "Cohort":
        """Return what concerns one part of a split."""
        missing = {case: why for case, why in self.not_scored.items() if case in members}
        failed = {case: error for case, error in self.failed.items() if case in members}
        return Cohort(missing, {part: self.parts[part]}, failed=failed)

    def without(self, failed: Mapping[str, Vol3dSegError]) -> "Cohort":
        """Return who is left when the scoring of some has failed."""
        parts = {part: tuple(c for c in of if c not in failed) for part, of in self.parts.items()}
        why = {case: error.found for case, error in failed.items()}
        return Cohort({**self.not_scored, **why}, _without_empty(parts), self.notes, failed)

    def in_words(self, scored: int) -> tuple[str, ...]:
        """Say who is not scored of how many, and what the others are to the model."""
        total, missing = scored + len(self.not_scored), len(self.not_scored)
        lacking = f"{missing} of {total} cases are not scored ({by_reason(self.not_scored)})"
        said = (lacking if missing else "", *self.notes, self._parts_in_words(scored))
        return tuple(filter(None, said))

    def _parts_in_words(self, scored: int) -> str:
        counts = {part: len(cases) for part, cases in self.parts.items()}
        other = scored - sum(counts.values())
        if len(counts) == 1 and not other:
            (part,) = counts
            return WORTH.get(part, "")
        if not counts:
            return ""
        said = ", ".join(f"{n} {part}" for part, n in (counts | {"others": other}).items() if n)
        return (
            f"The means mix parts of a split ({said}): a model does better on cases that it "
            "learned from; --split scores each part by itself"
        )


@dataclass(frozen=True, slots=True)
class Folders:
    """Predictions with their record, which may be empty, and the cases that they are judged by."""

    files: Mapping[str, Path]
    cases: Mapping[str, Case]
    record: Record | None
    passed_over: tuple[str, ...] = ()  # files of cases for which the record names another

    @classmethod
    def read(
        cls, predictions: Path, references: Path, record: Record | None, repair: bool
    ) -> "Folders":
        """Look what is there; no label map is opened."""
        made = record.cases if record else {}
        files = predicted_files(predictions, record)
        others = [
            path.name
            for path in sorted(predictions.iterdir())
            if (name := spelled(label_stem(path) or "")) in files.keys() & made.keys()
            and path != files[name]
            and not is_companion(path)
        ]
        cases = {c.id: c for c in allow_repairs(reference_cases(references).values(), repair)}
        return cls(files, cases, record, tuple(others))

    @property
    def made(self) -> Mapping[str, CaseRecord]:
        """What is recorded of each case."""
        return self.record.cases if self.record else {}

    @property
    def predicted(self) -> tuple[str, ...]:
        """Cases that have a prediction, or were to have one."""
        return tuple(dict.fromkeys([*self.files, *self.made]))

    @property
    def labelled(self) -> tuple[str, ...]:
        """Cases that have a label map to be judged by."""
        return tuple(name for name, case in self.cases.items() if case.label is not None)

    def lacking(self, name: str) -> str:
        """Return why a case cannot be scored; empty where it can."""
        reference = self.cases.get(name)
        labelled = reference is not None and reference.label is not None
        if name in self.files and self.made and name not in self.made:
            return f"not in {RECORD_NAME}"
        if name in self.made and self.made[name].error:
            return "prediction failed"
        if name not in self.files:
            return "no prediction" if labelled else "neither prediction nor reference"
        if not labelled:
            return "no label map in the references" if reference else "no reference"
        return ""


def predicted_files(folder: Path, record: Record | None) -> dict[str, Path]:
    """Return the label maps of a folder of predictions, by case; see `label_files`."""
    made = record.cases if record else {}
    # A case that failed must not count with the file of an older model.
    failed = {name for name, case in made.items() if case.error}
    written = {Path(case.file).name for case in made.values()}
    named = called(record) if record else None
    files = label_files(folder, written, no_label_maps(made) | failed, named)
    if named is not None:  # an older one of a case that failed has no case
        files = {name: path for name, path in files.items() if name in made}
    return files


def called(record: Record) -> dict[str, str] | None:
    """Return the cases of label maps by their names; None where they are named like cases."""
    if not record.dataset:
        return None
    files = ((name, Path(case.file)) for name, case in record.cases.items() if case.file)
    return {spelled(label_stem(path) or ""): name for name, path in files}


def no_label_maps(made: Mapping[str, CaseRecord]) -> set[str]:
    """Return the names, without their endings, of what stands beside predictions."""
    beside = {
        spelled(label_stem(Path(name)) or "") for case in made.values() for name in case.beside
    }
    # What an older run has left of a case that failed in this one is not named any more.
    left = {f"{case}_{kind}" for case in made for kind in VOLUMES}
    return (beside | left) - made.keys()


def match(
    found: Folders, split: Split | None, source: str, only_common: bool = False
) -> tuple[list[Pair], Cohort]:
    """Return what is scored against what, and who that is.

    Every case that is meant must have a prediction and a reference. With `only_common` those that
    have not are left out, and named. `source` names the split in errors.
    """
    meant, notes = _meant(found, split, source)
    lacks = {name: found.lacking(name) for name in meant}
    not_scored = {name: reason for name, reason in lacks.items() if reason}
    if not_scored and not only_common:
        _refuse(not_scored, found)
    scored = [name for name in meant if not lacks[name]]
    if not scored:
        raise EvaluationError(
            f"no case can be scored ({by_reason(not_scored)})",
            expected="a prediction and a reference of at least one",
            remedy="name both alike",
        )
    part_of = _part_of(split) if split else found.record.part_of if found.record else {}
    parts = {part: tuple(c for c in scored if part_of.get(c) == part) for part in PARTS}
    pairs = [(name, found.files[name], found.cases[name]) for name in scored]
    return pairs, Cohort(not_scored, _without_empty(parts), tuple(notes))


def _meant(found: Folders, split: Split | None, source: str) -> tuple[list[str], list[str]]:
    """Return the cases that are to be scored, and notes on what else there is.

    Those are all that have a prediction or a reference. A split, given here or to predict, means
    its own cases alone, and those of its parts that were predicted.
    """
    notes = [f"{name} is passed over: {RECORD_NAME} names another" for name in found.passed_over]
    if split is not None:
        parts = group_by_part(found.predicted, split, source)
        _require_same_parts(found, parts, source)
        meant = [case for part in parts for case in split.part(part)]
        known, why = set(split.ids), "in no part of the split"
    elif found.record and found.record.parts:
        meant, known = list(found.predicted), set(found.predicted)
        why = "not of the parts of the split that predict was given"
    else:
        return list(dict.fromkeys([*found.predicted, *found.labelled])), notes
    others = sum(case not in known for case in found.labelled)
    return meant, notes + [f"{others} of the references are {why}, hence not meant"] * bool(others)


def by_reason(not_scored: Mapping[str, str]) -> str:
    """Return cases by what they lack, in a line."""
    reasons = dict.fromkeys(not_scored.values())
    named = {why: [c for c, each in not_scored.items() if each == why] for why in reasons}
    return "; ".join(f"{why}: {some_of(cases)}" for why, cases in named.items())


def _refuse(not_scored: Mapping[str, str], found: Folders) -> None:
    strangers = [name for name in found.files if name not in found.cases]
    names = f", named alike; references are {some_of(list(found.cases))}" if strangers else ""
    raise EvaluationError(
        f"not every case can be scored ({by_reason(not_scored)})",
        expected=f"a prediction and a reference of each{names}",
        remedy="add what is missing, or score the others alone with --only-common, which names "
        "these in the report",
    )


def group_by_part(cases: Iterable[str], split: Split, source: str) -> dict[str, tuple[str, ...]]:
    """Return the cases in each part of a split that has any, in the order given."""
    part_of = _part_of(split)
    stray = [case for case in cases if case not in part_of]
    if stray:
        raise EvaluationError(
            f"predictions that are in no part: {', '.join(stray)}",
            where=source,
            expected="a part for each",
            remedy="give the split that they were made by, or evaluate without --split",
        )
    return _without_empty({p: tuple(c for c in cases if part_of[c] == p) for p in PARTS})


def _require_same_parts(found: Folders, parts: Parts, source: str) -> None:
    """Refuse another split than that of predict: what one tests on, the other may train on."""
    before = found.record.part_of if found.record else {}
    now = {case: part for part, cases in parts.items() for case in cases}
    differing = [c for c, part in now.items() if before.get(c, part) != part]
    if differing:
        pairs = [f"{case} into {now[case]}, not {before[case]}" for case in differing]
        raise EvaluationError(
            f"puts {some_of(pairs)}",
            where=source,
            expected="the split that the model was trained with, or that predict was given",
            remedy="give that one",
        )


def _part_of(split: Split) -> dict[str, str]:
    return {case: part for part in PARTS for case in split.part(part)}


def _without_empty(parts: Parts) -> dict[str, tuple[str, ...]]:
    return {part: cases for part, cases in parts.items() if cases}


NOBODY = Cohort()  # where nothing is to be said of who is scored
