"""What a run folder says of how the run was made."""

from pathlib import Path

import tensorflow as tf

from vol3dseg.config import Config, dump_config
from vol3dseg.files import write_json, write_text
from vol3dseg.model.provenance import provenance
from vol3dseg.reporting.figures import save_split
from vol3dseg.training.data import RunData
from vol3dseg.training.memory_estimate import MemoryEstimate

PACKAGES = ("tensorflow", "keras", "numpy", "h5py", "scipy")


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

    Parameters
    ----------
    run : Path
    config : Config
    prepared : Path
        Where the prepared folder is.
    estimate : MemoryEstimate
        Of the training.
    peak_mb : float or None
        What the training took in the end [MB]; None before that, and where it is not known.
    """
    threads = {
        "inter_op": tf.config.threading.get_inter_op_parallelism_threads(),
        "intra_op": tf.config.threading.get_intra_op_parallelism_threads(),
    }
    memory = {
        "before": round(estimate.start_mb),
        "estimated": round(estimate.total_mb),
        "peak": None if peak_mb is None else round(peak_mb),
    }
    write_json(
        run / "environment.json",
        {
            **provenance(*PACKAGES).model_dump(),
            "prepared": str(prepared.resolve()),
            "seed": config.training.seed,
            "deterministic": config.training.deterministic,
            "threads": threads,
            "devices": [device.name for device in tf.config.list_physical_devices()],
            "memory_mb": memory,
        },
    )
