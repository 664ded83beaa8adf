"""A finished run goes on to more epochs, and stays what it is until the longer one is whole."""

import shutil

import pytest

from tests.conftest import log_of, small_config, trained_here
from vol3dseg.errors import RunError
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.training import more_epochs, several, training_state  # noqa: E402
from vol3dseg.training.child_process import Outcome  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.training_state import read_state  # noqa: E402

RECORDS = ("manifest.json", "config.yaml", "training.log", "best.keras", "last.keras")
VAL_LOSS = (0.9, 0.5, 0.7, 0.3, 0.4)


class Judge(keras.callbacks.Callback):
    """Says how good each epoch is."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = VAL_LOSS[epoch]


class PowerCutError(Exception):
    """Nobody knows of it."""


def make_config(recipe, epochs, **training):
    training = {"epochs": epochs, "steps_per_epoch": 2, "deterministic": True, **training}
    return small_config(recipe, {"norm": "instance"}, **training)


@pytest.fixture(scope="module")
def prepared(shared_brats_folder, tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("more") / "prepared"
    preprocess(shared_brats_folder, folder, make_config(recipe, 1))
    return folder


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory, recipe):
    """A run of two epochs, not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(prepared, run, make_config(recipe, 2), callbacks=[Judge()])
    return run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(autouse=True)
def _fresh_session():
    yield
    keras.backend.clear_session()


def records(run):
    return {name: (run / name).read_bytes() for name in RECORDS}


def go_on(prepared, run, config, cut="never"):
    def progress(line):
        if line.startswith(cut):
            raise PowerCutError

    return train(prepared, run, config, callbacks=[Judge()], resume=True, progress=progress)


@pytest.mark.slow
def test_a_finished_run_that_goes_on_equals_one_that_was_always_longer(
    run, finished, prepared, tmp_path, recipe
):
    """However often it is stopped; what is finished stays until the longer run is whole."""
    longer, before = make_config(recipe, 4), records(run)
    with pytest.raises(PowerCutError):
        go_on(prepared, run, longer, cut="epoch 3/")
    assert records(run) == before
    assert read_state(run / "more-epochs" / "last.keras").epochs == 3
    with pytest.raises(PowerCutError):
        go_on(prepared, run, None, cut="whole-volume")  # it knows to how many epochs
    assert records(run) == before
    manifest = go_on(prepared, run, longer)
    assert (manifest.members[0].epoch, manifest.members[0].epochs) == (4, 4)
    assert not (run / "more-epochs").exists()
    assert {p.name for p in run.iterdir()} == {p.name for p in finished.iterdir()}
    train(prepared, tmp_path / "straight", longer, callbacks=[Judge()])
    assert log_of(run) == log_of(tmp_path / "straight")


def test_a_decay_that_has_ended_goes_on_as_that_of_the_longer_run_and_best_stays_best(
    prepared, tmp_path, recipe
):
    run = tmp_path / "run"
    train(prepared, run, make_config(recipe, 2, schedule="cosine"), callbacks=[Judge()])
    longer = make_config(recipe, 3, schedule="cosine")
    assert go_on(prepared, run, longer).members[0].epoch == 2
    rates = [float(row["learning_rate"]) for row in log_of(run)]
    first = longer.training.learning_rate
    # At its end an epoch shows the rate of the step after it.
    assert rates == pytest.approx([first / 2, 0, 0], abs=1e-9)
    with pytest.raises(RunError, match=r"training\.epochs: 3 and 2; .*only training\.epochs may"):
        go_on(prepared, run, make_config(recipe, 2, schedule="cosine"))
    with pytest.raises(RunError, match=r"config differs from this one in training\.\w+: "):
        go_on(prepared, run, make_config(recipe, 4))
    assert not (run / "more-epochs").exists()


def test_wherever_it_is_cut_off_in_the_end_the_same_again_ends_it(
    run, prepared, tmp_path, recipe, monkeypatch
):
    write, take_place = more_epochs.write_bytes, more_epochs._take_place
    whole = tmp_path / "whole"

    def keep(longer, run):
        shutil.copytree(run, whole)
        take_place(longer, run)

    monkeypatch.setattr(more_epochs, "_take_place", keep)
    done = go_on(prepared, run, make_config(recipe, 3))
    monkeypatch.setattr(more_epochs, "_take_place", take_place)
    files = {p.relative_to(run): p.read_bytes() for p in run.rglob("[!.]*") if p.is_file()}
    assert len(files) > 10
    for number in range(len(files)):
        place, written = shutil.copytree(whole, tmp_path / str(number)), []

        def some(path, content, written=written, number=number):
            if len(written) == number:
                raise PowerCutError
            written.append(path)
            write(path, content)

        monkeypatch.setattr(more_epochs, "write_bytes", some)
        with pytest.raises(PowerCutError):
            take_place(place / "more-epochs", place)
        assert not (place / "manifest.json").exists()  # nobody may take it for finished
        monkeypatch.setattr(more_epochs, "write_bytes", write)
        if number == len(files) - 2:
            assert go_on(prepared, place, None).members == done.members
        else:
            take_place(place / "more-epochs", place)
            again = {
                p.relative_to(place): p.read_bytes() for p in place.rglob("[!.]*") if p.is_file()
            }
            assert again == files
        assert not (place / "more-epochs").exists()


def test_a_run_that_early_stopping_ended_has_no_use_for_more_epochs(
    run, prepared, recipe, monkeypatch
):
    state = read_state(run / "last.keras")
    ended = state.model_copy(update={"remembered": {"EarlyStopping": {"stopped_epoch": 1}}})
    monkeypatch.setattr(training_state, "read_state", lambda path: ended)
    with pytest.raises(RunError, match=r"early stopping ended it after 2 epochs; .*patience"):
        go_on(prepared, run, make_config(recipe, 4))
    assert not (run / "more-epochs").exists()


@pytest.mark.parametrize(
    ("epochs", "said"), [(2, "had been finished"), (3, "trained: True"), (1, "failed: was fin")]
)
def test_several_runs_go_on_too(epochs, said, run, prepared, recipe, monkeypatch):
    monkeypatch.setattr(several, "apart", trained_here)
    monkeypatch.setattr(several, "_train", lambda *words, **_: Outcome(f"trained: {words[3]}"))
    configs = {"run": make_config(recipe, epochs)}
    ((folder, outcome),) = several.train_several(prepared, run.parent, configs, resume=True)
    assert folder == run
    assert outcome.said.startswith(said)
