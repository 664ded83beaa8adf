"""Ours with an adopted model, files in to file out: what `vol3dseg predict` does, warm."""

from pathlib import Path
from typing import Any

from benchmarks.contestants.ours import PACKAGES
from benchmarks.contestants.ours_files import files_to_file
from benchmarks.contestants.protocol import Call, serve
from vol3dseg.inference.loading import load_predictor


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load the model.

    Parameters
    ----------
    settings : dict
        model : path of the ONNX file; device, precision, threads, max_memory_mb and mirror as
        `load_predictor` takes them; images : path of each modality's file; output : folder.
    """
    names = ("device", "threads", "precision", "max_memory_mb", "mirror")
    predictor = load_predictor(Path(settings["model"]), **{name: settings[name] for name in names})
    return {"run": files_to_file(predictor, settings)}


if __name__ == "__main__":
    serve(make, PACKAGES)
