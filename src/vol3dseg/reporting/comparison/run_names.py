"""What runs are called: by what they are, told apart by as little as needed."""

from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase

from vol3dseg.reporting.comparison.parameters import side_by_side
from vol3dseg.reporting.comparison.runs import RunSummary

_WORDS = {
    "cross_entropy": "cross-entropy",
    "dice_cross_entropy": "Dice + cross-entropy",
    "dice": "Dice",
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
}
# What tells two runs of one name apart best comes first; what is in no list comes last.
_FIRST = ("model.norm", "training.learning_rate", "training.schedule", "model.depth", "model.width")
_LAST = (
    "training.micro_batch", "training.seed", "split.seed", "data.training_cases",
    "data.fingerprint",
)  # fmt: skip
# In every name already, or of no meaning for what a run is.
_NEVER = (
    "modalities", "training.loss", "training.optimizer", "training.batch_size", "training.epochs",
    "training.workers", "training.cache_mb", "labels.read",
)  # fmt: skip


def run_name(run: RunSummary) -> str:
    """Return what a run is, in a line: modalities, loss, optimizer, batch size, epochs."""
    training = run.config.training
    modalities = " + ".join(run.config.model_recipe.modalities)
    return (
        f"{modalities}, {_word(training.loss)}, {_word(training.optimizer)}, "
        f"batch {training.batch_size}, {training.epochs} epoch{'s' * (training.epochs != 1)}"
    )


def run_names(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """Return a name for each run, no two alike.

    Runs that `run_name` calls the same get what differs between them, one hyper-parameter after
    another until they are told apart; if nothing does, the name of their folder; if even those are
    the same, its path.
    """
    names = [run_name(run) for run in runs]
    for name in [name for name, times in Counter(names).items() if times > 1]:
        alike = [place for place, other in enumerate(names) if other == name]
        told = _told_apart(name, [runs[place] for place in alike])
        for place, new in zip(alike, told, strict=True):
            names[place] = new
    return tuple(names)


def letters(count: int) -> tuple[str, ...]:
    """Return short names: A to Z, then AA, AB and so on."""
    return tuple(_letter(number) for number in range(count))


def _letter(number: int) -> str:
    before, last = divmod(number, len(ascii_uppercase))
    return (_letter(before - 1) if before else "") + ascii_uppercase[last]


def _told_apart(name: str, runs: Sequence[RunSummary]) -> list[str]:
    names = [name] * len(runs)
    differing = [p for p in side_by_side(runs) if p.differs and p.name not in _NEVER]
    for parameter in sorted(differing, key=lambda p: _rank(p.name)):
        longer = _joined(names, [_setting(parameter.name, value) for value in parameter.values])
        if len(set(longer)) > len(set(names)):
            names = longer
        if len(set(names)) == len(runs):
            return names
    by_folder = _joined(names, [run.folder.resolve().name for run in runs])
    if len(set(by_folder)) == len(runs):
        return by_folder
    return _joined(names, [str(run.folder) for run in runs])


def _joined(names: Sequence[str], tails: Sequence[str]) -> list[str]:
    return [f"{name}, {tail}" for name, tail in zip(names, tails, strict=True)]


def _rank(key: str) -> int:
    if key in _FIRST:
        return _FIRST.index(key) - len(_FIRST)
    return _LAST.index(key) + 1 if key in _LAST else 0


def _setting(key: str, value: str) -> str:
    """Return a setting in words: "learning rate 0.001", "early stopping patience none"."""
    words = " ".join(key.split(".")[1:]).replace("_", " ")
    return f"{value} norm" if key == "model.norm" else f"{words} {value}"


def _word(value: str) -> str:
    return _WORDS.get(value, value.replace("_", " "))
