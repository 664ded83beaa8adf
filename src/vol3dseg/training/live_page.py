"""The page of a training, written anew while it runs; see `reporting.training_page`."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vol3dseg.config import Config
from vol3dseg.errors import OutputError, RunError, Vol3dSegError
from vol3dseg.files import write_text
from vol3dseg.model.manifest import Manifest
from vol3dseg.reporting.figures import read_log
from vol3dseg.reporting.strip import STRIP, Slice, Strip, is_kept, typical_case
from vol3dseg.reporting.training_page import PAGE, Standing, Subject, training_page
from vol3dseg.schema import read_json
from vol3dseg.training.backend import keras
from vol3dseg.training.compiled import steps_per_epoch
from vol3dseg.training.data import RunData
from vol3dseg.training.pace import Pace
from vol3dseg.training.results import outputs_of
from vol3dseg.training.team import Team
from vol3dseg.training.timing import duration
from vol3dseg.training.training_state import longer_run

_PAUSE_S = 5.0  # between two pages
_SHARE = 50  # at most a fiftieth of the training goes into pages


class LivePage:
    """Keeps training.html and strip.json of a run folder; a context that says how it ends.

    Where they cannot be written, `say` is told once, and it is tried again with the next page: that
    is no reason to end a training.

    Parameters
    ----------
    run : Path
    config : Config
    data : RunData
    team : Team
        Who shares its batches.
    done : int
        Epochs that were done before, of a run that is resumed.
    say : callable
        Called with a line of text.
    clock : callable
        The time [s].
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        data: RunData,
        team: Team,
        done: int,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._config, self._say, self._clock = run, config, say, clock
        self._subject = _subject(run, config, data, team)
        self._outputs = outputs_of(config).model_copy(update={"values": "logits"})
        self._strip = _strip_of(run, done, say) if done else Strip()
        self._done = done
        self._epoch_s: float | None = None
        self._left_s: float | None = None
        self._next = -math.inf
        self._told = False  # that something cannot be written
        self._behind = False  # the strip that lies there

    def __enter__(self) -> "LivePage":
        self._write("")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Vol3dSegError):
            self._write(f"Stopped: {error}")
        elif error is not None:
            goes_on = " vol3dseg train --resume goes on." if self._done else ""
            self._write(f"Stopped ({type(error).__name__}).{goes_on}")

    def finished(self, manifest: Manifest) -> None:
        """Say what has become of the run."""
        (member,) = manifest.members
        said = f"Finished: the weights after epoch {member.epoch} are deployed"
        found = manifest.validation
        if found is not None and found.mean_dice is not None:
            said += f"; mean Dice of {found.cases} whole validation volumes {found.mean_dice:.4f}"
        if self._behind:
            self._write_strip()
        self._write(f"{said}.")

    def epoch_ended(self, model: Any, epoch: int, epoch_s: float, left_s: float | None) -> None:
        """Show an epoch, from 1; only in the strip if the page was written just before."""
        self._done, self._epoch_s, self._left_s = epoch, epoch_s, left_s
        begun = self._clock()
        due, last = begun >= self._next, epoch == self._config.training.epochs
        if not (due or last or is_kept(epoch)):
            return
        self._strip = self._strip.then(epoch, self._draw(model))
        if is_kept(epoch) or last or self._behind:
            self._write_strip()
        if due:
            self._write("")
            ended = self._clock()
            self._next = ended + max(_PAUSE_S, _SHARE * (ended - begun))

    def _draw(self, model: Any) -> bytes:
        """Draw what is predicted; no random number is drawn, and the model stays as it is."""
        shown = self._subject.shown
        logits = keras.ops.convert_to_numpy(model(shown.image[None], training=False))[0]
        inside = np.moveaxis(logits[shown.inside.slices].astype(np.float32), -1, 0)
        return shown.draw(self._outputs.decide(inside, self._config.labels))

    def _write(self, ended: str) -> None:
        log_path = self._run / "training.log"
        log = read_log(log_path) if self._done and log_path.exists() else {}
        left = duration(self._left_s) if self._left_s and self._done < self._epochs else ""
        most = "at most " if self._config.training.early_stopping else ""
        standing = Standing(
            self._done, self._epochs, self._epoch_s, left and most + left, ended, time.time()
        )
        self._try(PAGE, training_page(self._subject, standing, log, self._strip))

    @property
    def _epochs(self) -> int:
        return self._config.training.epochs

    def _write_strip(self) -> None:
        self._behind = not self._try(STRIP, self._strip.model_dump_json() + "\n")

    def _try(self, name: str, content: str) -> bool:
        """Write a file, or tell why not; return whether it is written."""
        try:
            write_text(self._run / name, content)
        except OutputError as error:
            if not self._told:
                self._say(f"note: {error}")
            self._told = True
            return False
        return True


class PageEachEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Show each epoch on a page.

    It must come after the log, and while the model has the weights to deploy.
    """

    def __init__(
        self, page: LivePage, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._page, self._pace, self._clock = page, pace, clock
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock."""
        self._begun = self._clock()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show."""
        took_s = self._clock() - self._begun
        self._page.epoch_ended(self.model, epoch + 1, took_s, self._pace.left_s)


def _subject(run: Path, config: Config, data: RunData, team: Team) -> Subject:
    names = data.split.validation or data.split.train
    case = typical_case(names, data.index, data.volumes_ml)
    stored = data.validation.get(case) or data.training[case]
    size, classes = config.recipe.patch_size, len(config.labels.classes)
    folder = run.parent if run == longer_run(run.parent) else run
    training = config.training
    return Subject(
        title=folder.resolve().name,
        settings=_settings(config, data, team),
        classes=config.labels.foreground,
        validated=bool(data.validation),
        best_by=training.best_by if training.model_checkpoint and data.validation else None,
        shown=Slice.of(case, stored, size, classes),
    )


def _settings(config: Config, data: RunData, team: Team) -> tuple[str, ...]:
    """Return what is learned from, and how, in a line each."""
    training, recipe = config.training, config.model_recipe
    steps = steps_per_epoch(list(data.training.values()), config)
    classes = len(config.labels.foreground)
    return (
        f"{len(data.training)} training and {len(data.validation)} validation cases · "
        f"{', '.join(recipe.modalities)} · {classes} class"
        + "es" * (classes > 1)
        + f" as {len(config.targets)} regions" * (training.targets == "regions"),
        f"patches of {' x '.join(map(str, recipe.patch_size))} voxels, {training.batch_size} in a "
        "batch"
        + f" shared by {team}"
        * (team.name is not None)
        + f", {steps} steps in an epoch · {training.loss} · {training.optimizer}, rate "
        f"{training.learning_rate:g}, {training.schedule} · {training.precision} · seed "
        f"{training.seed}",
    )


def _strip_of(run: Path, done: int, say: Callable[[str], None]) -> Strip:
    """Return the strip of a run that is resumed; an empty one where it is missing or damaged."""
    if not (run / STRIP).exists():
        return Strip()
    expected, remedy = "the strip that vol3dseg train writes", "it begins anew"
    try:
        return read_json(Strip, run / STRIP, RunError, expected=expected, remedy=remedy).until(done)
    except RunError as error:
        say(f"note: {error}")
        return Strip()
