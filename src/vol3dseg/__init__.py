"""Segmentation of 3-D medical volumes: training in Keras, deployment in ONNX without TensorFlow.

Everything public is here; docs/python.md lists it. Nothing is loaded before it is used, so that
importing the package costs next to nothing and TensorFlow is needed by `train` and `export_onnx`
alone.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vol3dseg.config import Config as Config
    from vol3dseg.config import load_config as load_config
    from vol3dseg.datasets.checks import check as check
    from vol3dseg.datasets.layouts import find_cases as find_cases
    from vol3dseg.datasets.layouts.table import write_table as write_table
    from vol3dseg.datasets.reading import read_case as read_case
    from vol3dseg.errors import Vol3dSegError as Vol3dSegError
    from vol3dseg.export.nnunet.adopting import adopt_nnunet as adopt_nnunet
    from vol3dseg.export.to_onnx import export_onnx as export_onnx
    from vol3dseg.formats import read_labels as read_labels
    from vol3dseg.formats import write_labels as write_labels
    from vol3dseg.inference.loading import load_predictor as load_predictor
    from vol3dseg.inference.output_files import PredictOptions as PredictOptions
    from vol3dseg.inference.predicting import predict as predict
    from vol3dseg.model.model_file import describe as describe
    from vol3dseg.planning.make_plan import plan as plan
    from vol3dseg.preprocessing.prepare_dataset import preprocess as preprocess
    from vol3dseg.recipe import Recipe as Recipe
    from vol3dseg.reporting.comparison.comparison_report import compare_folders as compare_folders
    from vol3dseg.reporting.drawing_files import draw_files as draw_files
    from vol3dseg.reporting.edited_predictions import collect_corrections as collect_corrections
    from vol3dseg.reporting.inspection.inspection_report import inspect as inspect
    from vol3dseg.reporting.predictions_compared import compare_evaluations as compare_evaluations
    from vol3dseg.reporting.score_predictions import evaluate as evaluate
    from vol3dseg.space.geometry import Geometry as Geometry
    from vol3dseg.space.labels import LabelSet as LabelSet
    from vol3dseg.space.labels import Segmentation as Segmentation
    from vol3dseg.space.volume import Volume as Volume
    from vol3dseg.training.auditing import audit as audit
    from vol3dseg.training.cross_validation import cross_validate as cross_validate
    from vol3dseg.training.data import write_split as write_split
    from vol3dseg.training.fit import train as train
    from vol3dseg.training.locator import train_locator as train_locator
    from vol3dseg.viewing.viewer import view as view

__version__ = "0.1.0"

# Before anybody imports onnxruntime: it would keep an id of the machine, and report to Microsoft.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOMES = {
    "find_cases": "vol3dseg.datasets.layouts",
    "read_case": "vol3dseg.datasets.reading",
    "read_labels": "vol3dseg.formats",
    "write_labels": "vol3dseg.formats",
    "write_table": "vol3dseg.datasets.layouts.table",
    "check": "vol3dseg.datasets.checks",
    "inspect": "vol3dseg.reporting.inspection.inspection_report",
    "plan": "vol3dseg.planning.make_plan",
    "preprocess": "vol3dseg.preprocessing.prepare_dataset",
    "write_split": "vol3dseg.training.data",
    "train": "vol3dseg.training.fit",
    "train_locator": "vol3dseg.training.locator",
    "cross_validate": "vol3dseg.training.cross_validation",
    "export_onnx": "vol3dseg.export.to_onnx",
    "adopt_nnunet": "vol3dseg.export.nnunet.adopting",
    "describe": "vol3dseg.model.model_file",
    "audit": "vol3dseg.training.auditing",
    "load_predictor": "vol3dseg.inference.loading",
    "predict": "vol3dseg.inference.predicting",
    "evaluate": "vol3dseg.reporting.score_predictions",
    "compare_evaluations": "vol3dseg.reporting.predictions_compared",
    "compare_folders": "vol3dseg.reporting.comparison.comparison_report",
    "collect_corrections": "vol3dseg.reporting.edited_predictions",
    "draw_files": "vol3dseg.reporting.drawing_files",
    "view": "vol3dseg.viewing.viewer",
    "Config": "vol3dseg.config",
    "load_config": "vol3dseg.config",
    "Recipe": "vol3dseg.recipe",
    "PredictOptions": "vol3dseg.inference.output_files",
    "Volume": "vol3dseg.space.volume",
    "Geometry": "vol3dseg.space.geometry",
    "Segmentation": "vol3dseg.space.labels",
    "LabelSet": "vol3dseg.space.labels",
    "Vol3dSegError": "vol3dseg.errors",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
