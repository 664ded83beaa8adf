"""No command replaces or removes what vol3dseg has not written, or what was changed since."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.config import load_config
from vol3dseg.errors import Vol3dSegError
from vol3dseg.written import LIST_NAME


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(*words):
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, Vol3dSegError | SystemExit):
        raise done.exception
    said = f"{done.output} {done.exception or ''}"
    return isinstance(done.exception, Vol3dSegError), done.exit_code, said


@pytest.fixture(scope="module")
def given(shared_brats_folder, recipe, labels, tmp_path_factory):
    """What commands need, made once: data, a config, a model, a prepared folder, predictions."""
    from tests.conftest import make_graph, make_manifest
    from vol3dseg.model.model_file import with_manifest

    folder = tmp_path_factory.mktemp("given")
    data = load_config("crops32").model_dump(mode="json") | {
        "recipe": recipe.model_dump(mode="json")
    }
    data |= {"model": {"depth": 1, "width": 4}, "split": {"validation": 0.3, "test": 0.0}}
    data["training"] = {"epochs": 2, "batch_size": 2, "steps_per_epoch": 1}
    data["training"] |= {"reduce_lr_on_plateau": None, "early_stopping": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    graph = make_graph(len(recipe.modalities), len(labels.classes))
    (folder / "model.onnx").write_bytes(with_manifest(graph, make_manifest(recipe, labels)))
    parts = {"train": ["Case_001"], "validation": ["Case_002"], "test": ["Case_003"]}
    (folder / "parts.json").write_text(json.dumps(parts))
    shutil.copytree(shared_brats_folder, folder / "D")
    words = ("preprocess", folder / "D", "-o", folder / "P", "-c", folder / "config.yaml", "-j", 1)
    assert run(*words)[1] == 0
    words = ("predict", folder / "model.onnx", folder / "D", "-o", folder / "O", "--device", "cpu")
    assert run(*words)[1] == 0
    return folder


PREDICT = ("predict", "{}/model.onnx", "{}/D", "-o", "{out}", "--device", "cpu")
EXTRAS = ("--probabilities", "--picture")
COMMANDS = [
    pytest.param(
        ("preprocess", "{}/D", "-o", "{out}", "-c", "{}/config.yaml", "-j", "1"), id="preprocess"
    ),
    pytest.param(("split", "{}/P", "-o", "{out}"), id="split"),
    pytest.param((*PREDICT, *EXTRAS), id="predict"),
    pytest.param((*PREDICT, *EXTRAS, "--resume"), id="predict --resume"),
    pytest.param((*PREDICT, "--format", "nrrd"), id="predict --format"),
    pytest.param(("evaluate", "{}/O", "{}/D", "-o", "{out}"), id="evaluate"),
    pytest.param(
        ("evaluate", "{}/O", "{}/D", "-o", "{out}", "--split", "{}/parts.json"),
        id="evaluate --split",
    ),
    pytest.param(("inspect", "{}/D", "-o", "{out}", "-j", "1"), id="inspect"),
    pytest.param(
        ("show", "{}/D/Case_001/Case_001_t1.nii.gz", "{}/O/Case_001.nii.gz", "-o", "{out}/p.png"),
        id="show",
    ),
    pytest.param(("check", "{}/D", "--table", "{out}/t.csv", "-j", "1"), id="check --table"),
]  # fmt: skip


TRAINING = [
    pytest.param(words, marks=pytest.mark.train, id=words[0])
    for words in (
        ("train", "{}/P", "-o", "{out}", "-c", "{}/config.yaml"),
        ("export-onnx", "{}/R", "-o", "{out}/m.onnx"),
        ("compare", "{}/R", "{}/R2", "-o", "{out}"),
    )
]


CHECKPOINTS = ("best.keras", "last.keras")  # they say of themselves that they are ours


@pytest.fixture
def command(given):
    """Return what runs a command into a folder, once there is a run if it needs one."""

    def run_into(words, out):
        if "{}/R" in words and not (given / "R").exists():
            run("train", given / "P", "-o", given / "R", "-c", given / "config.yaml")
            shutil.copytree(given / "R", given / "R2")
        return run(*(word.replace("{out}", str(out)).replace("{}", str(given)) for word in words))

    return run_into


@pytest.mark.parametrize("words", COMMANDS + TRAINING)
def test_foreign_files_of_every_name_that_is_written_stay(words, command, tmp_path):
    clean = tmp_path / "clean"
    refused, code, said = command(words, clean)
    assert (refused, code) == (False, 0), said
    names = sorted(contents(clean))
    assert LIST_NAME in {Path(name).name for name in names}
    for number, some in enumerate([*([name] for name in names), names]):
        out = tmp_path / str(number)
        for name in some:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(b"somebody's own")
        refused, _, said = command(words, out)
        assert refused, some
        assert any(Path(name).name in said for name in some) or "holds a run already" in said
        assert re.search("another|new folder|predict again", said)
        left = {n: c for n, c in contents(out).items() if n in some or Path(n).name != LIST_NAME}
        assert left == dict.fromkeys(some, b"somebody's own")


@pytest.mark.parametrize("words", COMMANDS + TRAINING)
def test_what_was_written_is_replaced_unless_it_was_changed(words, command, tmp_path):
    out = tmp_path / "out"
    assert command(words, out)[1] == 0
    words = (*words, "--resume") if words[0] == "train" else words
    refused, code, said = command(words, out)
    assert (refused, code) == (False, 0), said
    whole = shutil.copytree(out, tmp_path / "whole")
    for name, content in contents(out).items():
        if Path(name).name == LIST_NAME:
            continue
        (out / name).write_bytes(content + b"\n")
        before = contents(out)
        refused, _, said = command(words, out)
        assert Path(name).name in said or name in CHECKPOINTS
        assert contents(out) == before if refused else before[name] in contents(out).values()
        shutil.rmtree(out)
        shutil.copytree(whole, out)
