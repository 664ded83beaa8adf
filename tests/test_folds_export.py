"""The folds of a cross-validation as ONNX files: their average in one, or each in its own."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")

import vol3dseg
from tests.conftest import trained_here
from tests.keys import write_keys
from vol3dseg.cli.main import cli
from vol3dseg.config import Config, ModelConfig, TrainingConfig
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.splits import SplitConfig
from vol3dseg.errors import ModelError, OutputError, ParityError, RunError
from vol3dseg.export import to_onnx
from vol3dseg.export.each_fold import export_folds
from vol3dseg.model.manifest import read_run_manifest
from vol3dseg.model.model_file import read_model
from vol3dseg.model.signing_keys import load_signer
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.training import cross_validation
from vol3dseg.training.pooled_folds import read_cross_validation

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folds(shared_brats_folder, tmp_path_factory, recipe, labels):
    """A cross-validation of two folds."""
    config = Config(
        labels=labels,
        recipe=recipe,
        split=SplitConfig(validation=0, folds=2),
        model=ModelConfig(depth=1, width=2, norm="batch"),
        training=TrainingConfig(epochs=1, batch_size=2, steps_per_epoch=2, augment=None),
    )
    folder = tmp_path_factory.mktemp("export")
    preprocess(shared_brats_folder, folder / "P", config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "apart", trained_here)
        vol3dseg.cross_validate(folder / "P", folder / "CV")
    return folder / "CV"


@pytest.fixture(scope="module")
def average(folds):
    """The file of their average."""
    path = folds.parent / "model.onnx"
    vol3dseg.export_onnx(folds, path)
    return path


def probabilities(path, case, modalities):
    predictor = vol3dseg.load_predictor(path, device="cpu")
    return predictor(read_volume(case, modalities), keep_probabilities=True).probabilities


def test_the_average_gives_the_mean_of_what_each_fold_gives(folds, average, shared_brats_folder):
    made = export_folds(folds, folds.parent / "each")
    assert [file.name for file in made] == ["fold-1.onnx", "fold-2.onnx"]
    case = find_cases(shared_brats_folder)[0]
    modalities = read_model(average).manifest.recipe.modalities
    one, two = (probabilities(file, case, modalities) for file in made)
    mean = probabilities(average, case, modalities)
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_allclose(mean, (one + two) / 2, atol=1e-5)
    record = read_cross_validation(folds)
    for manifest, fold in zip(made.values(), record.folds, strict=True):
        assert len(manifest.members) == 1
        assert manifest.validation.cases == len(fold.cases)
        assert "holds out" in manifest.validation.notes[0]


def test_each_fold_and_the_average_are_signed(folds, tmp_path):
    secret, public = write_keys(tmp_path)
    files = [
        *export_folds(folds, tmp_path / "each", signer=load_signer(secret)),
        tmp_path / "m.onnx",
    ]
    vol3dseg.export_onnx(folds, files[-1], sign=secret)
    for file in files:
        assert vol3dseg.describe(file, trusted=public).document["trusted_by"]
    (tmp_path / "n.onnx.sig").write_text("of somebody else")
    with pytest.raises(OutputError, match=r"would replace n.onnx.sig"):
        vol3dseg.export_onnx(folds, tmp_path / "n.onnx", sign=secret)
    assert not (tmp_path / "n.onnx").exists()


def test_the_average_tells_what_its_folds_disagree_about(folds, average, shared_brats_folder):
    made = export_folds(folds, folds.parent / "apart")
    case = find_cases(shared_brats_folder)[0]
    modalities = read_model(average).manifest.recipe.modalities
    each = [probabilities(file, case, modalities).astype(float) for file in made]

    def entropy(p):
        return -(p * np.log(np.maximum(p, 1e-30))).sum(axis=-1)

    predictor = vol3dseg.load_predictor(average, device="cpu", uncertainty=True)
    found = predictor(read_volume(case, modalities)).uncertainty["mutual_information"]
    expected = entropy(np.mean(each, axis=0)) - np.mean([entropy(p) for p in each], axis=0)
    assert expected.max() > 1e-4
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_the_average_knows_its_members(folds, average):
    manifest = read_model(average).manifest
    assert manifest.members == read_run_manifest(folds).members
    assert manifest.parity.max_abs_difference <= 1e-4
    shown = CliRunner().invoke(cli, ["info", str(average)]).output
    assert "the average of 2 networks" in shown
    assert shown.count("last, 1 of 1") == 2
    assert "had not seen" in " ".join(shown.split())


def test_parity_is_that_of_the_mean(folds, tmp_path, monkeypatch):
    """A member that is left out of the graph, or is there twice, is found out."""
    from vol3dseg.export import trained

    monkeypatch.setattr(trained, "average", lambda graphs: graphs[0])
    with pytest.raises(ParityError, match="ONNX and Keras differ"):
        vol3dseg.export_onnx(folds, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_standalone_from_the_command_line(folds, tmp_path):
    path = tmp_path / "whole.onnx"
    done = CliRunner().invoke(cli, ["export-onnx", str(folds), "-o", str(path), "--standalone"])
    assert done.exit_code == 0, done.output
    assert "standalone, the average of 2 networks" in done.output
    assert "equals the mean of the trained models" in done.output
    model = read_model(path, allow_standalone=True)
    assert model.standalone.inputs == ("flair", "t1")
    assert len(model.manifest.members) == 2


def test_int8_of_the_average_is_refused_and_of_a_fold_is_judged_on_what_it_holds_out(
    folds, tmp_path, monkeypatch
):
    with pytest.raises(ModelError, match=r"int8 is judged on cases that were not learned.*--each"):
        vol3dseg.export_onnx(folds, tmp_path / "model.onnx", int8=True)
    judged = []

    def noted(plain, content, manifest, patches, cases, *rest):
        judged.append(tuple(cases))
        return plain, manifest

    monkeypatch.setattr(to_onnx, "quantise_proven", noted)
    export_folds(folds, tmp_path, int8=True)
    assert judged == [fold.cases for fold in read_cross_validation(folds).folds]


@pytest.fixture
def copy(folds, tmp_path):
    return shutil.copytree(folds, tmp_path / "copy")


def test_an_unfinished_cross_validation_is_refused(copy, tmp_path):
    (copy / "cross-validation.json").unlink()
    with pytest.raises(RunError, match=r"an unfinished cross-validation.*--resume.*fold-1"):
        vol3dseg.export_onnx(copy, tmp_path / "model.onnx")


def test_a_checkpoint_that_was_not_judged_is_refused(copy, tmp_path):
    shutil.copyfile(copy / "fold-1" / "last.keras", copy / "fold-2" / "last.keras")
    with pytest.raises(RunError, match=r"fold-2.*is not the checkpoint that was judged"):
        vol3dseg.export_onnx(copy, tmp_path / "model.onnx")


def test_each_fold_of_what_has_none(folds, tmp_path):
    with pytest.raises(RunError, match=r"no cross-validation.*leave out --each"):
        export_folds(folds / "fold-1", tmp_path)
