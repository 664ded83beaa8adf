"""Cross-validation: each case is judged once by what had not seen it, whatever comes between."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
import vol3dseg
from tests.conftest import trained_here
from vol3dseg.cli.main import cli
from vol3dseg.config import Config, ModelConfig, TrainingConfig
from vol3dseg.datasets.splits import SplitConfig, read_split
from vol3dseg.errors import ConfigError, DatasetError, OutputError, RunError
from vol3dseg.inference.record import load_record
from vol3dseg.model.manifest import read_run_manifest
from vol3dseg.model.model_file import describe
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import open_cases
from vol3dseg.reporting.score_files import read_part
from vol3dseg.training import cross_validation, postprocessing_choice
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.pooled_folds import pool_folds, read_cross_validation, require_alike

pytestmark = pytest.mark.train

CASES = ["Case_001", "Case_002", "Case_003"]


@pytest.fixture(scope="module")
def config(recipe, labels):
    return Config(
        labels=labels,
        recipe=recipe,
        split=SplitConfig(validation=0, test=0, folds=2),
        model=ModelConfig(depth=1, width=2, norm="batch"),
        training=TrainingConfig(
            epochs=2, batch_size=2, steps_per_epoch=2, deterministic=True, augment=None
        ),
    )


@pytest.fixture(scope="module")
def prepared(shared_brats_folder, tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("folds") / "P"
    preprocess(shared_brats_folder, folder, config)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _in_this_process():
    """Do what would be done apart here, where TensorFlow is loaded already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "apart", trained_here)
        yield


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """A cross-validation that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("folds") / "CV"
    vol3dseg.cross_validate(prepared, folder)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_each_case_is_held_out_once_and_judged_by_what_had_not_seen_it(finished):
    record, held = read_cross_validation(finished), []
    for number, fold in enumerate(record.folds, start=1):
        split = read_split(finished / f"fold-{number}" / "split.json")
        assert set(split.train) == set(CASES) - set(fold.cases)
        assert split.validation == ()
        held += split.test
    assert sorted(held) == CASES
    assert list(record.rows) == ["1", "2", "pooled"]
    assert [row.cases for row in record.rows.values()] == [2, 1, 3]
    folds = json.loads((finished / "splits.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == CASES


def test_evaluate_says_the_same_of_the_predictions(finished, shared_brats_folder, tmp_path):
    assert sorted(load_record(finished / "predictions").cases) == CASES
    again = vol3dseg.evaluate(finished / "predictions", shared_brats_folder, tmp_path / "again")
    ours, theirs = (
        read_part(folder, "all") for folder in (finished / "scores", tmp_path / "again")
    )
    assert ours == theirs
    record = read_cross_validation(finished)
    for name, found in record.pooled.dice.items():
        assert found.mean == pytest.approx(again.summaries["all"].mean_dice(name))
    for number, fold in enumerate(record.folds, start=1):
        of_fold = read_part(finished / f"fold-{number}" / "scores" / "test", "test")
        for name, values in of_fold.dice.items():
            assert fold.scores.dice[name].mean == pytest.approx(np.mean(list(values.values())))
            assert values == {case: ours.dice[name][case] for case in fold.cases}


def weights_of(run):
    return [each.numpy() for each in load_checkpoint(run / "last.keras").variables]


def test_the_average_says_what_any_of_its_members_has_seen(finished):
    manifest = read_run_manifest(finished)
    assert len(manifest.members) == 2
    assert len({facts.data_fingerprint for facts in manifest.members}) == 2
    assert manifest.training_data.cases == 3
    assert len(manifest.training_data.seen["train"]) == 3
    assert manifest.validation.cases == 3
    assert "had not seen it" in manifest.validation.notes[0]
    assert (
        manifest.validation.dice["edema"]
        == read_cross_validation(finished).pooled.dice["edema"].mean
    )
    assert describe(finished).kind == "cross-validation of 2 networks"


def test_held_out_cases_choose_the_post_processing(copy, prepared, monkeypatch):
    said = json.loads((copy / "postprocessing.json").read_text())
    assert (said["cases"], said["gains"]) == (3, [])
    assert read_run_manifest(copy).postprocessing == ()
    # What the networks would have said: all right, and something far away that is not there.
    index, record = load_index(prepared), read_cross_validation(copy)
    for case_id, case in open_cases(prepared, index, CASES, ("flair", "t1")).items():
        truth = case.reference(record.config.labels)
        truth.array[:2, :2, :2] = 2
        vol3dseg.write_labels(truth, copy / "predictions" / f"{case_id}.nii.gz")
    monkeypatch.setattr(postprocessing_choice, "_FEWEST", 3)
    splits = {n: read_split(copy / f"fold-{n}" / "split.json") for n in (1, 2)}
    lines = []
    pool_folds(prepared, copy, index, record.config, splits, lines.append)
    chosen = json.loads((copy / "postprocessing.json").read_text())
    manifest = read_run_manifest(copy)
    (step,) = manifest.postprocessing
    assert (step.kind, step.of, step.becomes) == ("keep_largest", "edema", "background")
    assert [gain["step"] for gain in chosen["gains"]] == [step.model_dump()]
    assert chosen["before"]["edema"] < chosen["after"]["edema"] == 1
    assert lines == [f"post-processing: {postprocessing_choice.Gain(**chosen['gains'][0])}"]
    assert "without the post-processing" in manifest.validation.notes[1]
    assert manifest.validation.dice["edema"] == pytest.approx(chosen["before"]["edema"])


class Stopped(BaseException):
    """As a process that is killed: nobody catches it."""


def stopping(at, times=1):
    """Return a `progress` that stops at the nth line that begins so."""
    left = [times]

    def progress(line):
        if line.strip().startswith(at):
            left[0] -= 1
            if left[0] == 0:
                raise Stopped

    return progress


def test_what_is_stopped_anywhere_and_resumed_equals_what_nobody_disturbed(
    prepared, finished, tmp_path
):
    folder = tmp_path / "CV"
    with pytest.raises(Stopped):
        vol3dseg.cross_validate(prepared, folder, fold=[2], progress=stopping("epoch 1/2"))
    assert vol3dseg.cross_validate(prepared, folder, fold=[2], resume=True) is None
    for at in ("fold 1 of 2", "held-out cases"):
        with pytest.raises(Stopped):
            vol3dseg.cross_validate(prepared, folder, resume=True, progress=stopping(at))
    assert (folder / "fold-1" / "manifest.json").exists()
    assert not (folder / "fold-1" / "held-out.json").exists()
    assert not (folder / "cross-validation.json").exists()
    untouched = (folder / "fold-2" / "last.keras").stat().st_mtime_ns
    said = []
    record = vol3dseg.cross_validate(prepared, folder, resume=True, progress=said.append)
    assert record == read_cross_validation(folder)
    assert (folder / "fold-2" / "last.keras").stat().st_mtime_ns == untouched
    assert "fold 2 of 2 had been finished" in said
    assert record.rows == read_cross_validation(finished).rows
    for number in (1, 2):
        ours, theirs = (weights_of(each / f"fold-{number}") for each in (folder, finished))
        assert all(map(np.array_equal, ours, theirs))
    assert not np.array_equal(ours[0], weights_of(folder / "fold-1")[0])
    names = [
        *(f"predictions/{case}.nii.gz" for case in CASES),
        "scores/summary.json",
        "splits.json",
    ]
    for name in (*names, "cross-validation.md", "cross-validation.csv"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_prediction_that_was_lost_is_made_again(prepared, copy, finished):
    lost = copy / "predictions" / "Case_002.nii.gz"
    lost.unlink()
    vol3dseg.cross_validate(prepared, copy, resume=True)
    assert lost.read_bytes() == (finished / "predictions" / "Case_002.nii.gz").read_bytes()


def test_the_command_prints_the_table(prepared, copy):
    done = CliRunner().invoke(cli, ["cross-validate", str(prepared), "-o", str(copy), "--resume"])
    assert done.exit_code == 0, done.output
    assert "fold 1 of 2 had been finished" in done.output
    edema = read_cross_validation(copy).pooled.dice["edema"]
    assert f"{edema.mean:.4f} │ {edema.low:.4f} to {edema.high:.4f}" in done.output
    assert "by bootstrap over subjects" in done.output


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param({}, RunError, "holds fold 1, 2 already.*--resume", id="again"),
        pytest.param(
            {"resume": True, "changes": {"seed": 1}},
            RunError,
            "config differs.*training.seed: 0 and 1",
            id="another config",
        ),
        pytest.param(
            {"resume": True, "folds": 3}, RunError, "differs.*split.folds: 2 and 3", id="more folds"
        ),
        pytest.param({"fold": [4]}, ConfigError, "no fold 4; expected 1 to 2", id="no such fold"),
        pytest.param({"folds": 9}, DatasetError, "3 subjects are too few for 9", id="too many"),
        pytest.param({"folds": 2, "splits": "splits.json"}, ConfigError, "given twice", id="twice"),
    ],
)
def test_what_is_refused_before_anything_is_trained(prepared, copy, change, error, message):
    before = sorted(path.stat().st_mtime_ns for path in copy.rglob("*.keras"))
    with pytest.raises(error, match=message):
        vol3dseg.cross_validate(prepared, copy, **change)
    assert sorted(path.stat().st_mtime_ns for path in copy.rglob("*.keras")) == before


def test_folds_beyond_those_that_are_asked_for_are_refused(prepared, copy):
    shutil.move(copy / "fold-2", copy / "fold-3")
    with pytest.raises(RunError, match="fold-3: is one of more than 2 folds"):
        vol3dseg.cross_validate(prepared, copy, resume=True)


def test_what_is_not_ours_is_not_replaced(prepared, tmp_path):
    foreign = tmp_path / "CV" / "predictions" / "Case_003.nii.gz"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    with pytest.raises(OutputError, match="Case_003"):
        vol3dseg.cross_validate(prepared, tmp_path / "CV")
    assert not (tmp_path / "CV" / "fold-1").exists()


def test_folds_of_a_file_leave_no_case_out(prepared, tmp_path):
    path = tmp_path / "splits.json"
    one, two, three = CASES
    folds = [{"train": [two, three], "val": [one]}, {"train": [one, three], "val": [two]}]
    path.write_text(json.dumps(folds))
    with pytest.raises(RunError, match="1 cases are held out by no fold: Case_003"):
        vol3dseg.cross_validate(prepared, tmp_path / "CV", splits=path)


def test_a_share_of_what_is_learned_from_may_choose_the_epoch(prepared, tmp_path):
    stop = stopping("| part")
    with pytest.raises(Stopped):
        vol3dseg.cross_validate(
            prepared, tmp_path, folds=3, fold=[2], validation=0.5, progress=stop
        )
    split = read_split(tmp_path / "fold-2" / "split.json")
    assert [len(split.part(part)) for part in ("train", "validation", "test")] == [1, 1, 1]


@pytest.mark.parametrize(("chooses", "kept"), [(True, 1), (False, 0)])
def test_cases_are_kept_back_only_where_they_choose_something(
    prepared, config, chooses, kept, tmp_path
):
    half = config.split.model_copy(update={"validation": 0.5, "folds": 3})
    config = config.model_copy(update={"split": half})
    stop, changes = stopping("| part"), {"model_checkpoint": chooses}
    with pytest.raises(Stopped):
        vol3dseg.cross_validate(prepared, tmp_path, config, changes=changes, progress=stop)
    split = read_split(tmp_path / "fold-1" / "split.json")
    assert [len(split.part(part)) for part in ("train", "validation")] == [2 - kept, kept]


def test_what_the_machine_chose_for_one_fold_holds_for_all(prepared, config, tmp_path):
    small = {"micro_batch": 1, "precision": "float32"}
    for fold, changes, at in ((1, small, "epoch 1/2"), (2, {}, "| part")):
        stop = stopping(at)
        with pytest.raises(Stopped):
            vol3dseg.cross_validate(
                prepared, tmp_path, config, fold=[fold], changes=changes, progress=stop
            )
    chosen = vol3dseg.load_config(tmp_path / "fold-2" / "config.yaml").training
    assert (chosen.micro_batch, chosen.precision) == (1, "float32")


def test_what_failed_in_a_fold_is_said_and_others_go_on(prepared, config, tmp_path):
    plateau = {"reduce_lr_on_plateau": {"patience": 1}, "epochs": 1}
    with pytest.raises(RunError, match=r"fold 1 failed: the split has no validation.*fold 2"):
        vol3dseg.cross_validate(prepared, tmp_path / "CV", fold=[1, 2], changes=plateau)


def test_members_that_are_not_alike_are_refused(finished, tmp_path):
    manifest = read_run_manifest(finished / "fold-1")
    network = manifest.network.model_copy(update={"divisor": (8, 8, 8)})
    other = manifest.model_copy(update={"network": network})
    with pytest.raises(RunError, match=r"folds 1 and 2 differ in network\.divisor: "):
        require_alike({1: manifest, 2: other}, tmp_path)


@pytest.mark.slow
def test_each_fold_is_logged_as_a_run_of_its_own(prepared, tmp_path):
    pytest.importorskip("tensorboard")
    words = ["cross-validate", str(prepared), "-o", str(tmp_path / "CV"), "--epochs", "1"]
    outcome = CliRunner().invoke(cli, [*words, "--tensorboard"])
    assert outcome.exit_code == 0, outcome.output
    for number in (1, 2):
        assert list((tmp_path / "CV" / f"fold-{number}" / "tensorboard" / "train").iterdir())
