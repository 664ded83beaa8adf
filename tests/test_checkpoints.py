import subprocess
import sys
import zipfile

import pytest

pytest.importorskip("tensorflow")

import keras

from vol3dseg.errors import RunError
from vol3dseg.files import write_text
from vol3dseg.training.checkpoints import load_checkpoint, restore_checkpoint
from vol3dseg.training.learning_rate import LearningRate
from vol3dseg.training.training_state import read_state, trim_log

pytestmark = [
    pytest.mark.train,
    # Keras 3.15 saves its variables by way of np.asarray, whose signature numpy 2 has changed.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]

HEADER = "epoch,loss,val_loss\n"


@pytest.mark.parametrize(
    ("text", "epochs", "expected"),
    [
        pytest.param("0,1,2\n1,1,2\n", 2, "0,1,2\n1,1,2\n", id="whole"),
        pytest.param("0,1,2\n1,1,2\n2,1,2\n", 1, "0,1,2\n", id="rows too many"),
        pytest.param("0,1,2\n1,1", 2, "0,1,2\n", id="half a row"),
        pytest.param("0,1,2\n1", 18, "0,1,2\n", id="half a number"),
        pytest.param("0,1,2\n1,1,0.2", 2, "0,1,2\n", id="half a value"),
        pytest.param("", 3, "", id="only a header"),
    ],
)
def test_trim_log_keeps_whole_rows_of_epochs_that_are_done(tmp_path, text, epochs, expected):
    log = tmp_path / "training.log"
    write_text(log, HEADER + text)
    trim_log(log, epochs)
    assert log.read_text() == HEADER + expected


@pytest.mark.parametrize("text", [pytest.param(None, id="no log"), pytest.param("", id="empty")])
def test_trim_log_has_nothing_to_do(tmp_path, text):
    log = tmp_path / "training.log"
    if text is not None:
        write_text(log, text)
    trim_log(log, 3)
    assert log.exists() == (text is not None)


def tiny_model(filters=2):
    model = keras.Sequential([keras.Input((2, 2, 2, 1)), keras.layers.Conv3D(filters, 1)])
    model.compile("adam", "mse")
    return model


def damaged(path, how):
    tiny_model().save(path)
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "cut off":
        path.write_bytes(content[:middle])
    elif how == "overwritten":
        path.write_bytes(content[:200] + bytes(len(content) - 400) + content[-200:])
    elif how == "another archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param("cut off", "damaged, not a whole .keras archive", id="cut off"),
        pytest.param("empty", r"not a whole .keras archive \(0 bytes\)", id="empty"),
        pytest.param("overwritten", "copy it again", id="overwritten"),
        pytest.param("another archive", "cannot be loaded", id="another archive"),
        pytest.param("missing", r"last\.keras: is missing", id="missing"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, how, message):
    path = tmp_path / "last.keras"
    damaged(path, how)
    with pytest.raises(RunError, match=message):
        load_checkpoint(path)
    with pytest.raises(RunError, match=r"last\.keras: "):
        restore_checkpoint(tiny_model(), path)
    with pytest.raises(RunError, match=r"last\.keras: "):
        read_state(path)


def test_a_program_that_does_not_train_can_load_every_schedule(tmp_path):
    path = tmp_path / "last.keras"
    model = tiny_model()
    model.compile(keras.optimizers.AdamW(LearningRate(0.1, "cosine", changes=10)), "mse")
    model.save(path)
    code = (
        "import sys; from pathlib import Path; "
        "from vol3dseg.training.checkpoints import load_checkpoint; "
        "load_checkpoint(Path(sys.argv[1])); import keras; "
        "model = keras.saving.load_model(sys.argv[1]); "
        "print(model.optimizer.get_config()['learning_rate']['class_name'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "LearningRate", done.stderr


def test_a_model_without_state_cannot_be_resumed(tmp_path):
    path = tmp_path / "best.keras"
    tiny_model().save(path)
    with pytest.raises(
        RunError, match=r"holds no vol3dseg-state.json; expected a checkpoint of vol3dseg train"
    ):
        read_state(path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / "last.keras"
    tiny_model(filters=5).save(path)
    with pytest.raises(RunError, match="of another network"):
        restore_checkpoint(tiny_model(), path)


def test_a_state_of_another_version_is_said_in_our_words(tmp_path):
    path = tmp_path / "last.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vol3dseg-state.json", '{"epoch": 3}')
    with pytest.raises(RunError, match=r"epochs is missing; unknown key 'epoch', did you mean"):
        read_state(path)
