"""Cases in which nobody has looked for some classes: how losses and metrics are told.

What is background in the label map of such a case may be one of those classes. Its patches have
another index there, and a table says which classes each index stands for. A loss then asks for the
probability of all of them together, as the marginal loss of Shi et al., "Marginal loss and
exclusion loss for partially supervised multi-organ segmentation", Medical Image Analysis 2021; and
the Dice of a class leaves out voxels that may or may not be of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.labels import IGNORED, LabelSet

Partial = Sequence[Sequence[int]]  # class indices that were not looked for, for each kind of case


def partial_of(cases: Iterable[StoredCase], labels: LabelSet) -> tuple[tuple[int, ...], ...]:
    """Return each choice of classes that was not looked for in one of the cases."""
    found = {labels.indices(case.unannotated) for case in cases if case.unannotated}
    if len(labels.classes) + len(found) > IGNORED:
        raise StoreError(
            f"has {len(found)} choices of classes that were not looked for",
            expected=f"at most {IGNORED - len(labels.classes)}, beside {len(labels.classes)} "
            "classes in a byte",
            remedy="train on fewer classes, or on cases that were annotated more alike",
        )
    return tuple(sorted(found))


def with_indices(
    cases: Mapping[str, StoredCase], labels: LabelSet, partial: Partial
) -> dict[str, StoredCase]:
    """Return the cases with the index that stands for what may be background in each."""
    choices = [tuple(each) for each in partial]
    return {
        name: replace(case, background=index_of(choices.index(labels.indices(case.unannotated))))
        if case.unannotated
        else case
        for name, case in cases.items()
    }


def index_of(choice: int) -> int:
    """Return the index of a choice by its number: those below what is ignored."""
    return IGNORED - 1 - choice


def allowed_classes(classes: int, partial: Partial) -> NDArray[np.float32]:
    """Return the (256, class) table of what an index in a label map may be: 1, or 0.

    A class is itself; what is ignored is nothing.
    """
    table = np.zeros((IGNORED + 1, classes), np.float32)
    table[range(classes), range(classes)] = 1
    for number, unannotated in enumerate(partial):
        table[index_of(number), [0, *unannotated]] = 1
    return table


def judged_as(classes: int, partial: Partial) -> NDArray[np.int32]:
    """Return the (256, class) table of true classes, by the index of a voxel and what is found.

    What may be background, and is taken for what it may be, is not judged.
    """
    table = np.repeat(np.arange(IGNORED + 1, dtype=np.int32)[:, None], classes, axis=1)
    allowed = allowed_classes(classes, partial)
    for number in range(len(partial)):
        index = index_of(number)
        table[index] = np.where(allowed[index] > 0, IGNORED, 0)
    return table
