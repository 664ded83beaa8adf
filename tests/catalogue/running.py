"""Commands as a user types them, run in this process, and what they leave behind."""

import sys
from dataclasses import dataclass

import h5py
import nibabel as nib
import numpy as np
import pytest

from tests.catalogue.data import MODALITIES, DataSet
from tests.catalogue.row import Row
from vol3dseg.cli.main import main

STORED = (*(f"image/{name}" for name in MODALITIES), "label")
PREFIXES = ("failed: case one: ", "error: case one: ", "error: ")


@dataclass(frozen=True)
class Done:
    """What a command has said, and its exit code."""

    code: int
    lines: tuple[str, ...]

    @property
    def refusals(self) -> list[str]:
        """What was refused: each line without the words that say that it was."""
        found = []
        for line in self.lines:
            start = next((p for p in PREFIXES if line.startswith(p)), None)
            if start:
                found.append(line.removeprefix(start))
        return found


def words(row: Row, data: DataSet, config, model) -> list[str]:
    """Return the command of a row, without the name of the program."""
    if row.predict:
        return ["predict", model, data.given, "-o", data.out]
    return ["preprocess", data.given, "-o", data.out, "--config", config, "-j", "1"]


def run(command: list[str], capsys: pytest.CaptureFixture) -> Done:
    """Run the program in this process; an error that is not ours comes out as it is."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vol3dseg", *map(str, command)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    said = capsys.readouterr()
    return Done(code, tuple((said.out + said.err).splitlines()))


def leavings(data: DataSet) -> list[str]:
    """Return what stands in the output besides its lists of cases."""
    lists = {"index.json", "predictions.json"}
    return sorted(p.name for p in data.out.rglob("*") if p.is_file() and p.name not in lists)


def outcome(row: Row, data: DataSet) -> dict[str, np.ndarray]:
    """Return the arrays that a command has made of the case."""
    if not row.predict:
        with h5py.File(data.out / "cases" / "one.h5") as file:
            return {name: file[name][()] for name in STORED}
    image = nib.as_closest_canonical(nib.load(data.out / "one.nii.gz"))
    return {"segmentation": np.asarray(image.dataobj), "affine": image.affine}
