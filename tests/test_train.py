"""A training run from end to end, small: what it leaves, that it repeats, that it can go on."""

import json
import shutil

import numpy as np
import pytest

from tests.conftest import log_of, small_config
from vol3dseg.config import Config, ModelConfig
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import ParityError, RecipeMismatch, RunError, StoreError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.model_file import read_model
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip

from vol3dseg.export import to_onnx as export  # noqa: E402
from vol3dseg.training.checkpoints import load_checkpoint  # noqa: E402
from vol3dseg.training.fit import train  # noqa: E402
from vol3dseg.training.results import KerasBackend, describe_model  # noqa: E402

FREE = "vol3dseg.training.for_this_machine.own_share_mb"
RUN_FILES = {
    "best.keras", "last.keras", "manifest.json", "config.yaml", "split.json", "split.png",
    "training.log", "training.html", "strip.json", "environment.json", "scores",
}  # fmt: skip


def make_config(recipe, norm="instance", **training):
    training = {"epochs": 3, "steps_per_epoch": 2, "deterministic": True, **training}
    return small_config(recipe, {"norm": norm}, **training)


@pytest.fixture(scope="module")
def shared_prepared(shared_brats_folder, tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("train") / "prepared"
    preprocess(shared_brats_folder, folder, make_config(recipe))
    return folder


@pytest.fixture
def prepared(shared_prepared, tmp_path):
    """A prepared folder for a test to change."""
    return shutil.copytree(shared_prepared, tmp_path / "prepared")


@pytest.fixture(scope="module")
def finished(shared_prepared, tmp_path_factory, recipe):
    """A finished run of the default config, not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(shared_prepared, run, make_config(recipe))
    return run


@pytest.fixture
def run(finished, tmp_path):
    """The finished run, for a test to change."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(autouse=True)
def _fresh_session():
    yield
    keras.backend.clear_session()


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_line_from_run_to_segmentation(norm, prepared, brats_folder, tmp_path, recipe):
    run, output = tmp_path / "run", tmp_path / "model.onnx"
    before = sorted(p.name for p in prepared.rglob("*"))
    manifest = train(prepared, run, make_config(recipe, norm=norm))
    assert {p.name for p in run.glob("[!.]*")} == RUN_FILES
    assert sorted(p.name for p in prepared.rglob("*")) == before
    assert manifest.network.local == (norm == "batch")
    assert manifest.validation is not None
    assert manifest.validation.cases == 1
    assert manifest.training_data is not None
    assert manifest.training_data.cases == 2
    assert manifest.training_data.axes == {"LPS": 2}
    assert list(manifest.training_data.quantiles) == ["flair", "t1"]
    assert min(manifest.training_data.volumes_ml["edema"]) > 0
    assert "2 training cases (fewer than 10)" in manifest.training_data.notes[0]
    rows = log_of(run)
    assert len(rows) == 3
    assert {
        "loss", "accuracy", "mean_iou", "iou", "precision", "sensitivity", "specificity", "dice",
        "dice_necrotic_core", "dice_edema", "dice_enhancing", "val_loss", "val_dice_edema",
    } <= set(rows[0])  # fmt: skip
    best = min(range(3), key=lambda n: float(rows[n]["val_loss"]))
    assert manifest.members[0].epoch == best + 1

    exported = export.export_onnx(run, output)
    assert exported.parity is not None
    assert exported.parity.max_abs_difference <= 1e-4
    assert read_model(output).manifest == exported
    volume = read_volume(find_cases(brats_folder)[0], ["t1", "flair"])
    predictor = load_predictor(output, "cpu")
    assert predictor(volume).segmentation.geometry == volume.geometry
    backend = KerasBackend(load_checkpoint(run / "best.keras"))
    patch = np.random.default_rng(0).normal(size=(1, 2, 16, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(predictor.backend(patch), backend(patch), atol=1e-4)


def test_a_seeded_run_repeats_exactly(finished, prepared, tmp_path, recipe):
    config = make_config(recipe)
    train(prepared, tmp_path / "two", config)
    assert log_of(finished) == log_of(tmp_path / "two")
    with pytest.raises(RunError, match="holds a run already"):
        train(prepared, tmp_path / "two", config)


def cut_short(prepared, run, config, line):
    """Train until a line is said."""

    class PowerCutError(Exception):
        pass

    def cut(said):
        if said.startswith(line):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(prepared, run, config, progress=cut)


def test_an_interrupted_run_goes_on_where_it_stopped(finished, prepared, tmp_path, recipe):
    config = make_config(recipe)
    cut_short(prepared, tmp_path / "run", config, "epoch 2/")
    assert not (tmp_path / "run" / "manifest.json").exists()
    with pytest.raises(RunError, match="--resume"):
        export.export_onnx(tmp_path / "run", tmp_path / "m.onnx")
    manifest = train(prepared, tmp_path / "run", config, resume=True)
    assert manifest.members[0].epochs == 3
    assert log_of(tmp_path / "run") == log_of(finished)


def test_a_run_whose_patches_grow_goes_on_where_it_stopped(prepared, tmp_path, recipe):
    grow, lines = {"start": 0.5, "stages": 2, "epochs": 0.5, "batch": "voxels"}, []
    config = make_config(recipe, grow_patch=grow, steps_per_epoch=1, batch_size=1, epochs=2)
    train(prepared, tmp_path / "straight", config, progress=lines.append)
    assert any(
        line.startswith("patches grow: 8 x 8 x 8 from epoch 1 (8 at once)") for line in lines
    )
    cut_short(prepared, tmp_path / "run", config, "epoch 1/")
    train(prepared, tmp_path / "run", config, resume=True)
    assert log_of(tmp_path / "run") == log_of(tmp_path / "straight")


@pytest.mark.parametrize(
    "modalities",
    [
        ("t1",),
        *(pytest.param(each, marks=pytest.mark.slow) for each in [("flair",), ("t1", "flair")]),
    ],
)
def test_one_store_serves_every_subset(
    modalities, prepared, brats_folder, tmp_path, recipe, labels
):
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    subset = train(prepared, tmp_path / "subset", make_config(recipe, modalities=modalities))
    alone = recipe.select(modalities)
    preprocess(
        brats_folder,
        tmp_path / "P1",
        Config(labels=labels, recipe=alone, model=ModelConfig(depth=1)),
    )
    single = train(tmp_path / "P1", tmp_path / "single", make_config(alone))
    assert subset.training_data == single.training_data
    for ours, theirs in zip(
        load_checkpoint(tmp_path / "subset" / "best.keras").get_weights(),
        load_checkpoint(tmp_path / "single" / "best.keras").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    manifest = export.export_onnx(tmp_path / "subset", tmp_path / "m.onnx")
    assert manifest.recipe.modalities == modalities
    assert manifest.fingerprint == alone.fingerprint
    after = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.slow
def test_val_loss_does_not_depend_on_what_memory_was_free(prepared, tmp_path, recipe):
    """With a loss that pools Dice over its batch, and weights that hardly move."""
    losses = []
    for size in (4, 2, 1):
        config = make_config(
            recipe, batch_size=4, micro_batch=size, steps_per_epoch=1, epochs=1,
            loss="dice_cross_entropy", learning_rate=1e-12,
        )  # fmt: skip
        train(prepared, tmp_path / str(size), config)
        (row,) = log_of(tmp_path / str(size))
        losses.append({k: float(v) for k, v in row.items() if k.startswith("val_")})
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-6, nan_ok=True)


def test_whole_volumes_choose_the_epoch_and_a_cut_run_ends_like_a_whole_one(
    prepared, tmp_path, recipe
):
    """With all that a run remembers: averages, schedule, volumes judged before."""
    config = make_config(
        recipe, norm="batch", epochs=4, ema=0.5, optimizer="sgd", schedule="polynomial",
        warmup_epochs=0.5, clip_norm=1.0, validate_every=2, learning_rate=0.05,
        precision="bfloat16",
    )  # fmt: skip

    class Cut(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 3 * 2 + 1:  # amid the last epoch
                raise KeyboardInterrupt

    whole = train(prepared, tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, tmp_path / "cut", config, callbacks=[Cut()])
    best = (tmp_path / "cut" / "best.keras").rename(tmp_path / "kept")
    with pytest.raises(RunError, match=r"best\.keras: is missing"):
        train(prepared, tmp_path / "cut", config, resume=True)
    best.rename(tmp_path / "cut" / "best.keras")
    cut = train(prepared, tmp_path / "cut", config, resume=True)
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert cut.members == whole.members
    assert cut.validation == whole.validation
    for name in ("best.keras", "last.keras"):
        ours, theirs = (load_checkpoint(tmp_path / run / name) for run in ("cut", "whole"))
        assert all(map(np.array_equal, ours.get_weights(), theirs.get_weights()))
    (facts,), dice = whole.members, [row["val_volume_dice"] for row in log_of(tmp_path / "whole")]
    assert [d == "nan" for d in dice] == [True, False, True, False]
    assert facts.chosen_by == "val_volume_dice"
    assert facts.epoch == max((2, 4), key=lambda epoch: float(dice[epoch - 1]))
    # It is what the model gets that is deployed, since all validation cases were judged.
    assert whole.validation.mean_dice == facts.val_volume_dice == float(dice[facts.epoch - 1])


def test_the_manifest_names_the_epoch_that_the_checkpoint_holds(prepared, tmp_path, recipe):
    """Whatever the log says: here, that a later epoch had a NaN."""
    config = make_config(recipe, epochs=2)

    class Spoilt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = [0.5, float("nan")][epoch]

    manifest = train(prepared, tmp_path / "run", config, callbacks=[Spoilt()])
    (facts,) = manifest.members
    assert (facts.checkpoint, facts.epoch, facts.epochs, facts.val_loss) == ("best", 1, 2, 0.5)
    assert (facts.chosen_by, facts.val_volume_dice) == ("val_loss", None)
    assert [row["val_loss"] for row in log_of(tmp_path / "run")] == ["0.5", "nan"]


@pytest.mark.parametrize("schedule", [pytest.param("constant", marks=pytest.mark.slow), "cosine"])
def test_micro_batches_see_what_the_batch_sees(schedule, prepared, tmp_path, recipe):
    """With instance norm and cross-entropy a batch in parts is the same batch, up to rounding."""
    logs = {}
    for size in (4, 2, 1):
        config = make_config(
            recipe, batch_size=4, micro_batch=size, steps_per_epoch=1, loss="cross_entropy",
            schedule=schedule,
        )  # fmt: skip
        manifest = train(prepared, tmp_path / str(size), config)
        assert (manifest.members[0].batch_size, manifest.members[0].micro_batch) == (4, size)
        logs[size] = log_of(tmp_path / str(size))
    for size in (2, 1):
        for whole, parts in zip(logs[4], logs[size], strict=True):
            # Adam turns rounding of gradients near 0 into steps, so the two drift a little apart.
            for value in ("loss", "val_loss"):
                assert float(parts[value]) == pytest.approx(float(whole[value]), rel=2e-3)
            assert whole["learning_rate"] == parts["learning_rate"]
        first, same = logs[4][0]["loss"], logs[size][0]["loss"]
        assert float(same) == pytest.approx(float(first), rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_keeps_the_micro_batch_that_it_chose(prepared, tmp_path, recipe, monkeypatch):
    lines = []

    def cut(line):
        lines.append(line)
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    config = make_config(recipe, batch_size=4)
    monkeypatch.setattr(FREE, lambda: 1.0)  # on a machine that is full
    with pytest.raises(KeyboardInterrupt):
        train(prepared, tmp_path / "run", config, progress=cut)
    assert any("4 micro-batches of 1" in line for line in lines)
    monkeypatch.setattr(FREE, lambda: 1e6)  # and on one that is not
    other = make_config(recipe, batch_size=4, micro_batch=2)
    with pytest.raises(RunError, match="config differs"):
        train(prepared, tmp_path / "run", other, resume=True)
    early = shutil.copytree(tmp_path / "run", tmp_path / "early")
    assert train(prepared, tmp_path / "run", config, resume=True).members[0].micro_batch == 1
    # A run that was stopped before its first checkpoint has nothing to go on with: it starts anew.
    (early / "last.keras").unlink()
    with pytest.raises(RunError, match=r"no last\.keras"):
        train(prepared, early, config, resume=True)
    assert train(prepared, early, config).members[0].micro_batch == 4


def test_a_finished_run_keeps_its_record_and_another_split_is_refused(
    run, prepared, brats_folder, recipe, labels
):
    config = make_config(recipe)
    record, weights = ((run / n).read_bytes() for n in ("environment.json", "best.keras"))
    train(prepared, run, config, resume=True)
    assert (run / "environment.json").read_bytes() == record
    assert (run / "best.keras").read_bytes() == weights
    shutil.copytree(brats_folder / "Case_001", brats_folder / "Case_000")
    for path in (brats_folder / "Case_000").iterdir():
        path.rename(path.with_name(path.name.replace("001", "000")))
    preprocess(
        brats_folder,
        prepared,
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    with pytest.raises(RunError, match="cases were added, removed"):
        train(prepared, run, config, resume=True)


def test_a_run_that_starts_anew_does_not_keep_a_best_epoch_of_before(run, prepared, recipe):
    for name in ("last.keras", "manifest.json"):  # as if killed between best and last
        (run / name).unlink()

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, run, make_config(recipe), progress=stop)
    assert not (run / "best.keras").exists()


def test_without_a_checkpoint_callback_the_last_epoch_is_exported(prepared, tmp_path, recipe):
    manifest = train(prepared, tmp_path / "run", make_config(recipe, model_checkpoint=False))
    assert manifest.members[0].checkpoint == "last"
    assert manifest.members[0].chosen_by is None
    assert not (tmp_path / "run" / "best.keras").exists()
    assert export.export_onnx(tmp_path / "run", tmp_path / "m.onnx").members[0].epoch == 3


def test_parity_beyond_tolerance_writes_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(ParityError, match="not written"):
        export.export_onnx(finished, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_refusals(prepared, tmp_path, recipe):
    other = recipe.model_copy(update={"patch_size": (8, 8, 8)})
    with pytest.raises(RecipeMismatch, match="patch_size"):
        train(prepared, tmp_path / "run", make_config(other))
    with pytest.raises(StoreError, match=r"index\.json: is missing"):
        train(tmp_path, tmp_path / "run", make_config(recipe))
    with pytest.raises(RunError, match=r"no last\.keras"):
        train(prepared, tmp_path / "run", make_config(recipe), resume=True)
    assert not (tmp_path / "run").exists()
    train(prepared, tmp_path / "run", make_config(recipe, epochs=1))
    (tmp_path / "run" / "best.keras").unlink()
    (tmp_path / "run" / "last.keras").unlink()
    with pytest.raises(RunError, match=r"best\.keras: is missing"):
        export.export_onnx(tmp_path / "run", tmp_path / "m.onnx")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["versions"]["tensorflow"]
    shutil.rmtree(prepared)


@pytest.mark.parametrize("augment", [None, {"flip_axes": ["k", "i"]}])
def test_a_model_knows_which_axes_its_training_mirrored(recipe, augment):
    config = make_config(recipe, augment=augment)
    known = describe_model(config).tiling
    assert known.mirrorable == (("k", "i") if augment else ())
    assert known.mirror == ()
