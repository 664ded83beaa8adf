"""Who takes part with an adopted model: nnU-Net, as it comes and at torch's best, and ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.adopted_setups import Setup
from benchmarks.rows import Contestant

NNUNET = "nnU-Net"
BY_CLASS = f"{NNUNET}, class by class"
_BEST = "channels last, bfloat16"
BASELINES = (NNUNET, BY_CLASS, f"{NNUNET}, {_BEST}", f"{BY_CLASS}, {_BEST}")
_LOOP = "a loop of ours round its resampling; less memory, the same labels"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a setup's model and scan are.

    Parameters
    ----------
    folder : Path
        Contestants write below it.
    model : Path
        nnU-Net's folder.
    adopted : Path
        What `vol3dseg adopt nnunet` has made of it.
    images : mapping from modality to path
    """

    folder: Path
    model: Path
    adopted: Path
    images: Mapping[str, Path]

    def output(self, name: str) -> str:
        """Return the folder that a contestant writes to."""
        folder = self.folder / "".join(letter if letter.isalnum() else "-" for letter in name)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)


def contestants(
    setup: Setup, place: Place, mirror: bool, threads: int, most_mb: float
) -> list[Contestant]:
    """Return who takes part; `most_mb` is what nnU-Net may allocate [MB]."""
    shared = {
        "images": {name: str(path) for name, path in place.images.items()},
        "threads": threads,
        "mirror": mirror,
    }
    return [*_theirs(setup, place, {**shared, "most_mb": most_mb}), *_ours(setup, place, shared)]


def _theirs(setup: Setup, place: Place, shared: Mapping[str, Any]) -> list[Contestant]:
    plain: list[tuple[str, bool, str, bool]] = [(NNUNET, False, "float32", False)]
    if setup.ct:
        plain.append((BY_CLASS, False, "float32", True))
    else:
        plain.append((f"{NNUNET}, channels last", True, "float32", False))
    best = BY_CLASS if setup.ct else NNUNET
    found = []
    for name, last, precision, by_class in (
        *plain,
        (f"{best}, {_BEST}", True, "bfloat16", setup.ct),
    ):
        settings = {
            **shared,
            "folder": str(place.model),
            "output": place.output(name),
            "channels_last": last,
            "precision": precision,
            "by_class": by_class,
        }
        how = _LOOP if by_class else ""
        found.append(Contestant(name, "torch", "nnunet_adopted", settings, how=how))
    return found


def _ours(setup: Setup, place: Place, shared: Mapping[str, Any]) -> list[Contestant]:
    found = []
    for name, environment, device, precision, times in (
        ("ours, onnxruntime", "onnxruntime", "cpu", "float32", 1.5),
        ("ours, OpenVINO float32", "openvino", "openvino", "float32", 1.5),
        ("ours, OpenVINO bfloat16", "openvino", "openvino", "bfloat16", 4.0),
    ):
        settings = {
            **shared,
            "model": str(place.adopted),
            "output": place.output(name),
            "device": device,
            "precision": precision,
            "max_memory_mb": setup.limit_mb,
        }
        asked = {NNUNET: 5.0, BY_CLASS: 5.0} if setup.ct else {NNUNET: times}
        found.append(Contestant(name, environment, "ours_adopted", settings, asked))
    return found
