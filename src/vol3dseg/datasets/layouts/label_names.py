"""The names of label values that a data set states: "labels" in `dataset.json`.

Of the Decathlon, {"1": "Anterior"}; of nnU-Net, {"Anterior": 1}, where a list of several values is
a region and names none of them. They are for looking at a data set: what a model learns stands in
a config.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vol3dseg.space.labels import Label, LabelSet

_FILE_NAME = "dataset.json"


def named_labels(*places: Path) -> LabelSet | None:
    """Return the classes that the first of some folders with names for values states, if any."""
    for place in places:
        try:
            stated = json.loads((place / _FILE_NAME).read_bytes())["labels"]
            pairs = [pair for key in stated for pair in _pairs(key, stated[key])]
            return _label_set(dict(pairs))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # what is wrong with it is said where cases are looked for
    return None


def _pairs(key: str, value: Any) -> list[tuple[int, str]]:
    """Return the values that an entry is about, each with its name."""
    if isinstance(value, list) and len(value) != 1:
        return [(int(each), f"value {int(each)}") for each in value]
    value = value[0] if isinstance(value, list) else value
    return [(int(key), value)] if key.isdigit() else [(int(value), key)]


def _label_set(names: dict[int, str]) -> LabelSet | None:
    foreground = sorted(value for value in names if value)
    background = Label(name=names.get(0, "background"), read=(0,), write=0)
    own = [Label(name=names[v], read=(v,), write=n) for n, v in enumerate(foreground, start=1)]
    try:
        return LabelSet(classes=(background, *own))
    except ValidationError:
        return None
