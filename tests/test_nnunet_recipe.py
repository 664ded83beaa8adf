"""The recipe of a model that nnU-Net has trained, and manifests that carry it."""

import json

import pytest
from pydantic import ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.model.manifest import parse_manifest
from vol3dseg.preprocessing.prepare import graph_obstacles
from vol3dseg.recipe import NnunetRecipe, Recipe, own_recipe
from vol3dseg.recipe.nnunet_normalisation import CTWindow, ZScoreOfScan
from vol3dseg.reporting.self_description import describe_model

PLANS = {
    "kind": "nnunet",
    "modalities": ["ct", "mr"],
    "orientation": "stored",
    "spacing_mm": [1.0, 1.0, 3.8],
    "normalisation": {
        "ct": {"method": "ct", "low": 27.0, "high": 134.0, "mean": 80.5, "deviation": 21.5},
        "mr": {"method": "zscore", "inside": "mask"},
    },
    "images": {"method": "spline", "order": 3},
    "outputs": {"method": "spline", "order": 1},
    "patch_size": [56, 56, 16],
}


def plans(**changes):
    return NnunetRecipe.model_validate({**PLANS, **changes})


def test_fields_and_defaults():
    recipe = plans()
    assert isinstance(recipe.normalisation["ct"], CTWindow)
    assert recipe.normalisation["mr"] == ZScoreOfScan(method="zscore", inside="mask")
    assert (recipe.images.order_z, recipe.images.separate_z) == (0, None)
    assert recipe.windows == {"ct": (27.0, 134.0)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"modalities": ["ct"]}, r"normalisation is given for", id="names"),
        pytest.param({"patch_size": [4096] * 3}, "expected at most", id="patch"),
        pytest.param({"outputs": {"method": "none"}}, "so outputs must be", id="outputs kept"),
        pytest.param(
            {"outputs": {"method": "spline", "order": 3}}, "expected 0 or 1", id="outputs cubic"
        ),
        pytest.param(
            {"outputs": {"method": "spline", "order": 1, "order_z": 3}}, "0 or 1", id="cubic in z"
        ),
        pytest.param({"images": {"method": "spline", "order": 2}}, "order", id="order 2"),
    ],
)
def test_what_no_recipe_can_be(changes, said):
    with pytest.raises(ValidationError, match=said):
        plans(**changes)


def test_all_that_changes_what_the_network_sees_is_in_the_fingerprint():
    ways = [
        {},
        {"orientation": "RAS"},
        {"images": {"method": "torch"}},
        {"images": {"method": "spline", "order": 3, "separate_z": False}},
        *(
            {"normalisation": {**PLANS["normalisation"], "mr": {"method": how}}}
            for how in ("none", "rescale", "rgb")
        ),
        {"normalisation": {**PLANS["normalisation"], "mr": {"method": "zscore", "inside": "box"}}},
    ]
    assert len({plans(**way).fingerprint for way in ways}) == len(ways)


def test_a_manifest_carries_either_kind_and_ours_where_none_is_named(manifest):
    theirs = plans(
        modalities=manifest.recipe.modalities,
        patch_size=manifest.recipe.patch_size,
        normalisation={m: {"method": "none"} for m in manifest.recipe.modalities},
    )
    content = json.loads(manifest.model_dump_json())
    del content["recipe"]["kind"]
    assert parse_manifest(json.dumps(content), "m") == manifest
    content["recipe"] = theirs.model_dump(mode="json")
    content["fingerprint"] = theirs.fingerprint
    assert parse_manifest(json.dumps(content), "m").recipe == theirs
    content["recipe"]["kind"] = "other"
    with pytest.raises(ModelError, match="'other' is none of"):
        parse_manifest(json.dumps(content), "m")


def test_it_is_no_recipe_to_train_by_nor_to_write_into_a_graph():
    assert graph_obstacles(plans()) == [
        "its recipe is that of nnU-Net, whose resampling is not written into graphs"
    ]
    with pytest.raises(ModelError, match=r"expected one that vol3dseg has trained with, for this"):
        own_recipe(plans(), "this")


def test_the_kind_is_left_out_of_our_fingerprints(recipe):
    assert isinstance(recipe, Recipe)
    assert recipe.model_copy(update={"kind": "vol3dseg"}).fingerprint == recipe.fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {},
            {
                "axes": "as the file stores them",
                "normalisation": "ct, low 27.0, high 134.0, mean 80.5, deviation 21.5 (ct); "
                "zscore, inside mask (mr)",
                "spacing": "1 × 1 × 3.8 mm, cubic; nearest along the coarsest axis where its "
                "spacing is more than 3 times another",
            },
            id="usual",
        ),
        pytest.param(
            {
                "orientation": "RAS",
                "images": {"method": "spline", "order": 1, "separate_z": False},
                "outputs": {"method": "torch", "separate_z": True},
            },
            {
                "axes": "closest to RAS",
                "spacing": "1 × 1 × 3.8 mm, linear",
                "outputs": "to the grid of the scan, linear by torch; nearest along the coarsest "
                "axis",
            },
            id="torch",
        ),
        pytest.param(
            {"images": {"method": "none"}, "outputs": {"method": "none"}},
            {"spacing": "as it is", "outputs": "as they are"},
            id="kept",
        ),
    ],
)
def test_what_a_model_says_of_its_steps(manifest, changes, said):
    theirs = manifest.model_copy(update={"recipe": plans(**changes)})
    rows = dict(describe_model(theirs, {})["What is done to a scan"].rows)
    assert said.items() <= rows.items()
