"""No command replaces or removes what vol3dseg has not written, or what was changed since."""

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import yaml
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.config import load_config
from vol3dseg.errors import OutputError, Vol3dSegError
from vol3dseg.files import remove_ours, require_writable, write_json, write_text
from vol3dseg.written import LIST_NAME, add_to_list, is_ours


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
        if words[0] in {"split", "show", "inspect"} or "--picture" in words:
            pytest.importorskip("matplotlib")
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


def test_a_folder_that_was_copied_without_its_list_is_known_by_its_record(command, tmp_path):
    for words in (COMMANDS[0].values[0], COMMANDS[2].values[0], COMMANDS[3].values[0]):
        out = tmp_path / words[0]
        assert command(words, out)[1] == 0
        for path in out.rglob(LIST_NAME):
            path.unlink()
        refused, code, said = command(words, out)
        assert (refused, code) == (False, 0), said
    # But not what the record does not name so.
    for path in out.rglob(LIST_NAME):
        path.unlink()
    (out / "Case_001.nii.gz").write_bytes(b"corrected by hand")
    refused, _, said = command(words, out)
    assert refused
    assert "Case_001.nii.gz" in said


def test_a_run_that_was_killed_between_two_files_knows_both(tmp_path, monkeypatch):
    """A file is listed before it is there: its old and its new content are ours."""
    final = tmp_path / "x.txt"
    write_text(final, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_text(final, "new")
    monkeypatch.undo()
    assert final.read_text() == "old"
    assert is_ours(final)
    final.write_text("new")
    assert is_ours(final)


def test_a_list_that_a_full_disk_has_cut_off_goes_on(tmp_path):
    write_text(tmp_path / "old", "old")
    whole = (tmp_path / LIST_NAME).read_bytes()
    for size in range(len(whole)):
        (tmp_path / LIST_NAME).write_bytes(whole[:size])
        (tmp_path / "new").unlink(missing_ok=True)
        write_text(tmp_path / "new", "new")
        assert is_ours(tmp_path / "new"), size


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.mkdir(), id="a folder"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="a dangling link"),
        pytest.param(lambda path: path.symlink_to("ours.txt"), id="a link to a file of ours"),
        pytest.param(lambda path: os.mkfifo(path), id="a pipe"),
    ],
)
def test_what_is_no_plain_file_is_not_ours(make, tmp_path):
    write_text(tmp_path / "ours.txt", "text")
    path = tmp_path / "x.txt"
    make(path)
    kind = path.lstat()
    with pytest.raises(OutputError, match=r"would replace x\.txt, which vol3dseg did not write"):
        write_text(path, "text")
    assert not remove_ours(path)
    assert path.lstat().st_mode == kind.st_mode
    assert path.lstat().st_ino == kind.st_ino


def test_names_with_line_breaks_or_without_text_are_told_apart(tmp_path):
    for name in ("a\nb", "caf\udce9", "a  b"):
        write_text(tmp_path / name, "text")
        assert is_ours(tmp_path / name)
    (tmp_path / "b").write_text("text")
    assert not is_ours(tmp_path / "b")


def test_names_that_are_one_file_are_refused_before_the_first(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"would write a\.png twice"):
        require_writable(tmp_path, ["b.png", "a.png", "a.png"])
    with pytest.raises(OutputError, match=r"cannot be written \(File name too long\)"):
        require_writable(tmp_path, ["a" * 300])
    touch, exact = Path.touch, Path.samefile

    def without_capitals(path, **named):
        touch(path.with_name(path.name.lower()), **named)

    def same(path, other):
        return exact(path.with_name(path.name.lower()), other.with_name(other.name.lower()))

    monkeypatch.setattr(Path, "touch", without_capitals)
    monkeypatch.setattr(Path, "samefile", same)
    with pytest.raises(OutputError, match=r"does not tell a\.png from A\.png"):
        require_writable(tmp_path, ["b.png", "a.png", "A.png"])
    assert not list(tmp_path.iterdir())


def test_a_split_does_not_replace_that_of_a_run(command, given, tmp_path):
    (tmp_path / "last.keras").write_bytes(b"")
    refused, _, said = command(("split", "{}/P", "-o", "{out}"), tmp_path)
    assert refused
    assert "holds a run already" in said
    assert contents(tmp_path) == {"last.keras": b""}


def test_another_cases_files_are_not_replaced(command, given, tmp_path):
    """A case may be called what another's probabilities are called."""
    out, scans = tmp_path / "out", tmp_path / "scans"
    for name in ("a", "a_probabilities"):
        shutil.copytree(given / "D" / "Case_001", scans / name)
        for path in (scans / name).iterdir():
            path.rename(path.with_name(path.name.replace("Case_001", name)))
    words = ("predict", "{}/model.onnx", str(scans), "-o", "{out}", "--device", "cpu")
    refused, _, said = command((*words, "--probabilities"), out)
    assert refused
    assert "would write a_probabilities.nii.gz twice" in said
    assert command(words, out)[1] == 0
    before = contents(out)
    one = ("predict", "{}/model.onnx", str(scans / "a"), "-o", "{out}", "--device", "cpu")
    refused, _, said = command((*one, "--probabilities"), out)
    assert refused
    assert "would replace a_probabilities.nii.gz, which predictions.json has of other" in said
    assert contents(out) == before
    assert command(one, out)[1] == 0  # and the other's label map is no probabilities to remove
    assert contents(out)["a_probabilities.nii.gz"] == before["a_probabilities.nii.gz"]


def test_demo_removes_nothing_but_an_earlier_demo(tmp_path):
    from vol3dseg.cli.demo import _MARKER, _clear, _contents

    def refuses(*names):
        before = contents(tmp_path)
        with pytest.raises(OutputError, match=f"holds {', '.join(names)}, which no demo has made"):
            _clear(tmp_path)
        assert contents(tmp_path) == before

    write_text(tmp_path / "known" / "x.txt", "made")
    write_json(tmp_path / _MARKER, _contents(tmp_path))
    (tmp_path / "known" / "notes.txt").write_text("mine")
    refuses("known/notes.txt")
    (tmp_path / "known" / "notes.txt").unlink()
    (tmp_path / "mine").mkdir()
    (tmp_path / "known" / "to").symlink_to("x.txt")
    os.mkfifo(tmp_path / "known" / "pipe")
    (tmp_path / "known" / "x.txt").write_text("changed")
    refuses("known/pipe", "known/to", "known/x.txt", "mine")
    (tmp_path / "mine").rmdir()
    for name in ("pipe", "to"):
        (tmp_path / "known" / name).unlink()
    (tmp_path / "known" / "x.txt").write_text("made")
    _clear(tmp_path)
    assert not tmp_path.exists()
    tmp_path.mkdir()
    for content in ("mine", "[1]", "{}"):
        (tmp_path / _MARKER).write_text(content)
        refuses(_MARKER)


def test_demo_refuses_what_is_no_folder(tmp_path):
    from vol3dseg.cli.demo import _clear

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for name, target in (("link", "folder"), ("to file", "file"), ("nowhere", "absent")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(OutputError, match=f"{name}: is a symbolic link; expected a folder"):
            _clear(tmp_path / name)
    with pytest.raises(OutputError, match="file: is no folder"):
        _clear(tmp_path / "file")


def test_processes_that_begin_a_list_at_once_lose_no_file(tmp_path):
    together = Barrier(2)

    def add(place):
        folder, name = place
        together.wait()
        add_to_list(folder, {name: "0" * 64})

    for turn in range(200):
        (folder := tmp_path / str(turn)).mkdir()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(add, [(folder, "a"), (folder, "b")]))
        assert {line[-1:] for line in (folder / LIST_NAME).read_bytes().split()} >= {b"a", b"b"}
