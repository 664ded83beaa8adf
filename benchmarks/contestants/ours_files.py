"""Ours, files in to file out: what `vol3dseg predict` does for one case, in a warm process."""

from pathlib import Path
from typing import Any

from benchmarks.contestants.ours import PACKAGES, load
from benchmarks.contestants.protocol import Call, serve
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.predictor import Origin
from vol3dseg.inference.record import Record


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load the network.

    Parameters
    ----------
    settings : dict
        Those of `ours.load`; images : path of each modality's file; output : folder.
    """
    model, predictor, session = load(settings)
    case = Case("case", "case", {m: ImageSource(Path(p)) for m, p in settings["images"].items()})
    folder = Path(settings["output"])
    record = Record.of(model.manifest, Origin("model", model.sha256, session.provider))

    def run() -> dict[str, Any]:
        found = predict_cases([case], predictor, folder, record).cases[case.id]
        if found.error:
            raise RuntimeError(found.error)
        return {
            "file": str(folder / found.file),
            "stages": found.seconds,
            "how": found.plan,
            "planned_mb": found.planned_mb,
            "provider": session.provider,
        }

    return {"run": run}


if __name__ == "__main__":
    serve(make, PACKAGES)
