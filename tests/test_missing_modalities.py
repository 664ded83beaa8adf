"""Cases that lack a modality: learned from, segmented, and told what that costs."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import small_config, write_case
from vol3dseg.cli.main import cli
from vol3dseg.config.parsing import dump_config, parse_config
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.checks import check
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import ConfigError, DatasetError, StoreError
from vol3dseg.inference.record import load_record
from vol3dseg.model.validation_scores import (
    ScoresWithout,
    ValidationScores,
    missing_in_words,
    pooled_without,
)
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import open_cases
from vol3dseg.reporting.inspection.survey import survey
from vol3dseg.training.missing_modalities import MissingModalities, without

DROPOUT = {"t1": 0.5}


def config_of(recipe, **training):
    training = {"precision": "float32", "deterministic": True, "augment": None, **training}
    return small_config(recipe, **{"modality_dropout": DROPOUT, **training})


@pytest.fixture
def folder(brats_folder):
    """Five cases, the second of which has no T1."""
    for number in (4, 5):
        write_case(brats_folder, f"Case_{number:03d}", np.random.default_rng(number))
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").unlink()
    return brats_folder


class TestConfig:
    @pytest.mark.parametrize(
        ("shares", "message"),
        [
            ({"t2": 0.2}, "modality_dropout names ['t2'], and modalities are ['flair', 't1']"),
            ({"t1": 0}, "expected more than 0"),
            ({"t1": 0.95}, "t1: expected"),
        ],
    )
    def test_what_cannot_be_missing_is_refused(self, recipe, shares, message):
        data = config_of(recipe).model_dump(mode="json")
        data["training"]["modality_dropout"] = shares
        with pytest.raises(ConfigError) as caught:
            parse_config(data, "config.yaml")
        assert message in str(caught.value)

    def test_the_only_modality_is_always_there(self, recipe):
        data = config_of(recipe).model_dump(mode="json")
        data["training"] |= {"modalities": ["t1"]}
        with pytest.raises(ConfigError, match="is the only modality"):
            parse_config(data, "config.yaml")

    def test_what_may_be_missing_comes_in_the_order_of_the_recipe(self, recipe):
        config = config_of(recipe, modality_dropout={"t1": 0.1, "flair": 0.2})
        assert config.optional == ("flair", "t1")


class TestDraws:
    def test_each_modality_is_left_out_of_its_share_of_patches(self):
        missing = MissingModalities(("a", "b", "c"), {"a": 0.5, "c": 0.2})
        rng = np.random.default_rng(0)
        drawn = [missing.drawn([], rng) for _ in range(2000)]
        shares = [sum(n in gone for gone in drawn) / 2000 for n in range(3)]
        assert shares == pytest.approx([0.5, 0, 0.2], abs=0.03)

    def test_one_that_the_case_has_is_always_left(self):
        missing = MissingModalities(("a", "b", "c"), dict.fromkeys("abc", 0.9))
        rng = np.random.default_rng(0)
        drawn = [missing.drawn([1], rng) for _ in range(500)]
        assert all(1 in gone for gone in drawn)
        assert {tuple(gone) for gone in drawn} == {(0, 1), (1, 2), (1,)}

    def test_nothing_is_drawn_where_all_are_always_there(self):
        rng = np.random.default_rng(0)
        assert MissingModalities(("a", "b"), {}).drawn([], rng) == []
        assert rng.random() == np.random.default_rng(0).random()

    def test_what_is_left_out_is_zeros_and_the_rest_as_it_was(self):
        image = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
        found = without(image, [1])
        assert not found[..., 1].any()
        np.testing.assert_array_equal(found[..., [0, 2]], image[..., [0, 2]])
        assert image[..., 1].all()


class TestPreparing:
    def test_a_missing_modality_is_zeros_and_the_others_as_if_alone(self, folder, recipe):
        volume = read_volume(find_cases(folder)[1], recipe.modalities, ["t1"])
        assert volume.modalities == ("flair",)
        found = prepare(volume, recipe, optional=["t1"])
        alone = prepare(volume, recipe.select(["flair"]))
        assert found.volume.modalities == ("flair", "t1")
        assert found.box == alone.box
        np.testing.assert_array_equal(found.volume.array[..., :1], alone.volume.array)
        assert not found.volume.array[..., 1].any()
        assert list(found.appearance.modalities) == ["flair"]

    @pytest.mark.parametrize("optional", [(), ("flair",), ("flair", "t1")])
    def test_a_scan_that_lacks_more_is_refused(self, folder, recipe, optional):
        volume = read_volume(find_cases(folder)[1], ["flair"])
        volume = volume if optional != ("flair", "t1") else _renamed(volume)
        with pytest.raises(DatasetError, match="is missing"):
            prepare(volume, recipe, optional=optional)

    def test_the_folder_says_what_each_case_lacks(self, folder, tmp_path, recipe):
        config = config_of(recipe)
        index = preprocess(folder, tmp_path / "prepared", config)
        assert [entry.missing for entry in index.cases] == [(), ("t1",), (), (), ()]
        assert (index.missing, index.failed) == ({"t1": 1}, {})
        assert index.incomplete == ("1 of 5 prepared cases lack t1",)
        cases = open_cases(tmp_path / "prepared", index, ["Case_002"], recipe.modalities)
        prepared = cases["Case_002"].prepared()
        assert cases["Case_002"].missing == [1]
        assert not prepared.volume.array[..., 1].any()
        assert prepared.volume.array[..., 0].any()

    def test_a_stored_case_without_a_modality_is_the_one_that_lacks_it(
        self, folder, brats_folder, tmp_path, recipe
    ):
        config = config_of(recipe)
        whole = preprocess(folder, tmp_path / "whole", config)
        (folder / "Case_001" / "Case_001_t1.nii.gz").unlink()
        lacking = preprocess(folder, tmp_path / "lacking", config)
        ours, theirs = (
            open_cases(tmp_path / name, index, ["Case_001"], recipe.modalities)["Case_001"]
            for name, index in (("whole", whole), ("lacking", lacking))
        )
        ours = ours.without(["t1"])
        assert (ours.box, ours.appearance) == (theirs.box, theirs.appearance)
        np.testing.assert_array_equal(ours.patches(), theirs.patches())
        np.testing.assert_array_equal(ours.prepared().volume.array, theirs.prepared().volume.array)

    def test_what_comes_later_is_prepared_again(self, folder, tmp_path, recipe):
        config = config_of(recipe)
        kept = folder / "Case_001" / "Case_001_t1.nii.gz"
        shutil.move(kept, tmp_path / "t1.nii.gz")
        before = preprocess(folder, tmp_path / "prepared", config)
        shutil.move(tmp_path / "t1.nii.gz", kept)
        after = preprocess(folder, tmp_path / "prepared", config)
        assert (before.entry("Case_001").missing, after.entry("Case_001").missing) == (("t1",), ())
        assert before.entry("Case_002") == after.entry("Case_002")

    def test_a_config_that_needs_all_refuses_what_another_allowed(self, folder, tmp_path, recipe):
        preprocess(folder, tmp_path / "prepared", config_of(recipe))
        index = preprocess(folder, tmp_path / "prepared", config_of(recipe, modality_dropout={}))
        assert list(index.failed) == ["Case_002"]
        assert "modality t1 is missing; found flair" in index.failed["Case_002"]
        assert not (tmp_path / "prepared" / "cases" / "Case_002.h5").exists()


def _renamed(volume):
    """A scan with a modality that the recipe does not know."""
    return type(volume)(volume.array, volume.geometry, ("t2",))


class TestCheck:
    def test_a_case_may_lack_what_the_config_allows(self, folder, recipe):
        cases = find_cases(folder)
        found = check(cases, recipe.modalities, optional=("t1",))
        assert [(f.severity, f.case, f.found) for f in found] == [
            ("note", "Case_002", "t1 is missing, as the config allows")
        ]
        assert [f.severity for f in check(cases, recipe.modalities)] == ["error"]

    def test_a_case_must_have_one(self, tmp_path):
        (tmp_path / "t2.nii").touch()
        case = Case("a", "a", {"t2": ImageSource(tmp_path / "t2.nii")})
        (found,) = check([case], ("flair", "t1"), optional=("flair", "t1"))
        assert str(found) == (
            "case a: modality flair, t1 is missing; found t2; expected flair, t1, of which flair, "
            "t1 may be missing; add the file, or choose other modalities"
        )

    def test_a_table_has_an_empty_cell(self, folder, tmp_path, recipe):
        path = tmp_path / "config.yaml"
        path.write_text(dump_config(config_of(recipe)))
        table = tmp_path / "cases.csv"
        run = CliRunner().invoke(
            cli, ["check", str(folder), "-c", str(path), "--table", str(table), "-j", "1"]
        )
        assert run.exit_code == 0, run.output
        assert "note: case Case_002: t1 is missing, as the config allows" in run.output
        again = find_cases(table)
        assert [list(case.images) for case in again] == [
            list(case.images) for case in find_cases(folder)
        ]


class TestWords:
    def scores(self, missing, cases, necrotic, enhancing):
        dice = {"necrotic": necrotic, "enhancing": enhancing}
        scores = ValidationScores(cases=cases, dice=dice, mean_dice=necrotic)
        return ScoresWithout(missing=missing, scores=scores)

    def test_what_is_missing_and_what_that_costs(self):
        known = (self.scores((), 9, 0.8, 0.7), self.scores(("t1ce",), 9, 0.5, None))
        assert missing_in_words(("t1ce",), known) == (
            "t1ce is missing: without, mean Dice of 9 validation cases is 0.500 instead of 0.800; "
            "necrotic 0.500 instead of 0.800, enhancing undefined instead of 0.700"
        )
        assert missing_in_words((), known) == ""
        assert missing_in_words(("flair", "t1"), known) == (
            "flair and t1 are missing, and no validation case tells what that costs"
        )

    def test_folds_are_pooled_over_their_cases(self):
        first = (self.scores((), 3, 0.8, 0.6), self.scores(("t1",), 3, 0.4, None))
        second = (self.scores((), 1, 0.4, 0.2), self.scores(("t1",), 1, 0.8, 0.1))
        found = pooled_without([first, second])
        assert [(each.missing, each.scores.cases) for each in found] == [((), 4), (("t1",), 4)]
        assert found[0].scores.dice == pytest.approx({"necrotic": 0.7, "enhancing": 0.5})
        assert found[1].scores.dice == pytest.approx({"necrotic": 0.5, "enhancing": 0.1})
        assert pooled_without([first, ()]) == ()


@pytest.mark.train
class TestTraining:
    @pytest.fixture(autouse=True)
    def _needs(self):
        pytest.importorskip("tensorflow")
        pytest.importorskip("onnxruntime")
        pytest.importorskip("matplotlib")

    def test_from_a_data_set_to_a_scan_that_lacks_one(self, folder, tmp_path, recipe):
        import vol3dseg

        config = config_of(recipe, steps_per_epoch=2)
        prepared, run, model = (tmp_path / name for name in ("prepared", "run", "model.onnx"))
        preprocess(folder, prepared, config)
        said = []
        made = vol3dseg.train(prepared, run, config, progress=said.append)
        assert "note: 1 of 5 prepared cases lack t1" in said
        assert made.optional == ("t1",)
        assert [each.missing for each in made.without] == [(), ("t1",)]
        written = vol3dseg.export_onnx(run, model)
        assert written.without == made.without
        table = CliRunner().invoke(cli, ["info", str(model)]).output
        assert "a scan may lack" in table
        assert "Dice of validation cases without some modalities" in table
        vol3dseg.predict(model, folder, tmp_path / "out")
        record = load_record(tmp_path / "out")
        cases = record.cases
        assert [case.missing for case in cases.values()] == [(), ("t1",), (), (), ()]
        assert not any(case.error for case in cases.values())
        warning = cases["Case_002"].warnings[0]
        assert warning == missing_in_words(("t1",), made.without)
        assert not any("missing" in word for word in cases["Case_001"].warnings)

    def test_a_scan_that_lacks_another_is_refused(self, folder, tmp_path, recipe):
        import vol3dseg

        config = config_of(recipe)
        preprocess(folder, tmp_path / "prepared", config)
        vol3dseg.train(tmp_path / "prepared", tmp_path / "run", config)
        vol3dseg.export_onnx(tmp_path / "run", tmp_path / "model.onnx")
        only = find_cases(folder)[0].select(["t1"])
        record = vol3dseg.predict(tmp_path / "model.onnx", only, tmp_path / "out")
        assert record.cases["Case_001"].error == (
            "case Case_001: modality flair is missing; found t1; expected flair, t1, of which t1 "
            "may be missing; add the file, or choose other modalities"
        )

    def test_patches_are_shown_without_and_repeat(self, folder, tmp_path, recipe):
        from vol3dseg.training.data import open_data
        from vol3dseg.training.feed import TrainingFeed

        config = config_of(recipe, modality_dropout={"t1": 0.5, "flair": 0.5}, augment={})
        preprocess(folder, tmp_path / "prepared", config)
        cases = list(open_data(tmp_path / "prepared", config).training.values())
        feeds = [TrainingFeed(config, cases, 10) for _ in range(2)]
        images = [np.concatenate([feed.batch(n)[0] for n in range(10)]) for feed in feeds]
        np.testing.assert_array_equal(*images)
        there = {tuple(image.any(axis=(0, 1, 2))) for image in images[0]}
        assert there == {(True, True), (True, False), (False, True)}

    def test_a_config_without_dropout_refuses_the_folder(self, folder, tmp_path, recipe):
        import vol3dseg

        preprocess(folder, tmp_path / "prepared", config_of(recipe))
        with pytest.raises(StoreError) as caught:
            vol3dseg.train(
                tmp_path / "prepared", tmp_path / "run", config_of(recipe, modality_dropout={})
            )
        assert "1 of 5 cases lack t1: Case_002" in str(caught.value)
        assert "such as 0.25" in str(caught.value)

    def test_what_is_prepared_without_it_may_be_learned_without_it(self, folder, tmp_path, recipe):
        from vol3dseg.training.data import open_data

        config = config_of(recipe, modality_dropout={}, modalities=["flair"])
        preprocess(folder, tmp_path / "prepared", config_of(recipe))
        data = open_data(tmp_path / "prepared", config)
        assert len(data.training) + len(data.validation) == 5
        assert load_index(tmp_path / "prepared").missing == {"t1": 1}


def test_inspection_expects_what_the_config_does(folder, recipe):
    cases = find_cases(folder)
    plain, allowed = (
        survey(cases, recipe.modalities, optional=optional) for optional in ((), ("t1",))
    )
    assert [bool(case.problems) for case in plain.cases] == [False, True, False, False, False]
    assert not any(case.problems for case in allowed.cases)
    assert list(allowed.cases[1].modalities) == ["flair"]
