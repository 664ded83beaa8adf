"""A run folder: what is in it already, and what it says of how the run was made."""

from pathlib import Path

from vol3dseg.config import Config, dump_config
from vol3dseg.errors import RunError, encodable
from vol3dseg.files import remove_ours, set_aside, write_json, write_text
from vol3dseg.machine import usable_cores
from vol3dseg.model.provenance import provenance
from vol3dseg.model.training_facts import Parent
from vol3dseg.reporting.figures import save_split
from vol3dseg.reporting.score_report import report_paths
from vol3dseg.reporting.strip import STRIP
from vol3dseg.reporting.training_page import PAGE
from vol3dseg.training.backend import tf
from vol3dseg.training.data import RunData, require_no_run
from vol3dseg.training.keras_archive import AGAIN
from vol3dseg.training.memory_estimate import MemoryEstimate
from vol3dseg.training.team import Team
from vol3dseg.training.training_state import (
    LAST,
    Origin,
    TrainingState,
    read_state,
    require_same_config,
)
from vol3dseg.written import add_to_list, adopt, is_ours, require_ours, sha256_file

_CHECKPOINTS = ("best.keras", LAST)
_NAMES = (
    *_CHECKPOINTS,
    *("manifest.json", "config.yaml", "split.json", "split.png"),
    *("training.log", PAGE, STRIP, "environment.json"),
)


def begin_run(run: Path, config: Config, resume: bool) -> tuple[TrainingState | None, Config]:
    """Return where an interrupted run stands, with its config; (None, `config`) for a new run."""
    last = run / LAST
    if not resume:
        # What was stopped within its first epoch has left nothing to lose.
        require_no_run(run, "use --resume or another folder")
        require_ours(run / name for name in _NAMES)
        require_ours(report_paths(run / "scores" / "validation"))
        remove_ours(run / "best.keras")
        return None, config
    if not last.exists():
        ended = (run / "manifest.json").exists()  # a new run would be refused
        raise RunError(
            "no last.keras to resume from",
            where=run,
            remedy=AGAIN if ended else "start the run without --resume",
        )
    config = require_same_config(run, config)
    state = read_state(last)
    if state.has_best:
        read_state(run / "best.keras")  # or a later epoch would pass for the best of all
    return state, config


def take_over(run: Path) -> list[str]:
    """Move aside what a run that goes on would replace and that is not as it was written.

    Returns what was moved, in words. Checkpoints say of themselves that they are ours, and the log
    is read before it is written.
    """
    there = [name for name in _NAMES if (run / name).is_file()]
    adopt(run, {name: sha256_file(run / name) for name in there})
    own = {n: sha256_file(run / n) for n in _CHECKPOINTS if n in there and not is_ours(run / n)}
    if own:
        add_to_list(run, own)
    scores = [path for path in report_paths(run / "scores" / "validation") if path.exists()]
    others = [run / name for name in there if name not in {*_CHECKPOINTS, "training.log"}]
    changed = [path for path in [*others, *scores] if not is_ours(path)]
    return [
        f"note: {path} was not as it had been written: it is {set_aside(path).name} now"
        for path in changed
    ]


def origin_of(config: Config, prepared: Path, data: RunData, parent: Parent | None) -> Origin:
    """Return what a run is made of; `config` with its micro-batch."""
    learned = (*data.split.train, *data.split.validation)
    contents = {case: data.index.entry(case).contents for case in learned}
    place = Path(encodable(str(prepared.resolve())))
    return Origin(config=config, prepared=place, split=data.split, contents=contents, parent=parent)


def write_inputs(run: Path, config: Config, data: RunData) -> None:
    """Write config.yaml, split.json and split.png into `run`."""
    write_text(run / "config.yaml", dump_config(config))
    data.split.write(run / "split.json")
    save_split(run / "split.png", data.split, data.volumes_ml)


def write_environment(
    run: Path,
    config: Config,
    prepared: Path,
    estimate: MemoryEstimate,
    team: Team,
    peak_mb: float | None = None,
) -> None:
    """Write environment.json into `run`: versions, seed, threads, devices, memory.

    And who shared the batches, with how many patches in each.

    `peak_mb` is what the training took in the end [MB]; None before that, and where it is unknown.
    """
    threading = tf.config.threading
    write_json(
        run / "environment.json",
        {
            **provenance("tensorflow", "keras", "numpy", "h5py", "scipy").model_dump(),
            "prepared": str(prepared.resolve()),
            "seed": config.training.seed,
            "deterministic": config.training.deterministic,
            "threads": {
                "inter_op": threading.get_inter_op_parallelism_threads() or usable_cores(),
                "intra_op": threading.get_intra_op_parallelism_threads() or usable_cores(),
            },
            "strategy": {
                "name": team.name,
                "devices": team.replicas,
                "workers": len(team.workers),
                "batch_size": config.training.batch_size,
                "batch_size_per_device": config.training.batch_size // team.replicas,
            },
            "devices": [device.name for device in tf.config.list_physical_devices()],
            "memory_mb": {
                "before": round(estimate.start_mb),
                "estimated": round(estimate.total_mb),
                "peak": None if peak_mb is None else round(peak_mb),
            },
        },
    )
