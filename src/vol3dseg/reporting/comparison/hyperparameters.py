"""Hyper-parameters of runs side by side, and the names that runs get from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from vol3dseg.datasets.layouts.layout import folder_name
from vol3dseg.reporting.comparison.runs import RunSummary

_NONE = "none"
_SPELLED = {
    "cross_entropy": "cross-entropy",
    "dice_cross_entropy": "Dice + cross-entropy",
    "dice": "Dice",
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
}
# What distinguishes two runs of one name best comes first; "" stands for what is not listed.
_ORDER = (
    "model.norm", "training.learning_rate", "training.schedule", "model.depth", "model.width", "",
    "training.micro_batch", "training.seed", "split.seed", "data.training_cases",
    "data.fingerprint",
)  # fmt: skip
# In every name already, or of no meaning for what a run is.
_NEVER = (
    "modalities", "training.loss", "training.optimizer", "training.batch_size", "training.epochs",
    "training.workers", "training.cache_mb", "labels.read",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyper-parameter, named by its place in the config, or "data..."; a value for each run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs do not all share one value."""
        return len(set(self.values)) > 1


def side_by_side(runs: Sequence[RunSummary]) -> tuple[Parameter, ...]:
    """Return all hyper-parameters in the order of the config; what is switched off is "none"."""
    flat = [_parameters(run) for run in runs]
    union = list(dict.fromkeys(name for each in flat for name in each))
    order = list(dict.fromkeys(map(_key, union)))
    names = sorted(union, key=lambda name: order.index(_key(name)))
    sections = {name.rpartition(".")[0] for name in names}
    return tuple(
        Parameter(name, tuple(each.get(name, _NONE) for each in flat))
        for name in names
        if name not in sections  # "training.augment: none" says what its keys say already
    )


def run_names(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """Return what each run is: modalities, loss, optimizer, batch size, epochs; no two alike.

    Runs of one name get what differs between them, one hyper-parameter after another until they
    are told apart; if nothing does, the name of their folder; if even those are the same, its path.
    """
    short = [_short_name(run) for run in runs]
    alike: dict[str, list[RunSummary]] = {}
    for run, name in zip(runs, short, strict=True):
        alike.setdefault(name, []).append(run)
    told = {name: iter(_told_apart(name, of_name)) for name, of_name in alike.items()}
    return tuple(next(told[name]) for name in short)


def letter(number: int) -> str:
    """Return the short name of a run, from 0: A to Z, then AA, AB and so on."""
    before, last = divmod(number, len(ascii_uppercase))
    return (letter(before - 1) if before else "") + ascii_uppercase[last]


def _short_name(run: RunSummary) -> str:
    training = run.config.training
    modalities = " + ".join(run.config.model_recipe.modalities)
    loss, optimizer = (
        _SPELLED.get(v, v.replace("_", " ")) for v in (training.loss, training.optimizer)
    )
    epochs = f"{training.epochs} epoch{'s' * (training.epochs != 1)}"
    return f"{modalities}, {loss}, {optimizer}, batch {training.batch_size}, {epochs}"


def _told_apart(name: str, runs: Sequence[RunSummary]) -> list[str]:
    differing = [p for p in side_by_side(runs) if p.differs and p.name not in _NEVER]
    differing.sort(key=lambda p: _ORDER.index(p.name if p.name in _ORDER else ""))
    tails = [[_setting(p.name, value) for value in p.values] for p in differing]
    tails += [[folder_name(run.folder) for run in runs], [str(run.folder) for run in runs]]
    names = [name] * len(runs)
    for tail in tails:
        longer = [f"{each}, {text}" for each, text in zip(names, tail, strict=True)]
        if len(set(longer)) > len(set(names)):
            names = longer
    return names


def _setting(name: str, value: str) -> str:
    """Return a setting as people say it: "learning rate 0.001", "batch norm"."""
    said = " ".join(name.split(".")[1:]).replace("_", " ")
    return f"{value} norm" if name == "model.norm" else f"{said} {value}"


def _parameters(run: RunSummary) -> dict[str, str]:
    """Return the hyper-parameters of a run by name, as text."""
    config, facts = run.config, run.training
    data = config.model_dump(mode="json")
    recipe = config.model_recipe.model_dump(mode="json")
    # One for all modalities is one setting, whichever modalities there are.
    first, *others = recipe["normalisation"].values()
    if all(other == first for other in others):
        recipe["normalisation"] = first
    del recipe["modalities"], data["training"]["modalities"]
    return {
        "modalities": " + ".join(config.model_recipe.modalities),
        **_flat("training", data["training"]),
        **_flat("model", data["model"]),
        **_flat("recipe", recipe),
        **_flat("split", data["split"]),
        "labels.read": "; ".join(
            f"{label.name} {label.values_in_words}" for label in config.labels.classes
        ),
        "labels.ignore": _text(config.labels.ignore),
        "labels.required": _text(config.labels.required),
        "data.training_cases": str(facts.cases.get("train", 0)),
        "data.fingerprint": facts.data_fingerprint[:12],
    }


def _key(name: str) -> str:
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
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or _NONE
    return str(value)
