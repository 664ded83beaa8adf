"""The catalogue of bad inputs: each is refused in one line, or read right."""

import numpy as np
import pytest
import yaml

from tests.catalogue.catalogue import ROWS
from tests.catalogue.data import DataSet
from tests.catalogue.running import leavings, outcome, run, words
from vol3dseg.config import load_config

pytestmark = pytest.mark.catalogue


@pytest.fixture
def config(tmp_path, recipe, row):
    """A config for two modalities, with the labels of a preset."""
    values = load_config(row.preset).model_dump(mode="json")
    values["recipe"] = recipe.model_dump(mode="json")
    values["labels"]["required"] = []
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def made(request, tmp_path):
    """Return what makes the data set of a row, in a folder of its own."""

    def make(row, how=None, name="set"):
        for package in row.needs:
            pytest.importorskip(package)
        slices = request.getfixturevalue("dicom_series") if "DICOM" in row.name else None
        (tmp_path / name).mkdir()
        data = DataSet(tmp_path / name, slices)
        (how or row.make)(data)
        return data

    return make


import os
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row, made, config, model_path, capsys):
    data = made(row)
    done = run(words(row, data, config, model_path), capsys)
    with open("/tmp/cat/dump", "a") as f:
        def san(x): return x.replace(str(data.folder), "{folder}").replace(str(data.out), "{out}").replace(str(data.folder.parent.parent),"{tmp}")
        print(f"## {row.name} exp={'refused' if row.refused else 'read'} code={done.code}", *map(san, done.lines), leavings(data), sep="\n   ", file=f)
        print("  -R", *map(san, [l for l in run([*words(row, data, config, model_path), "--repair"], capsys).lines if not l.startswith("running on")]), sep="\n   ", file=f)
        if not row.predict: print("  -C", *map(san, [l for l in run(["check", data.given, "--config", config, "-j", "1"], capsys).lines if not l.startswith("running on")]), sep="\n   ", file=f)
    if not row.refused and row.like and done.code == 0:
        twin = made(row, row.like, "twin")
        assert run(words(row, twin, config, model_path), capsys).code == 0
        e = outcome(row, twin)
        for name, array in outcome(row, data).items():
            np.testing.assert_array_equal(array, e[name], err_msg=name) if name != "affine" else np.testing.assert_allclose(array, e[name], atol=1e-5)
