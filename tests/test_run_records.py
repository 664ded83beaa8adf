"""What a run folder says of its run: going on with other data, and records that are lost or harmed.

A checkpoint holds what the run is made of; the other records are for people, and written anew.
"""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import small_config
from vol3dseg.errors import ConfigError, RunError, Vol3dSegError
from vol3dseg.formats import open_volume
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.model.model_file import describe
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.comparison.runs import read_run

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

from vol3dseg.export.to_onnx import export_onnx  # noqa: E402 - after the skip
from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.keras_archive import MEMBER  # noqa: E402
from vol3dseg.training.several import train_several  # noqa: E402
from vol3dseg.training.training_state import LAST, read_state  # noqa: E402

CHANGED = r"prepared cases have changed since the run began: Case_002; expected the same images"


@pytest.fixture(scope="module")
def config(recipe):
    return small_config(recipe, {"width": 2}, batch_size=1, augment=None)


@pytest.fixture(scope="module")
def made(shared_brats_folder, tmp_path_factory, config):
    """A data set with its prepared folder and a finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(shared_brats_folder, folder / "brats")
    preprocess(folder / "brats", folder / "prepared", config)
    train(folder / "prepared", folder / "run", config)
    return folder


@pytest.fixture
def mine(made, tmp_path):
    """A copy of all of it; its run says that it was made of this copy."""
    folder = shutil.copytree(made, tmp_path / "mine")
    for name in ("best.keras", LAST):
        rewrite_state(folder / "run" / name, lambda t: t.replace(str(made), str(folder)))
    return folder


def rewrite_state(path, change):
    """Replace what a checkpoint holds beside its weights."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[MEMBER] = change(members[MEMBER].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def mend_a_label(folder, config):
    """Give a label map other values in the same number of bytes, and prepare it anew."""
    path = folder / "brats" / "Case_002" / "Case_002_seg.nii.gz"
    array, grid = open_volume(path).labels()
    nifti.write(path, np.where(array == 4, 2, array).astype(np.uint8), grid)
    preprocess(folder / "brats", folder / "prepared", config)


def test_a_run_does_not_go_on_with_other_labels_of_the_same_cases(mine, config):
    before = (mine / "run" / "training.log").read_bytes()
    mend_a_label(mine, config)
    with pytest.raises(RunError, match=CHANGED):
        train(mine / "prepared", mine / "run", resume=True)
    assert (mine / "run" / "training.log").read_bytes() == before


def test_of_several_runs_a_finished_one_must_be_of_the_same_data(mine, config, tmp_path):
    (tmp_path / "c.json").write_text(config.model_dump_json())  # JSON is YAML
    words = (mine / "prepared", mine, {"run": tmp_path / "c.json"}, True)
    ((_, outcome),) = train_several(*words, progress=lambda line: None)
    assert outcome.finished
    mend_a_label(mine, config)
    ((_, outcome),) = train_several(*words, progress=lambda line: None)
    assert not outcome.finished
    assert "was finished before" in outcome.said
    assert "Case_002" in outcome.said


def test_an_export_is_not_proven_on_other_data_without_a_word(mine, config, tmp_path):
    said, output = [], tmp_path / "model.onnx"
    assert export_onnx(mine / "run", output).parity.notes == ()
    output.unlink()
    mend_a_label(mine, config)
    wanted = r"does not hold what the run learned from: Case_002; .*--prepared"
    with pytest.raises(RunError, match=wanted):
        export_onnx(mine / "run", output)
    assert not output.exists()
    named = export_onnx(mine / "run", output, patches=mine / "prepared", progress=said.append)
    assert "does not hold what the run learned from: Case_002" in named.parity.notes[0]
    assert said == [f"note: {named.parity.notes[0]}"]


def test_a_run_goes_on_in_a_folder_that_was_moved(mine):
    moved = mine / "elsewhere"
    (mine / "prepared").rename(moved)
    train(moved, mine / "run", resume=True)
    with pytest.raises(RunError, match=r"is gone; .*--prepared"):
        export_onnx(mine / "run", mine / "m.onnx")
    assert export_onnx(mine / "run", mine / "m.onnx", patches=moved).parity.notes == ()


RECORDS = ("manifest.json", "config.yaml", "split.json")


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"\xff{")])
def test_records_that_are_lost_or_harmed_are_written_anew(mine, harm):
    run = mine / "run"
    whole = {name: (run / name).read_text() for name in RECORDS}
    for name in (*RECORDS, "environment.json"):  # which nothing needs
        harm(run / name)
    with pytest.raises(Vol3dSegError):
        read_run(run)
    train(mine / "prepared", run, resume=True)
    again = {name: (run / name).read_text() for name in RECORDS}
    for name in ("config.yaml", "split.json"):
        assert again[name] == whole[name]
    facts = [json.loads(each["manifest.json"])["members"] for each in (whole, again)]
    assert facts[0] == facts[1]
    assert read_run(run).training.epochs == 1


HARMS = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\x00\xff" * 40),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "another document": lambda path: path.write_text("[1, 2]"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}
USES = {
    "manifest.json": (lambda m: describe(m / "run"), lambda m: export_onnx(m / "run", m / "m")),
    "config.yaml": (lambda m: read_run(m / "run"),),
    "split.json": (lambda m: read_run(m / "run"),),
    "training.log": (lambda m: read_run(m / "run"),),
    "scores/validation/summary.json": (lambda m: read_run(m / "run"),),
    "best.keras": (
        lambda m: export_onnx(m / "run", m / "m"),
        lambda m: train(m / "prepared", m / "run", resume=True),
    ),
    LAST: (lambda m: train(m / "prepared", m / "run", resume=True),),
}


@pytest.mark.parametrize("name", USES)
def test_a_harmed_record_is_an_error_of_ours_that_names_it(mine, name):
    path = mine / "run" / name
    content = path.read_bytes()
    for how, harm in HARMS.items():
        if name.startswith("scores") and how in {"missing", "a folder"}:
            continue  # a run that was not scored
        harm(path)
        for use in USES[name]:
            with pytest.raises((RunError, ConfigError, Vol3dSegError)) as caught:
                use(mine)
            assert str(mine / "run") in caught.value.where, how
            said = str(caught.value)  # what a config lacks is said of each key
            assert "expected" in said or "is missing" in said or caught.value.remedy, how
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def test_a_checkpoint_of_another_epoch_is_not_what_the_manifest_says(mine):
    rewrite_state(
        mine / "run" / "best.keras", lambda text: text.replace('"epochs":1', '"epochs":7')
    )
    assert read_state(mine / "run" / "best.keras").epochs == 7
    with pytest.raises(RunError, match=r"holds epoch 7; expected epoch 1, .*--resume"):
        export_onnx(mine / "run", mine / "m.onnx")


def test_a_log_that_was_moved_away_does_not_stop_the_run(mine):
    (mine / "run" / "training.log").write_bytes(b"\xff\xff")
    with pytest.raises(RunError, match=r"training\.log: is damaged; .*move it elsewhere"):
        train(mine / "prepared", mine / "run", resume=True)
    (mine / "run" / "training.log").rename(mine / "log")
    train(mine / "prepared", mine / "run", resume=True)
