"""Files and folders that the user may not read: one line that names them, whichever command."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from vol3dseg.config import Config, ModelConfig, dump_config
from vol3dseg.inference.predicting import predict
from vol3dseg.model.model_file import with_manifest
from vol3dseg.preprocessing.prepare_dataset import preprocess

CODE = "from vol3dseg.cli.main import main; main()"
DROPPED = "-dac_override,-dac_read_search"  # what lets root read everything
SPLIT = {"train": ["Case_001"], "validation": [], "test": ["Case_002", "Case_003"]}


@pytest.fixture(scope="module")
def prefix():
    if os.name == "nt":
        pytest.skip("rights are of another kind")
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv to take that away")
    return ["setpriv", f"--bounding-set={DROPPED}", f"--inh-caps={DROPPED}"]


@pytest.fixture(scope="module")
def folder(shared_brats_folder, tmp_path_factory, recipe, labels, manifest_of, graph_of):
    """One of everything: data, config, prepared folder, run, model, predictions, split."""
    folder = tmp_path_factory.mktemp("rights")
    shutil.copytree(shared_brats_folder, folder / "brats")
    config = Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1))
    (folder / "config.yaml").write_text(dump_config(config))
    preprocess(folder / "brats", folder / "prepared", config)
    manifest = manifest_of(recipe, labels)
    (folder / "model.onnx").write_bytes(with_manifest(graph_of(2, 4), manifest))
    predict(folder / "model.onnx", [folder / "brats"], folder / "out")
    (folder / "split.json").write_text(json.dumps(SPLIT))
    (folder / "run").mkdir()
    (folder / "run" / "manifest.json").write_text(manifest.model_dump_json())
    return folder


@pytest.mark.parametrize(
    ("locked", "words"),
    [
        ("config.yaml", "check brats --config config.yaml"),
        ("prepared/index.json", "info prepared"),
        ("prepared/index.json", "split prepared -o S"),
        ("prepared/index.json", "preprocess brats -o prepared --config config.yaml"),
        ("prepared", "info prepared"),
        ("run/manifest.json", "info run"),
        ("run", "info run"),
        ("run", "compare run prepared -o C"),
        ("model.onnx", "info model.onnx"),
        ("split.json", "predict model.onnx brats -o out2 --split split.json"),
        ("out/predictions.json", "evaluate out brats -o R"),
        ("out/predictions.json", "predict model.onnx brats -o out --resume"),
        ("out/Case_001.nii.gz", "evaluate out brats -o R"),
        ("out", "evaluate out brats -o R"),
        ("out", "predict model.onnx brats -o out --resume"),
        ("brats", "check brats"),
        ("brats/Case_001", "check brats"),
        ("brats/Case_001", "inspect brats -o I"),
        ("brats", "predict model.onnx brats -o out2"),
    ],
)
def test_what_may_not_be_read_is_named_in_one_line(folder, prefix, locked, words):
    if words.startswith("inspect"):
        pytest.importorskip("matplotlib")
    path = folder / locked
    rights = path.stat().st_mode
    path.chmod(0)
    try:
        done = subprocess.run(
            [*prefix, sys.executable, "-c", CODE, *words.split()],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        path.chmod(rights)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr, done.stderr[-500:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert path.name in line
    assert "Permission denied" in line
