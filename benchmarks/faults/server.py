"""Commands run in children of a process that has imported what they need, with faults."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.control import Control, Fault

_SECONDS = 300.0  # that a command may take, where it hangs
_ALWAYS = ("vol3dseg.cli.main", "vol3dseg.datasets.over_cases", "vol3dseg.config")
_DEPLOYED = ("vol3dseg.inference.predicting", "onnxruntime", "vol3dseg.formats.nifti.nifti_file")
_MODULES = {
    "preprocess": ("vol3dseg.preprocessing.prepare_dataset", "vol3dseg.planning.patch_fit"),
    "train": ("vol3dseg.training.fit",),
    "export-onnx": ("vol3dseg.export.to_onnx", "vol3dseg.training.fit", "onnxruntime"),
    "predict": _DEPLOYED,
    "evaluate": ("vol3dseg.reporting.score_predictions", *_DEPLOYED),
    "cross-validate": ("vol3dseg.training.cross_validation", "vol3dseg.training.judging_folds"),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Parameters
    ----------
    code : int or None
        Its exit code; negative where a signal killed it, None where it hung.
    said : str
        What it printed, on both streams.
    count : int
        How many calls were counted.
    hit : str
        The call that the fault struck; empty where it did not.
    """

    code: int | None
    said: str
    count: int
    hit: str


class Server:
    """Runs one command, again and again; a context.

    Parameters
    ----------
    command : str
        Of `line.COMMANDS`.
    root : Path
        Below which calls fail.
    shim : Path
    place : Path
        A folder of its own, not below `root`.
    """

    def __init__(self, command: str, root: Path, shim: Path, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._control = Control(place / "control", root)
        self._said = place / "said"
        self._forks = command == "cross-validate"
        with (place / "server").open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults.forking", *_ALWAYS, *_MODULES[command]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
                env=os.environ | {"LD_PRELOAD": str(shim), "TF_CPP_MIN_LOG_LEVEL": "3"},
            )  # fmt: skip
        if self._answer() != "ready":
            raise RuntimeError(f"cannot import what {command} needs: see {place / 'server'}")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self, words: list[str], folder: Path, fault: Fault | None = None, nth: int = 0,
        log: Path | None = None,
    ) -> Ended:  # fmt: skip
        """Run a command in a folder; let the `nth` call of a fault fail, none where it is 0."""
        (folder / "tmp").mkdir(exist_ok=True)
        if fault is None:
            self._control.disarm()
        else:
            self._control.arm(fault, nth, log)
        request = {
            "words": words, "folder": str(folder), "said": str(self._said),
            "control": str(self._control.path), "seconds": _SECONDS, "forks": self._forks,
        }  # fmt: skip
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the server has no standard input")
        stdin.write(f"{json.dumps(request)}\n")
        stdin.flush()
        code = json.loads(self._answer())
        said = self._said.read_text(encoding="utf-8", errors="replace")
        return Ended(code, said, self._control.count, self._control.hit)

    def _answer(self) -> str:
        stdout = self._process.stdout
        return stdout.readline().strip() if stdout else ""
