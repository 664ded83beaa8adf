"""A run folder: what is in it already, and what it says of how the run was made."""

from pathlib import Path

from vol3dseg.config import Config, dump_config, load_config
from vol3dseg.errors import RunError
from vol3dseg.files import write_json, write_text
from vol3dseg.model.provenance import provenance
from vol3dseg.reporting.figures import save_split
from vol3dseg.training.backend import tf
from vol3dseg.training.checkpoints import TrainingState, read_state, trim_log
from vol3dseg.training.data import RunData
from vol3dseg.training.memory_estimate import MemoryEstimate


def begin_run(run: Path, config: Config, resume: bool) -> tuple[TrainingState | None, Config]:
    """Return where an interrupted run stands, with its config; (None, `config`) for a new run."""
    last = run / "last.keras"
    if not resume:
        # What was stopped within its first epoch has left nothing to lose.
        if last.exists() or (run / "manifest.json").exists():
            raise RunError(
                "holds a run already", where=run, remedy="use --resume or another folder"
            )
        (run / "best.keras").unlink(missing_ok=True)
        return None, config
    if not last.exists():
        raise RunError(
            "no last.keras to resume from", where=run, remedy="start the run without --resume"
        )
    before = load_config(run / "config.yaml")
    # What the run has chosen by the memory of its machine stays so.
    config = config.resumes(before)
    if before != config:
        raise RunError(
            f"config.yaml differs from this config in {before.differences(config)}",
            where=run,
            remedy="resume with the run's own, or train in another folder",
        )
    state = read_state(last)
    trim_log(run / "training.log", state.epochs)
    return state, config


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
    peak_mb: float | None = None,
) -> None:
    """Write environment.json into `run`: versions, seed, threads, devices, memory.

    `peak_mb` is what the training took in the end [MB]; None before that, and where it is unknown.
    """
    write_json(
        run / "environment.json",
        {
            **provenance("tensorflow", "keras", "numpy", "h5py", "scipy").model_dump(),
            "prepared": str(prepared.resolve()),
            "seed": config.training.seed,
            "deterministic": config.training.deterministic,
            "threads": {
                "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
                "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
            },
            "devices": [device.name for device in tf.config.list_physical_devices()],
            "memory_mb": {
                "before": round(estimate.start_mb),
                "estimated": round(estimate.total_mb),
                "peak": None if peak_mb is None else round(peak_mb),
            },
        },
    )
