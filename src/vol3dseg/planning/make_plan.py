"""A plan: a config for a data set, by stated rules, with the reason of every choice."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import Config
from vol3dseg.datasets.case import Case, allow_repairs
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.layout import folder_name
from vol3dseg.datasets.over_cases import worker_processes
from vol3dseg.errors import OutputError
from vol3dseg.files import require_writable, write_text
from vol3dseg.machine import available_mb, usable_cores
from vol3dseg.planning.choices import Choice, config_of, yaml_of_choices
from vol3dseg.planning.class_rules import (
    choose_crop,
    choose_labels,
    choose_normalisation,
    stated_names,
)
from vol3dseg.planning.draft import Draft, Limits, settled
from vol3dseg.planning.fingerprint import Fingerprint, take_fingerprint
from vol3dseg.planning.grid_rules import choose_spacing
from vol3dseg.planning.learning_rules import (
    Parts,
    choose_augment,
    choose_folds,
    choose_length,
    choose_parts,
    choose_sampling,
    few_in_words,
)
from vol3dseg.planning.memory_model import USABLE, MemoryEstimate
from vol3dseg.planning.patch_fit import patch_warnings
from vol3dseg.planning.reasons import design_choices
from vol3dseg.planning.recommended import recommended
from vol3dseg.planning.step_speed import Measure, measuring
from vol3dseg.planning.workload import Speed, Workload
from vol3dseg.space.labels import LabelSet
from vol3dseg.written import usable_path

MINUTES = 30.0
_UNKNOWN_MB = 8192.0  # where the system does not tell what is free
_MOST_WORKERS = 8
_CACHE_SHARE = 0.25  # of memory, for cases that are kept open
_MOST_CACHE_MB = 2048


@dataclass(frozen=True, slots=True)
class Plan:
    """A config for a data set, and what it rests on.

    Parameters
    ----------
    config : Config
    text : str
        The config as YAML, with a comment at each choice.
    work : Workload
        What the training has to do.
    speed : Speed
        How fast this machine does it.
    notes, warnings : tuple of str
        What the user should know, in words.
    """

    config: Config
    text: str
    work: Workload
    speed: Speed
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def memory(self) -> MemoryEstimate:
        """Memory of the training at its peak."""
        return self.work.memory(self.config, self.speed)

    @property
    def seconds(self) -> float:
        """Time of the training, from its start to its end [s]."""
        return self.work.seconds(self.config, self.speed)

    def __str__(self) -> str:
        model, training, recipe = self.config.model, self.config.training, self.config.recipe
        sides = "x".join(map(str, recipe.patch_size))
        classes = _counted(len(self.config.labels.foreground), "class", "classes")
        return (
            f"planned: {classes}, {_counted(len(recipe.modalities), 'modality', 'modalities')}, "
            f"patches of {sides} voxels, batch {training.batch_size}, depth {model.depth}, width "
            f"{model.width}, {_counted(training.epochs, 'epoch', 'epochs')}; "
            f"{self.memory.total_mb / 1024:.1f} GB, {self.seconds / 60:.0f} minutes"
        )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def plan(
    dataset: str | Path | Sequence[Case],
    output: str | Path | None = None,
    memory_mb: float | None = None,
    minutes: float = MINUTES,
    workers: int | Executor | None = 1,
    repair: bool = False,
    speed: Speed | None = None,
    progress: Callable[[int], None] = lambda total: None,
) -> Plan:
    """Make a config for a data set by stated rules, that trains within a memory and a time.

    Parameters
    ----------
    dataset : str, Path or sequence of Case
        A folder in a layout that `find_cases` knows, a dataset table, or cases.
    output : str, Path or None
        A YAML file for the config, with the reason of every choice as a comment.
    memory_mb : float or None
        What training may take in all [MB]; None takes 85 % of what is free now.
    minutes : float
        What training may take, evaluation of its validation cases included [min].
    workers : int, Executor or None
        Processes that read cases side by side, None for one for each core; or an executor.
    repair : bool
        Read files that are wrong where there is a repair.
    speed : Speed or None
        How fast this machine trains; None measures it.
    progress : callable
        Called after each case with how many there are.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        The memory is too small for any network.
    DatasetError
        There are no cases, none of them has a label map or can be read, or their layout is not
        known.
    OutputError
        `output` cannot be written.
    MissingExtraError
        SciPy is not installed.

    Notes
    -----
    The rules and their sources are listed in docs/plan.md.
    """
    target = None if output is None else usable_path(output, OutputError)
    if target is not None:
        require_writable(target.parent, [target.name])
    if isinstance(dataset, str | Path):
        folder: Path | None = Path(dataset)
        cases = find_cases(dataset)
    else:
        folder, cases = None, list(dataset)
    cases = allow_repairs(cases, repair) if repair else cases
    with worker_processes(workers, len(cases)) as executor:
        found = take_fingerprint(cases, executor, progress)
    given = memory_mb is not None
    if memory_mb is None:
        memory_mb = USABLE * (available_mb() or _UNKNOWN_MB / USABLE)
    limits = Limits(memory_mb, 60 * minutes, given)
    with nullcontext(_always(speed)) if speed else measuring() as measure:
        made = plan_for(found, stated_names(folder, cases), limits, measure, folder)
    if target is not None:
        write_text(target, made.text)
    return made


def _always(speed: Speed) -> Measure:
    return lambda config, before=None: speed


def plan_for(
    found: Fingerprint,
    stated: LabelSet | None,
    limits: Limits,
    measure: Measure,
    folder: Path | None = None,
) -> Plan:
    """Return the plan for a fingerprint; see `plan`."""
    crop = choose_crop(found)
    spacing, spacing_mm = choose_spacing(found)
    shapes = found.shapes(spacing.value, cropped=crop.value == "nonzero")
    parts = choose_parts(found.subjects)
    work = _workload(found, shapes, parts)
    fixed = [
        *choose_labels(found, stated),
        _modalities(found),
        crop,
        spacing,
        choose_normalisation(found),
        Choice("split.validation", parts.share, parts.why),
        *choose_folds(found.subjects),
        Choice("split.test", 0.0, "none: nothing is chosen by the validation cases either"),
        *recommended("model"),
        *recommended("training"),
        *_machine(limits),
    ]
    draft = Draft(fixed, work, limits, len(found.cases))
    chosen, speed = settled(draft, spacing_mm, measure)
    covered = math.prod(min(1.0, p / n) for p, n in zip(chosen.patch, work.shape, strict=True))
    choices = [
        *fixed,
        *design_choices(chosen, work, limits.memory_mb, limits.given),
        choose_sampling(found, covered),
        choose_augment(covered, found.subjects),
        *_precision(speed),
    ]
    choices += choose_length(config_of(choices), work, speed, limits.seconds)
    config = config_of(choices)
    notes = (*found.notes, *([parts.why] if not parts.validation else []))
    said = (
        *few_in_words(found.subjects),
        *patch_warnings(config, shapes.tolist()),
        *_too_long(config, work, speed, limits),
    )
    made = Plan(config, "", work, speed, notes, said)
    return replace(made, text=yaml_of_choices(choices, _head(found, folder, made)))


def _workload(found: Fingerprint, shapes: NDArray[np.float64], parts: Parts) -> Workload:
    per_subject = len(found.cases) / found.subjects
    i, j, k = (round(n) for n in np.median(shapes, axis=0).tolist())
    return Workload(
        round(parts.training * per_subject),
        round(parts.validation * per_subject),
        (i, j, k),
        float(np.prod(shapes, axis=1).mean()),
    )


def _too_long(config: Config, work: Workload, speed: Speed, limits: Limits) -> Iterator[str]:
    seconds = work.seconds(config, speed)
    if seconds > limits.seconds:
        yield (
            f"training takes {seconds / 60:.0f} minutes, more than {limits.seconds / 60:.0f}: one "
            "epoch, and what goes before it and after it, takes no less"
        )


def _modalities(found: Fingerprint) -> Choice:
    why = f"those that all {len(found.cases)} labelled cases have"
    return Choice("recipe.modalities", list(found.modalities), why)


def _machine(limits: Limits) -> list[Choice]:
    cores = usable_cores()
    cache = max(16, min(_MOST_CACHE_MB, int(_CACHE_SHARE * limits.memory_mb)))
    return [
        Choice(
            "training.workers",
            min(cores, _MOST_WORKERS),
            f"one thread for each of {cores} cores, at most {_MOST_WORKERS}",
        ),
        Choice(
            "training.cache_mb",
            cache,
            f"a quarter of {limits.memory_mb:.0f} MB, at most {_MOST_CACHE_MB}",
        ),
    ]


def _precision(speed: Speed) -> list[Choice]:
    """Keep the precision that was measured, or memory and time would be another's."""
    if speed.precision == "auto":
        return []
    return [Choice("training.precision", speed.precision, "the quicker here, as measured")]


def _head(found: Fingerprint, folder: Path | None, made: Plan) -> list[str]:
    named = f" for {folder_name(folder)}" if folder else ""
    return [
        f"A plan{named}, by the rules of docs/plan.md: an ordinary config, to be edited or not.",
        f"{_counted(len(found.cases), 'labelled case', 'labelled cases')} of "
        f"{_counted(found.subjects, 'subject', 'subjects')}. Training takes about "
        f"{made.memory.total_mb / 1024:.1f} GB and {made.seconds / 60:.0f} minutes on this "
        "machine.",
        *(f"Note: {note}" for note in made.notes),
    ]
