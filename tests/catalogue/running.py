"""Commands as a user types them, run in this process, and what they say and leave behind."""

import json
import re
import sys
from dataclasses import dataclass

import h5py
import nibabel as nib
import numpy as np
import pytest

from tests.catalogue.data import MODALITIES, DataSet
from tests.catalogue.row import Row
from tests.catalogue.signed import TRUSTED, sign
from vol3dseg.cli.main import main

STORED = (*(f"image/{name}" for name in MODALITIES), "label")
_CASE = re.compile(r"(case one|1 of 1 cases \(one\)): ")
_REFUSALS, _REMARKS = ("failed: ", "error: "), ("note: ", "warning: ", "repaired: ")


@dataclass(frozen=True)
class Done:
    """What a command has said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def refusals(self) -> list[str]:
        """What was refused: a line each, without `failed:` and the name of the case."""
        return [_about(x.split(": ", 1)[1]) for x in self._lines if x.startswith(_REFUSALS)]

    @property
    def remarks(self) -> list[str]:
        """Notes, warnings and repairs: a line each, without the name of the case."""
        return [_about(line) for line in self._lines if line.startswith(_REMARKS)]

    @property
    def findings(self) -> list[str]:
        """What `check --json` has found wrong: a line each, as `refusals`."""
        if not self.out:
            return self.refusals
        errors = [f for f in json.loads(self.out)["findings"] if f["severity"] == "error"]
        return [_about(f"{f['where']}: {_sentence(f)}") for f in errors]

    @property
    def _lines(self) -> list[str]:
        return [line.strip() for line in (self.out + self.err).splitlines()]


def _about(line: str) -> str:
    return _CASE.sub("", line, count=1)


def _sentence(finding: dict[str, str]) -> str:
    wanted = finding["expected"] and f"expected {finding['expected']}"
    return "; ".join(filter(None, (finding["found"], wanted, finding["remedy"], finding["listed"])))


def words(row: Row, data: DataSet, config, model) -> list[str]:
    """Return the command of a row, without the name of the program."""
    if row.evaluate is not None:
        folders = [data.folder / name for name in ("predictions", "references")]
        more = [word.format(folder=data.folder) for word in row.evaluate]
        command = ["evaluate", *folders, "-o", data.out, "--config", config, *more]
    elif row.signed is not None:
        copy = sign(model, data.folder)
        row.signed(copy)
        command = ["predict", copy, data.given, "-o", data.out, "--trusted", copy.parent / TRUSTED]
    elif row.predict:
        command = ["predict", model, data.given, "-o", data.out, *row.options]
    else:
        command = ["preprocess", data.given, "-o", data.out, "--config", config, "-j", 1]
    return [str(word) for word in command]


def run(command: list[str], capsys: pytest.CaptureFixture) -> Done:
    """Run the program in this process; an error that is not ours comes out as it is."""
    capsys.readouterr()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vol3dseg", *command])
        patch.setenv("PYTHONSAFEPATH", "1")  # which it sets, and which shall not stay
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return Done(code, *capsys.readouterr())


def leavings(data: DataSet) -> list[str]:
    """Return what stands in the output besides its lists of cases and what was there before."""
    lists = {"index.json", "predictions.json", ".vol3dseg-files"}
    known = lists | data.before
    return sorted(p.name for p in data.out.rglob("*") if p.is_file() and p.name not in known)


def outcome(row: Row, data: DataSet) -> dict[str, np.ndarray]:
    """Return the arrays that a command has made of the case; of a segmentation, turned to RAS."""
    if not row.predict:
        with h5py.File(data.out / "cases" / "one.h5") as file:
            return {name: file[name][()] for name in STORED if name in file}
    image = nib.load(data.out / "one.nii.gz")
    return {"segmentation": np.asarray(nib.as_closest_canonical(image).dataobj)}


def repairs(row: Row, data: DataSet) -> list[str]:
    """Return the repairs that are recorded with the case."""
    if row.predict:
        record = json.loads((data.out / "predictions.json").read_text())
        return record["cases"]["one"]["repairs"]
    (entry,) = json.loads((data.out / "index.json").read_text())["cases"]
    return entry["repairs"]
