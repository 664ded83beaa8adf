"""A finished run, as far as it can be read without TensorFlow: what it is, and was made of."""

from dataclasses import dataclass
from pathlib import Path

from vol3dseg.errors import RunError, some_of
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.training.training_state import MANIFEST, Origin, read_origin, read_state


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run is deployed by."""

    folder: Path
    manifest: Manifest
    checkpoint: Path
    origin: Origin

    def prepared_in(self, moved: Path | None = None) -> Path:
        """Return the prepared folder of the run, or where it is now; RunError: it is gone."""
        folder = moved or self.origin.prepared
        if not folder.is_dir():
            raise RunError(
                f"its prepared folder {folder} is gone",
                where=self.folder,
                expected="the real patches that parity is measured on",
                remedy="name where it is now with --prepared",
            )
        return folder

    def changed_in(self, folder: Path) -> RunError | None:
        """Return how a prepared folder differs from what the run has learned from."""
        changed = self.origin.changed(load_index(folder))
        if not changed:
            return None
        return RunError(
            f"{folder} does not hold what the run learned from: {some_of(changed)}",
            where=self.folder,
            expected="the same images and labels of the same cases",
            remedy=f"name a folder that holds them, or this one, with --prepared {folder}",
        )


def read_finished(run: Path) -> FinishedRun:
    """Read a run, unless it is not finished, or its checkpoint is not that of its manifest."""
    if not (run / MANIFEST).is_file():
        begun = (run / "training.log").exists()
        raise RunError(
            "an unfinished run" if begun else "no run",
            where=run,
            expected=f"a folder of vol3dseg train with a {MANIFEST}",
            remedy="finish it with vol3dseg train --resume" if begun else "train one first",
        )
    manifest = read_run_manifest(run)
    facts = manifest.trained[0]
    checkpoint = run / f"{facts.checkpoint}.keras"
    state = read_state(checkpoint)
    if state.epochs != facts.epoch:
        raise RunError(
            f"holds epoch {state.epochs}",
            where=checkpoint,
            expected=f"epoch {facts.epoch}, as {MANIFEST} says",
            remedy=f"write {MANIFEST} anew with vol3dseg train --resume",
        )
    return FinishedRun(run, manifest, checkpoint, read_origin(checkpoint))
