"""A training and its page: written as it runs, gone on with, and the training is none the wiser."""

import shutil

import numpy as np
import pytest

from tests.conftest import small_config
from tests.test_training_page import captions, shown, subject
from vol3dseg.errors import OutputError, RunError
from vol3dseg.files import write_text
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.strip import Strip

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.training import live_page  # noqa: E402
from vol3dseg.training.checkpoints import load_checkpoint, read_raw  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.live_page import LivePage, PageEachEpoch  # noqa: E402
from vol3dseg.training.team import Team  # noqa: E402


@pytest.fixture(scope="module")
def prepared(shared_brats_folder, tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("page") / "prepared"
    preprocess(shared_brats_folder, folder, small_config(recipe))
    return folder


def config_of(recipe, **training):
    """What has all that may be disturbed: dropout, batch norm, averages, augmentation."""
    training = {
        "epochs": 3, "steps_per_epoch": 2, "deterministic": True, "precision": "float32",
        "ema": 0.5, **training,
    }  # fmt: skip
    return small_config(recipe, {"width": 2, "norm": "batch", "dropout": 0.5}, **training)


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory, recipe):
    """A run of three epochs that nothing has disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(prepared, run, config_of(recipe))
    return run


@pytest.fixture(autouse=True)
def _fresh_session():
    yield
    keras.backend.clear_session()


def weights_of(run):
    return [
        a.tobytes()
        for a in (*load_checkpoint(run / "last.keras").get_weights(), *read_raw(run / "last.keras"))
    ]


def strip_in(run):
    return Strip.model_validate_json((run / "strip.json").read_text())


def test_a_training_is_the_same_without_its_page(whole, prepared, tmp_path, recipe, monkeypatch):
    monkeypatch.setattr(PageEachEpoch, "on_epoch_end", lambda *_: None)
    train(prepared, tmp_path / "run", config_of(recipe))
    assert not (tmp_path / "run" / "strip.json").exists()
    assert weights_of(tmp_path / "run") == weights_of(whole)
    assert (tmp_path / "run" / "training.log").read_text() == (whole / "training.log").read_text()


def test_the_page_of_a_finished_run(whole, browse):
    html = (whole / "training.html").read_text("utf-8")
    assert captions(html)[2:] == ["epoch 1", "epoch 2", "epoch 3"]
    assert "Finished: the weights after epoch" in html
    assert "of 1 whole validation volumes" in html
    assert "2 training and 1 validation cases · flair, t1 · 3 classes" in html
    assert "patches of 16 x 16 x 16 voxels, 2 in a batch, 2 steps in an epoch" in html
    assert all(f"</span>{name} 0." in html for name in ("edema", "enhancing"))
    assert not browse(whole / "training.html")[1]


def test_a_run_that_is_cut_says_so_and_its_strip_goes_on(whole, prepared, tmp_path, recipe):
    def cut(line):
        if line.startswith("epoch 2/3"):
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(prepared, run, config_of(recipe), progress=cut)
    html = (run / "training.html").read_text("utf-8")
    assert "Stopped (KeyboardInterrupt). vol3dseg train --resume goes on." in html
    assert "2 of 3 epochs" in html
    train(prepared, run, config_of(recipe), resume=True)
    assert strip_in(run) == strip_in(whole)
    assert [each.epoch for each in strip_in(run).predictions] == [1, 2, 3]
    assert len({each.picture for each in strip_in(run).predictions}) > 1
    assert weights_of(run) == weights_of(whole)


def test_more_epochs_go_on_with_the_strip_and_bear_the_name_of_the_run(
    whole, prepared, tmp_path, recipe
):
    run = shutil.copytree(whole, tmp_path / "named")
    train(prepared, run, config_of(recipe, epochs=4), resume=True)
    epochs = [each.epoch for each in strip_in(run).predictions]
    assert epochs == [1, 2, 4]
    assert strip_in(run).predictions[:2] == strip_in(whole).predictions[:2]
    assert "<title>Training of named</title>" in (run / "training.html").read_text("utf-8")


@pytest.mark.parametrize("content", ['{"predictions": [{"epoch": 1, "picture": "\\"<b>"}]}', "x"])
def test_a_damaged_strip_begins_anew(content, whole, prepared, tmp_path, recipe):
    run, said = tmp_path / "run", []
    shutil.copytree(whole, run)
    (run / "manifest.json").unlink()
    (run / "strip.json").unlink()
    write_text(run / "strip.json", content)
    train(prepared, run, config_of(recipe), resume=True, progress=said.append)
    assert any("strip.json: is damaged" in line for line in said)
    html = (run / "training.html").read_text("utf-8")
    assert captions(html) == ["flair", "reference"]


def test_a_loss_that_is_no_number_is_on_the_page(prepared, tmp_path, recipe):
    def loss(label, logits):
        return keras.ops.mean(logits) * np.nan

    with pytest.raises(RunError):
        train(prepared, tmp_path / "run", config_of(recipe), loss=loss)
    html = (tmp_path / "run" / "training.html").read_text("utf-8")
    assert "Stopped: the loss is nan at step 1 of epoch 1, on patches of Case_00" in html
    assert "0 of 3 epochs" in html
    assert "resume" not in html.split("Stopped: ")[1].split("</p>")[0]
    train(prepared, tmp_path / "run", config_of(recipe, epochs=1))  # what it left is ours
    assert "Finished" in (tmp_path / "run" / "training.html").read_text("utf-8")


@pytest.mark.parametrize("targets", ["classes", "regions"])
def test_without_validation_cases_a_training_case_is_shown(targets, prepared, tmp_path, recipe):
    config = small_config(
        recipe, {"width": 2}, {"validation": 0.0}, targets=targets, deep_supervision=False
    )
    train(prepared, tmp_path / "run", config)
    html = (tmp_path / "run" / "training.html").read_text("utf-8")
    assert "which the network learns from, since there is no validation part" in html
    assert "3 training and 0 validation cases" in html
    assert captions(html)[2:] == ["epoch 1"]


class Moments:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


def live_of(tmp_path, monkeypatch, say=pytest.fail, epochs=10_000, cost_s=0.01):
    """A page without a training, its clock, and the moments at which it was written."""
    clock, written = Moments(), []
    monkeypatch.setattr(live_page, "_subject", lambda *_: subject())
    config = small_config(
        {"modalities": ["a"], "normalisation": {"method": "zscore"}, "patch_size": [16] * 3},
        epochs=epochs,
    )
    page = LivePage(tmp_path, config, None, Team(), 0, say, clock)
    write = page._write

    def timed(ended):
        write(ended)
        clock.now += cost_s
        written.append(clock.now)

    monkeypatch.setattr(page, "_write", timed)
    monkeypatch.setattr(page, "_draw", lambda model: shown().draw(None))
    return page, clock, written


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.01, 5.0), (0.4, 20.0)])
def test_pages_come_seldom_enough_to_cost_next_to_nothing(cost_s, pause_s, tmp_path, monkeypatch):
    page, clock, written = live_of(tmp_path, monkeypatch, cost_s=cost_s)
    for epoch in range(1, 1001):
        clock.now += 0.1
        page.epoch_ended(None, epoch, 0.1, None)
    gaps = np.diff(written)
    assert gaps.min() >= pause_s
    assert gaps.max() <= pause_s + cost_s + 0.2
    assert [each.epoch for each in page._strip.predictions][:10] == [2**n for n in range(10)]


def test_a_page_that_cannot_be_written_ends_no_training(tmp_path, monkeypatch):
    (tmp_path / "training.html").write_bytes(b"of somebody else")
    said = []
    page, clock, _ = live_of(tmp_path, monkeypatch, said.append)
    with page:
        for epoch in range(1, 4):
            clock.now += 100
            page.epoch_ended(None, epoch, 1.0, None)
    assert len(said) == 1
    assert "training.html, which vol3dseg did not write" in said[0]
    assert (tmp_path / "training.html").read_bytes() == b"of somebody else"
    with pytest.raises(OutputError):
        write_text(tmp_path / "training.html", "")
