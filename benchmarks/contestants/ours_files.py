"""Ours, files in to file out: what `vol3dseg predict` does for one case, in a warm process."""

from pathlib import Path
from typing import Any

from benchmarks.contestants.ours import PACKAGES, load
from benchmarks.contestants.protocol import Call, serve
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import Record


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load the network.

    Parameters
    ----------
    settings : dict
        Those of `ours.load`; images : path of each modality's file; output : folder.
    """
    model, predictor, session = load(settings)
    predictor.origin = Origin("model", model.sha256, session.provider)
    return {"run": files_to_file(predictor, settings)}


def files_to_file(predictor: Predictor, settings: dict[str, Any]) -> Call:
    """Return what segments the case of the settings; `idle` leaves it at that."""
    case = Case("case", "case", {m: ImageSource(Path(p)) for m, p in settings["images"].items()})
    folder = Path(settings["output"])
    record = Record.of(predictor.manifest, predictor.origin)

    def run(*, idle: bool = False) -> dict[str, Any]:
        if idle:
            return {}
        found = predict_cases([case], predictor, folder, record).cases[case.id]
        if found.error:
            raise RuntimeError(found.error)
        return {
            "file": str(folder / found.file),
            "stages": found.seconds,
            "how": found.plan,
            "planned_mb": found.planned_mb,
            "provider": predictor.origin.provider,
        }

    return run


if __name__ == "__main__":
    serve(make, PACKAGES)
