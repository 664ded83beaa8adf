"""The lines of docs/onnxruntime.md do what predict does, with three packages alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vol3dseg.formats import read_image
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.predicting import predict
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry

PAGE = Path(__file__).parents[1] / "docs" / "onnxruntime.md"
CODE = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
# Whoever imports one of these now finds nothing.
ALONE = """
import sys
for name in ("vol3dseg", "onnx", "h5py", "pydantic", "scipy", "tensorflow", "yaml"):
    sys.modules[name] = None
"""
# As scanners give them: axes in another order, two of them backwards, oblique.
COS, SIN = np.cos(0.1), np.sin(0.1)
AFFINE = np.array([[COS, -SIN, 0, 9], [SIN, COS, 0, 8], [0, 0, 1, 7], [0, 0, 0, 1]]) @ np.array(
    [[0, 0, -1.1, 40], [1.2, 0, 0, -30], [0, -1, 0, 25], [0, 0, 0, 1]]
)


def scan(shape=(26, 31, 22)):
    """A bright ball in noise, with nothing around it, off the middle."""
    places = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    radius = np.sqrt(sum((p - c) ** 2 for p, c in zip(places, (14, 13, 12), strict=True)))
    noise = np.random.default_rng(0).normal(300, 60, shape)
    return np.where(radius < 11, noise + 400 * (radius < 5), 0).astype(np.int16)


@pytest.mark.parametrize(
    "local", [pytest.param(True, id="one pass"), pytest.param(False, id="tiles")]
)
@pytest.mark.parametrize("patch", [(12, 8, 10), (32, 32, 32)], ids=str)
def test_the_lines_give_what_predict_gives(tmp_path, labels, manifest_of, small_unet, local, patch):
    recipe = Recipe(modalities=("flair",), normalisation={"method": "zscore"}, patch_size=patch)
    manifest = manifest_of(recipe, labels)
    network = {"local": local, "divisor": (2, 2, 2), "receptive_field": (6, 6, 6)}
    manifest = manifest.model_copy(
        update={
            "network": manifest.network.model_copy(update=network),
            "tiling": Tiling.of(patch, overlap=0.4),
        }
    )
    graph = small_unet(np.random.default_rng(1))
    (tmp_path / "model.onnx").write_bytes(with_manifest(graph, manifest))
    nifti.write(tmp_path / "flair.nii.gz", scan(), Geometry(scan().shape, AFFINE))
    done = subprocess.run(
        [sys.executable, "-c", ALONE + CODE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = predict(tmp_path / "model.onnx", str(tmp_path / "flair.nii.gz"), tmp_path / "out")
    ((_, made),) = record.cases.items()
    assert ("one pass" in made.plan) == local, made.plan
    expected, grid = read_image(tmp_path / "out" / made.file)
    found, same = read_image(tmp_path / "labels.nii.gz")
    assert same.fits(grid)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(found, expected)


def test_another_recipe_is_refused(tmp_path, labels, manifest_of, graph_of):
    recipe = Recipe(
        modalities=("flair",), normalisation={"method": "window", "low": 0, "high": 1},
        patch_size=(8, 8, 8),
    )  # fmt: skip
    (tmp_path / "model.onnx").write_bytes(
        with_manifest(graph_of(1, 4), manifest_of(recipe, labels))
    )
    done = subprocess.run(
        [sys.executable, "-c", ALONE + CODE], cwd=tmp_path, capture_output=True, text=True
    )
    assert "another normalisation" in done.stderr
    assert json.loads(manifest_of(recipe, labels).model_dump_json())["tiling"]["step"] == [4, 4, 4]
