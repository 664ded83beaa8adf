"""Who takes part: the contestants of each section, and what is asked of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vol3dseg.space.box import Shape

_PACKAGE = "benchmarks.contestants"
MONAI, PIPELINE, NNUNET = "MONAI", "MONAI pipeline", "nnU-Net"
_ORT, _OV32, _OV16 = "ours, onnxruntime", "ours, OpenVINO float32", "ours, OpenVINO bfloat16"
FLOAT32 = _OV32  # the row that is held against the multiplication of matrices
_ONE_PASS, _LAST = "torch, one pass", "channels last"
NETWORK_BASELINES = (MONAI, f"{MONAI}, {_LAST}")
FILE_BASELINES = (NNUNET, PIPELINE, f"{PIPELINE}, {_LAST}")
_COARSE = ("bfloat16", "int8")


@dataclass(frozen=True, slots=True)
class Contestant:
    """One worker and how it is started.

    Parameters
    ----------
    name : str
    environment : str
        Of `.bench/`.
    module : str
        In `benchmarks.contestants`.
    settings : mapping
    asked : mapping from baseline to float
        How many times as fast as that it should be.
    how : str
        What is not to be seen from the name.
    processes : int
        That share the threads.
    """

    name: str
    environment: str
    module: str
    settings: Mapping[str, Any]
    asked: Mapping[str, float] = field(default_factory=dict)
    how: str = ""
    processes: int = 1

    @property
    def path(self) -> str:
        """Of the module, as `python -m` takes it."""
        return f"{_PACKAGE}.{self.module}"

    @property
    def is_ours(self) -> bool:
        """Whether this toolkit runs in it."""
        return self.module.startswith("ours")


@dataclass(frozen=True, slots=True)
class Given:
    """What contestants are started with.

    Parameters
    ----------
    weights : Path
        Folder of `benchmarks.weights`; a `model-int8.onnx` in it takes part as well.
    work : Path
        Folder for what they write.
    images : mapping from modality to path
    patch_size : list of int
    divisor : (3,) tuple of int
    threads : int
    """

    weights: Path
    work: Path
    images: Mapping[str, str]
    patch_size: list[int]
    divisor: Shape
    threads: int

    @property
    def torch(self) -> dict[str, Any]:
        """Settings of whoever runs the twin."""
        return {
            "weights": str(self.weights / "model.npz"),
            "prepared": str(self.work / "prepared.npy"),
            "images": dict(self.images),
            "patch_size": self.patch_size,
            "divisor": self.divisor,
            "threads": self.threads,
        }

    def output(self, name: str) -> str:
        """Return the folder that a contestant writes to."""
        folder = self.work / "".join(letter if letter.isalnum() else "-" for letter in name)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)


def reference(given: Given) -> Contestant:
    """Return the twin in one pass, which the others are held against."""
    return Contestant(_ONE_PASS, "torch", "torch_one_pass", given.torch)


def network(given: Given) -> list[Contestant]:
    """Return the contestants of the network part."""
    last, low = {"channels_last": True}, {"precision": "bfloat16"}
    others: list[tuple[str, str, dict[str, Any]]] = [
        (MONAI, "monai_network", {}),
        (f"{MONAI}, {_LAST}", "monai_network", last),
        (f"{MONAI}, {_LAST}, bfloat16", "monai_network", {**last, **low}),
        (_ONE_PASS, "torch_one_pass", {}),
        (f"{_ONE_PASS}, {_LAST}", "torch_one_pass", last),
    ]
    asked = {_ORT: {MONAI: 2.0}, _OV32: {MONAI: 8.0}, _OV16: {MONAI: 15.0}}
    return [
        *(Contestant(n, "torch", module, {**given.torch, **more}) for n, module, more in others),
        *_ours(given, "ours_network", asked),
    ]


def matrices(given: Given) -> list[Contestant]:
    """Return what measures the bound."""
    settings = {"threads": given.threads}
    names = ("openvino", "torch")
    return [Contestant(f"matrices, {name}", name, "matrix", settings) for name in names]


def files(given: Given) -> list[Contestant]:
    """Return the contestants that read and write files."""
    both = {NNUNET: 7.0, PIPELINE: 7.0}
    more = {NNUNET: 10.0, PIPELINE: 10.0}
    settings = {**given.torch, "output": given.output(NNUNET)}
    how = "mirroring off, step 0.5, in one process"
    return [
        Contestant(NNUNET, "torch", "nnunet_files", settings, how=how),
        *pipelines(given),
        *_ours(given, "ours_files", {_OV32: both, _OV16: more}),
    ]


def pipelines(given: Given) -> list[Contestant]:
    """Return MONAI's pipeline, in both layouts."""
    found = []
    for name, last in ((PIPELINE, False), (f"{PIPELINE}, {_LAST}", True)):
        settings = {**given.torch, "output": given.output(name), "channels_last": last}
        found.append(Contestant(name, "torch", "monai_files", settings))
    return found


def limited(given: Given, module: str, limit_mb: float) -> list[Contestant]:
    """Return ours, held to a limit of memory [MB]."""
    ours = _ours(given, module, {}, {"max_memory_mb": limit_mb})
    return [row for row in ours if row.environment != "onnxruntime-openvino"]


def ct(given: Given, image: Path, limit_mb: float) -> list[Contestant]:
    """Return ours on another network and image, held to a limit of memory [MB]."""
    more = {"model": str(given.weights / "ct.onnx"), "images": {"CT": str(image)}}
    ours = [row for row in limited(given, "ours_files", limit_mb) if "int8" not in row.name]
    return [replace(row, settings={**row.settings, **more}) for row in ours]


def preparation(
    given: Given, dataset: Path, cases: list[dict[str, Any]], processes: int
) -> list[Contestant]:
    """Return who prepares a data set."""
    found = []
    for name, environment, module in (
        (NNUNET, "torch", "nnunet_preprocess"),
        (MONAI, "torch", "monai_preprocess"),
        ("ours", "openvino", "ours_preprocess"),
    ):
        settings = {
            "dataset": str(dataset),
            "cases": cases,
            "patch_size": given.patch_size,
            "processes": processes,
            "output": given.output(f"prepared {name} {processes}"),
        }
        found.append(Contestant(name, environment, module, settings, processes=processes))
    return found


def is_coarse(name: str) -> bool:
    """Return whether a contestant computes in less than float32."""
    return any(precision in name for precision in _COARSE)


def _ours(
    given: Given,
    module: str,
    asked: Mapping[str, Mapping[str, float]],
    more: Mapping[str, Any] | None = None,
) -> list[Contestant]:
    """Return our predictor on every runtime."""
    model, int8 = given.weights / "model.onnx", given.weights / "model-int8.onnx"
    runtimes = [
        (_ORT, "onnxruntime", "cpu", "float32", model),
        (_OV32, "openvino", "openvino", "float32", model),
        (_OV16, "openvino", "openvino", "bfloat16", model),
        *[("ours, OpenVINO int8", "openvino", "openvino", "float32", int8)] * int8.exists(),
    ]
    both = "onnxruntime-openvino"  # an environment and a way to run in it
    for precision in ("float32", "bfloat16"):
        runtimes.append((f"ours, {both} {precision}", both, both, precision, model))
    found = []
    for name, environment, device, precision, path in runtimes:
        settings = {
            "model": str(path),
            "prepared": str(given.work / "prepared.npy"),
            "images": dict(given.images),
            "device": device,
            "precision": precision,
            "threads": given.threads,
            "output": given.output(f"{module} {name} {'limited' if more else ''}"),
            **(more or {}),
        }
        found.append(Contestant(name, environment, module, settings, asked.get(name, {})))
    return found
