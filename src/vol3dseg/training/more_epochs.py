"""More epochs for a run that is finished, which stays as it is until the longer one is whole.

The longer one grows in a folder of its own within the run. It begins with the checkpoints and the
log of the run, hence as a run that was interrupted, and takes the place of its files in the end.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vol3dseg.config import Config
from vol3dseg.files import write_bytes
from vol3dseg.reporting.strip import STRIP
from vol3dseg.training.run_folder import take_over
from vol3dseg.training.training_state import LAST, MANIFEST, longer_run, require_same_config
from vol3dseg.written import LIST_NAME

_BEGINS_WITH = ("best.keras", "training.log", STRIP, LAST)  # the last is there when all are


@contextmanager
def more_epochs(run: Path, config: Config, say: Callable[[str], None]) -> Iterator[Path]:
    """Give the folder in which a finished run goes on; when the block ends, it has the result."""
    config, longer = require_same_config(run, config), longer_run(run)
    if not (longer / LAST).is_file():
        for name in _BEGINS_WITH:
            if (run / name).is_file():
                write_bytes(longer / name, (run / name).read_bytes())
    say(
        f"going on to {config.training.epochs} epochs in {longer}; what is finished stays in {run} "
        "until that is"
    )
    yield longer
    for note in take_over(run):
        say(note)
    _take_place(longer, run)


def _take_place(longer: Path, run: Path) -> None:
    """Replace the files of a run; whenever it is killed, the same again leads to the same end."""
    files = [path.relative_to(longer) for path in longer.rglob("*") if path.is_file()]
    names = [name for name in files if name.name != LIST_NAME]
    # Nobody may take a part of them for a finished run.
    (run / MANIFEST).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: (name == Path(MANIFEST), name == Path(LAST))):
        write_bytes(run / name, (longer / name).read_bytes())
    (longer / LAST).unlink()  # what is left is no run
    shutil.rmtree(longer)
