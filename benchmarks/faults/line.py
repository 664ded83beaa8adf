"""The straight line on three tiny phantoms: what each command reads, and what it should write.

A command reads from one folder that is never changed and writes into `out` of a folder of its own,
so that two tries differ in nothing but the fault.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.comparing import differences
from benchmarks.straight_line import changed_config
from vol3dseg.datasets.phantom import make_phantoms

CASES, SHAPE = 3, (20, 18, 16)
OUT = "out"  # what a command writes, in the folder that it runs in
# Nothing that this network learns is of use; one thread, so that a run can be repeated exactly.
_CHANGES = {
    "recipe": {
        "modalities": ["flair", "t1ce"],
        "normalisation": {name: {"method": "zscore"} for name in ("flair", "t1ce")},
        "crop": "nonzero",
        "patch_size": [16, 16, 16],
    },
    "model": {"depth": 1, "width": 2},
    "split": {"validation": 0.34, "test": 0.0},
    "training": {
        "epochs": 2, "batch_size": 1, "micro_batch": 1, "steps_per_epoch": 2,
        "deep_supervision": False, "ema": None, "grow_patch": None, "augment": None,
        "precision": "float32", "deterministic": True, "workers": 1, "cache_mb": 0,
    },
}  # fmt: skip
# Each reads what those before it have written; {} is the folder of all that.
COMMANDS: Mapping[str, str] = {
    "preprocess": "preprocess {}/dataset -o out --config {}/config.yaml --workers 1",
    "train": "train {}/preprocess/out -o out",
    "export-onnx": "export-onnx {}/train/out -o out/model.onnx",
    "predict": "predict {}/export-onnx/out/model.onnx {}/dataset -o out --device cpu --threads 1",
    "evaluate": "evaluate {}/predict/out {}/dataset -o out --workers 1",
    "cross-validate": "cross-validate {}/preprocess/out -o out --folds 2 --epochs 1 --validation 0",
}


@dataclass(frozen=True, slots=True)
class Line:
    """The folder of what commands read: a data set, and the output of each undisturbed command."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, commands: Iterable[str] = tuple(COMMANDS)) -> "Line":
        """Make the data set and run commands undisturbed, but for what is there already."""
        line = cls(folder.resolve())
        if not (line.folder / "config.yaml").exists():
            make_phantoms(line.folder / "dataset", CASES, seed=1, shape=SHAPE)
            changed_config("crops32", _CHANGES, line.folder / "config.yaml")
        for command in commands:
            if not (line.folder / command / ".done").exists():
                done = line.run(command, line.folder / command)
                if done.returncode:
                    raise RuntimeError(f"{command} fails undisturbed: {done.stderr}")
                (line.folder / command / ".done").touch()
        return line

    def words(self, command: str, folder: Path | None = None) -> list[str]:
        """Return the arguments of a command: the first time, or again in `folder`."""
        words = COMMANDS[command].format(*[self.folder] * 2).split()
        return words + (self.goes_on(command, folder) if folder else [])

    @staticmethod
    def goes_on(command: str, folder: Path) -> list[str]:
        """Return what must be added to a command whose training has ended an epoch before."""
        begun = {
            "train": (folder / OUT / "last.keras").exists(),
            "cross-validate": any((folder / OUT).glob("fold-*/last.keras")),
        }
        return ["--resume"] if begun.get(command) else []

    def fresh(self, name: str) -> Path:
        """Make an empty folder for a try, beside the undisturbed: reports say the way there."""
        folder = self.folder / f"try-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def run(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a command in a folder, in a process of its own; again, if it has run there."""
        folder.mkdir(parents=True, exist_ok=True)
        code = "from vol3dseg.cli.main import main; main()"
        words = self.words(command, folder)
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def differences(self, command: str, folder: Path) -> list[str]:
        """Return in which files the output in `folder` differs from the undisturbed one, if any."""
        return differences(self.folder / command / OUT, folder / OUT)
