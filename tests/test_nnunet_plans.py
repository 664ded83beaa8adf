"""What nnU-Net's files say, in our words; what cannot be carried is refused by name, in a line."""

import json

import numpy as np
import pytest

from tests.nnunet_folders import CT, DATASET, FULLRES, PLANS, RESAMPLING
from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.model_folder import find_model
from vol3dseg.export.nnunet.nnunet_labels import read_description
from vol3dseg.export.nnunet.plans import read_plans
from vol3dseg.export.nnunet.plans_recipe import recipe_of

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def recipe(tmp_path, name="3d_fullres", fullres=None, **changes):
    """The recipe of plans with these changes."""
    chosen = {**FULLRES, **(fullres or {})}
    content = {**PLANS, "configurations": {"3d_fullres": chosen}, **changes}
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(content))
    return recipe_of(read_plans(path, name, 2), ("CT", "T2"))


def description(tmp_path, **changes):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**DATASET, **changes}))
    return read_description(path)


# --- plans ----------------------------------------------------------------------------------------


def test_axes_of_the_network_become_those_of_the_file(tmp_path):
    """An array k, j, i with a number for its axis, brought forward as nnU-Net does."""
    recipe(tmp_path)
    plans = read_plans(tmp_path / "plans.json", "3d_fullres", 2)
    stored = np.arange(3).reshape(3, 1, 1) * np.ones((3, 4, 5))  # k, which is axis 2 of the file
    shape = np.zeros((30, 20, 10)).transpose(plans.transpose_forward).shape  # k, j, i = 30, 20, 10
    assert plans.along_file(shape) == (10, 20, 30)
    forward = stored.transpose(plans.transpose_forward)
    (axis,) = (n for n in range(3) if np.ptp(forward, axis=n).any())
    assert plans.file_axes[axis] == 2


def test_what_plans_say_becomes_a_recipe(tmp_path):
    made = recipe(tmp_path)
    assert made.spacing_mm == (4.0, 1.5, 1.0)
    assert made.patch_size == (8, 24, 24)
    assert made.orientation == "stored"
    assert made.windows == {"CT": (27.0, 134.0)}
    assert made.normalisation["T2"].inside == "mask"
    assert (made.images.order, made.outputs.order, made.images.separate_z) == (3, 1, None)


def test_readers_that_turn_scans_give_ras(tmp_path):
    assert recipe(tmp_path, image_reader_writer="NibabelIOWithReorient").orientation == "RAS"


def test_a_configuration_inherits_and_overrides(tmp_path):
    small = {"inherits_from": "3d_fullres", "patch_size": [4, 12, 16]}
    both = {"3d_fullres": FULLRES, "small": small}
    made = recipe(tmp_path, "small", configurations=both)
    assert (made.patch_size, made.spacing_mm) == ((4, 16, 12), (4.0, 1.5, 1.0))


@pytest.mark.parametrize(
    ("function", "options", "method", "separate"),
    [
        pytest.param("resample_data_or_seg_to_shape", {}, "spline", False, id="its default"),
        pytest.param(
            "resample_data_or_seg_to_shape", {"force_separate_z": None}, "spline", None, id="null"
        ),
        pytest.param("resample_torch_fornnunet", {"num_threads": 8}, "torch", None, id="torch"),
        pytest.param(
            "resample_torch_fornnunet", {"force_separate_z": True}, "torch", True, id="always"
        ),
    ],
)
def test_resampling_has_the_defaults_of_its_function(tmp_path, function, options, method, separate):
    changes = {"resampling_fn_data": function, "resampling_fn_data_kwargs": options}
    made = recipe(tmp_path, fullres=changes)
    assert (made.images.method, made.images.separate_z) == (method, separate)


def test_scans_may_keep_their_spacing(tmp_path):
    ways = {"resampling_fn_data": "no_resampling_hack", "resampling_fn_data_kwargs": {}}
    ways |= {
        "resampling_fn_probabilities": "no_resampling_hack",
        "resampling_fn_probabilities_kwargs": {},
    }
    assert recipe(tmp_path, fullres=ways).images.method == "none"


def test_older_plans_say_intensities_by_modality(tmp_path):
    older = {k: v for k, v in PLANS.items() if not k.startswith("foreground")}
    older["configurations"] = {"3d_fullres": FULLRES}
    older["foreground_intensity_properties_by_modality"] = {"0": CT, "1": CT}
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(older))
    assert recipe_of(read_plans(path, "3d_fullres", 2), ("CT", "T2")).windows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"previous_stage": "3d_lowres"}, "a stage of a cascade", id="cascade"),
        pytest.param({"patch_size": [48, 56], "spacing": [1, 1]}, "a 2d network", id="2d"),
        pytest.param({"preprocessor_name": "MyOwn"}, "preprocessor 'MyOwn'", id="preprocessor"),
        pytest.param(
            {"normalization_schemes": ["Mine", "CTNormalization"]}, "'Mine'", id="normalisation"
        ),
        pytest.param({"normalization_schemes": ["CTNormalization"]}, "1 entries", id="channels"),
        pytest.param({"resampling_fn_data": "my_fn"}, "resamples by 'my_fn'", id="resampling"),
        pytest.param(
            {"resampling_fn_probabilities_kwargs": {**RESAMPLING, "is_seg": True}},
            "is_seg True",
            id="as labels",
        ),
        pytest.param(
            {"resampling_fn_data_kwargs": {"gamma": 2}}, "unknown key .*gamma", id="argument"
        ),
        pytest.param({"resampling_fn_data_kwargs": {"order": 2}}, "order", id="order"),
        pytest.param({"patch_size": ["a", 1, 2]}, "patch_size.0", id="no number"),
        pytest.param({"spacing": [0, 1, 1]}, "spacing.0", id="no spacing"),
    ],
)
def test_configurations_that_cannot_be_carried(tmp_path, changes, said):
    with pytest.raises(ModelError, match=said) as refused:
        recipe(tmp_path, fullres=changes)
    assert "\n" not in str(refused.value)
    assert "plans.json" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"image_reader_writer": "NaturalImage2DIO"}, "NaturalImage2DIO", id="reader"),
        pytest.param({"image_reader_writer": "Tiff3DIO"}, "Tiff3DIO", id="tiff"),
        pytest.param({"label_manager": "MyManager"}, "label manager 'MyManager'", id="manager"),
        pytest.param({"transpose_forward": [0, 0, 1]}, r"\[0, 0, 1\]", id="axes"),
        pytest.param({"configurations": []}, "no configurations", id="none"),
        pytest.param({"configurations": {"3d_lowres": FULLRES}}, "3d_lowres", id="another"),
        pytest.param(
            {"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}},
            "in a circle: 3d_fullres -> 3d_fullres",
            id="circle",
        ),
        pytest.param(
            {"foreground_intensity_properties_per_channel": {}}, "lacks channel 0", id="no CT"
        ),
    ],
)
def test_plans_that_cannot_be_carried(tmp_path, changes, said):
    with pytest.raises(ModelError, match=said):
        recipe(tmp_path, **changes)


# --- dataset.json ---------------------------------------------------------------------------------


def test_classes_are_the_indices_of_channels(tmp_path):
    found = description(tmp_path, labels={"core": 2, "background": 0, "tumour": [1], "ignore": 3})
    assert found.modalities == ("CT", "T2")
    assert found.labels.names == found.outputs.classes == ("background", "tumour", "core")
    assert found.outputs.values == "logits"
    assert [c.write for c in found.labels.classes] == [0, 1, 2]
    assert found.labels.ignore == (3,)
    assert found.notes == ()


def test_channels_of_older_datasets(tmp_path):
    path = tmp_path / "dataset.json"
    older = {"modality": {"1": "T2", "0": "CT"}, "labels": DATASET["labels"]}
    path.write_text(json.dumps(older))
    assert read_description(path).modalities == ("CT", "T2")


def test_regions_are_painted_in_the_order_that_is_given(tmp_path):
    found = description(tmp_path, labels=REGIONS, regions_class_order=[2, 1, 4])
    classes = {c.name: (c.read, c.write) for c in found.labels.classes}
    # Whole paints 2, core over it 1, enhancing over both 4.
    assert classes == {
        "background": ((0,), 0),
        "label 1": ((2,), 1),
        "label 2": ((1,), 2),
        "enhancing": ((3,), 4),
    }
    assert [(r.name, r.paints) for r in found.outputs.regions] == [
        ("whole", "label 2"), ("core", "label 1"), ("enhancing", "enhancing"),
    ]  # fmt: skip
    assert found.labels.regions == {
        "whole": ("label 1", "label 2", "enhancing"),
        "core": ("label 1", "enhancing"),
    }
    assert found.notes == ("classes that only regions name are called label 1, label 2",)
    assert found.outputs.problems(found.labels) == []


def test_painted_as_nnunet_paints(tmp_path):
    """Every combination of outputs, against the loop over regions that defines it."""
    order = [2, 1, 4]
    found = description(tmp_path, labels=REGIONS, regions_class_order=order)
    inside = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), dtype=np.float32)
    wanted = np.zeros(inside.shape[1:], dtype=np.uint8)
    for channel, value in zip(inside, order, strict=True):
        wanted[channel > 0] = value
    painted = found.outputs.decide(inside, found.labels)
    assert np.array_equal(found.labels.decode(painted), wanted)


def test_a_region_that_its_classes_do_not_make_up_is_judged_by_nobody(tmp_path):
    crossing = {"background": 0, "a": [1, 2], "b": [2, 3]}
    found = description(tmp_path, labels=crossing, regions_class_order=[1, 2])
    assert found.labels.regions == {}
    assert {c.name: c.read for c in found.labels.classes[1:]} == {"label 1": (1,), "b": (2, 3)}


def test_names_that_nobody_can_type_are_mended_and_said(tmp_path):
    found = description(
        tmp_path,
        channel_names={"0": "MR", "1": "MR"},
        labels={"background": 0, "a\nb": 1, "": 2, "x=y": 3},
    )
    assert found.modalities == ("MR 0", "MR 1")
    assert found.labels.names == ("background", "a_b", "label 2", "x_y")
    assert "'a\\nb' is called 'a_b'" in found.notes
    found = description(tmp_path, labels={"background": 0, "a/": 1, "a_": 2, "a_ 2": 3})
    assert found.labels.names == ("0 background", "1 a_", "2 a_", "3 a_ 2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"labels": {"background": 0, "a": 1, "b": 3}}, "without a gap", id="gap"),
        pytest.param({"labels": {"background": 0, "a": 1, "b": 1}}, "each once", id="twice"),
        pytest.param({"labels": {"a": 0, "b": 1}}, "no background", id="no background"),
        pytest.param({"labels": {"background": 1, "b": 0}}, "no background", id="background 1"),
        pytest.param(
            {"labels": {"background": 0, "a": "x"}},
            r"labels.a.0: expected a whole number, found 'x'; expected dataset",
            id="text",
        ),
        pytest.param({"labels": {"background": 0, "a": []}}, "labels.a: expected at", id="empty"),
        pytest.param(
            {"labels": {"background": 0, **{f"c{n}": n for n in range(1, 256)}}},
            "256 classes",
            id="many",
        ),
        pytest.param({"labels": REGIONS}, "regions_class_order is nothing", id="no order"),
        pytest.param(
            {"labels": REGIONS, "regions_class_order": [1, 2]}, r"\[1, 2\]", id="short order"
        ),
        pytest.param(
            {"labels": REGIONS, "regions_class_order": [1, 1, 2]}, "another for each", id="same"
        ),
        pytest.param(
            {"labels": {**REGIONS, "ignore": [4, 5]}, "regions_class_order": [1, 2, 3]},
            "ignore has several",
            id="ignored region",
        ),
        pytest.param(
            {"labels": {"background": 0, "a": [1, 2], "b": [1, 2]}, "regions_class_order": [1, 2]},
            "cover theirs",
            id="covered",
        ),
        pytest.param(
            {"labels": {"background": 0, "a": [0, 1], "b": 2}, "regions_class_order": [1, 2]},
            "holds the background",
            id="background in a region",
        ),
        pytest.param({"channel_names": {"1": "CT", "2": "T2"}}, "numbered 1, 2", id="numbers"),
        pytest.param({"channel_names": {}}, "channel_names", id="no channels"),
    ],
)
def test_datasets_that_cannot_be_carried(tmp_path, changes, said):
    with pytest.raises(ModelError, match=said) as refused:
        description(tmp_path, **changes)
    assert "\n" not in str(refused.value)
    assert "dataset.json" in str(refused.value)


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Two folds and one of all cases, the second without its best checkpoint."""
    place = tmp_path / "Dataset1_X" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    files = ["fold_0/checkpoint_final.pth", "fold_0/checkpoint_best.pth"]
    files += ["fold_1/checkpoint_final.pth", "fold_all/checkpoint_final.pth"]
    for name in ["plans.json", "dataset.json", *files]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


def test_numbered_folds_are_taken_unless_others_are_asked_for(folder):
    assert list(find_model(folder).checkpoints) == ["0", "1"]
    assert list(find_model(folder, ["all"]).checkpoints) == ["all"]
    assert list(find_model(folder, ["1", "0"]).checkpoints) == ["1", "0"]
    assert list(find_model(folder, checkpoint="best").checkpoints) == ["0"]
    for fold in ("fold_0", "fold_1"):
        (folder / fold / "checkpoint_final.pth").unlink()
    assert list(find_model(folder).checkpoints) == ["all"]


def test_the_only_model_of_a_dataset_is_found(folder):
    assert find_model(folder.parent).path == folder
    assert find_model(folder).configuration == "3d_fullres"


@pytest.mark.parametrize(
    ("make", "asked", "said"),
    [
        pytest.param(lambda f: f, ["7"], "no checkpoint_final.pth of fold 7", id="no such fold"),
        pytest.param(lambda f: f / "fold_0", [], "with --folds 0", id="a fold"),
        pytest.param(lambda f: f / "plans.json", [], "a file", id="a file"),
        pytest.param(lambda f: f / "nothing", [], "is missing", id="nothing"),
        pytest.param(lambda f: f.parents[1], [], "holds no model", id="too far up"),
    ],
)
def test_folders_that_are_no_model(folder, make, asked, said):
    with pytest.raises(ModelError, match=said):
        find_model(make(folder), asked)


def test_a_model_of_version_1_is_named(tmp_path):
    (tmp_path / "plans.pkl").touch()
    with pytest.raises(ModelError, match="nnU-Net v1"):
        find_model(tmp_path)


def test_the_other_checkpoint_is_named_where_it_is_there(folder):
    (folder / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(ModelError, match="take --checkpoint best"):
        find_model(folder, ["0"])


def test_two_models_in_one_folder_are_listed(folder):
    (folder.parent / "nnUNetTrainer__nnUNetPlans__3d_lowres").mkdir()
    (folder.parent / "nnUNetTrainer__nnUNetPlans__3d_lowres" / "plans.json").touch()
    with pytest.raises(ModelError, match=r"several models: .*fullres, .*lowres"):
        find_model(folder.parent)
