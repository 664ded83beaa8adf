"""Hyper-parameters of runs, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vol3dseg.reporting.comparison.runs import RunSummary

NONE = "none"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One hyper-parameter of several runs.

    Parameters
    ----------
    name : str
        Its place in the config, such as "training.loss"; "modalities" and "data..." stand for what
        is not one key there.
    values : tuple of str
        One for each run.
    """

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs do not all share one value."""
        return len(set(self.values)) > 1


def side_by_side(runs: Sequence[RunSummary]) -> tuple[Parameter, ...]:
    """Return all hyper-parameters of the runs, in the order of the config.

    A section that is switched off in some runs is "none" in each of its keys there.
    """
    flat = [parameters_of(run) for run in runs]
    union = list(dict.fromkeys(name for each in flat for name in each))
    order = list(dict.fromkeys(map(_place, union)))
    names = sorted(union, key=lambda name: order.index(_place(name)))
    sections = {name.rpartition(".")[0] for name in names}
    return tuple(
        Parameter(name, tuple(each.get(name, NONE) for each in flat))
        for name in names
        if name not in sections  # "training.augment: none" says what its keys say already
    )


def parameters_of(run: RunSummary) -> dict[str, str]:
    """Return the hyper-parameters of a run by name, as text."""
    config, facts = run.config, run.manifest.members[0]
    data = config.model_dump(mode="json")
    recipe = config.model_recipe.model_dump(mode="json")
    normalisation = recipe.pop("normalisation")
    # One for all modalities is one setting, whichever modalities there are.
    each = list(normalisation.values())
    recipe["normalisation"] = each[0] if each.count(each[0]) == len(each) else normalisation
    recipe.pop("modalities")
    data["training"].pop("modalities")
    return {
        "modalities": " + ".join(config.model_recipe.modalities),
        **_flat("training", data["training"]),
        **_flat("model", data["model"]),
        **_flat("recipe", recipe),
        **_flat("split", data["split"]),
        "labels.read": "; ".join(
            f"{label.name} {' or '.join(map(str, label.read))}" for label in config.labels.classes
        ),
        "labels.required": _text(config.labels.required),
        "data.training_cases": str(facts.cases.get("train", 0)),
        "data.fingerprint": facts.data_fingerprint[:12],
    }


def _place(name: str) -> str:
    """Return the key of the config that stands for `name` whether its section is on or off."""
    return ".".join(name.split(".")[:2])


def _flat(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {name: _text(value)}
    return {
        key: text
        for part, inner in value.items()
        for key, text in _flat(f"{name}.{part}", inner).items()
    }


def _text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or NONE
    return str(value)
