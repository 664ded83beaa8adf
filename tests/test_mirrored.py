"""Views mirrored along axes of the working grid, which training mirrored, and their mean."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import run_tiles
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

SHAPE = (24, 20, 18)


@pytest.fixture
def model(manifest):
    """A manifest for `small_unet`, whose training mirrored all axes."""
    recipe = manifest.recipe.model_copy(
        update={"modalities": ("m",), "normalisation": {"m": manifest.recipe.normalisation["t1"]}}
    )
    facts = {"divisor": (2, 2, 2), "receptive_field": (6, 6, 6)}
    return manifest.model_copy(
        update={
            "recipe": recipe,
            "fingerprint": recipe.fingerprint,
            "network": manifest.network.model_copy(update=facts),
            "tiling": Tiling.of(recipe.patch_size, mirrorable=("i", "j", "k")),
        }
    )


@pytest.fixture
def network(small_unet):
    return small_unet(np.random.default_rng(0))


@pytest.fixture
def path(tmp_path, model, network):
    path = tmp_path / "mirrorable.onnx"
    path.write_bytes(with_manifest(network, model))
    return path


def mirror(model, axes):
    tiling = model.tiling.model_copy(update={"mirror": tuple(axes)})
    return model.model_copy(update={"tiling": tiling})


def scan(affine=None):
    array = np.random.default_rng(1).normal(0, 1, (*SHAPE, 1)).astype(np.float32)
    return Volume(array, Geometry(SHAPE, np.eye(4) if affine is None else affine), ("m",))


def by_hand(backend, image, axes):
    """Mean over all combinations of mirrored axes of an (i, j, k, c) image."""
    total = 0
    for bits in range(2 ** len(axes)):
        view = ["ijk".index(axis) for n, axis in enumerate(axes) if bits & 1 << n]
        turned = np.ascontiguousarray(np.moveaxis(np.flip(image, view), -1, 0))[None]
        total = total + np.flip(np.moveaxis(backend(turned)[0], 0, -1), view)
    return total / 2 ** len(axes)


@pytest.mark.parametrize("axes", ["i", "ik", "ijk"])
def test_mirrored_views_are_averaged(axes, model, network):
    backend, image = OnnxBackend(network.SerializeToString()), scan()
    found, once = (
        Predictor(backend, m, Planner(m, bytes_per_voxel=1)).segment(image, image.geometry, True)
        for m in (mirror(model, axes), model)
    )
    assert len(found.plan.tiles) == 1
    assert str(found.plan).startswith(
        f"one pass over 24x20x18 voxels, in {2 ** len(axes)} mirrored views; {2 ** len(axes)}.00"
    )
    expected = by_hand(backend, image.array, axes)
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    assert np.abs(once.probabilities - found.probabilities).max() > 0.01


@pytest.mark.parametrize("axes", ["j", "ijk"])
def test_tiles_with_a_halo_equal_one_pass_in_mirrored_views_too(axes, model, network):
    backend, asked = OnnxBackend(network.SerializeToString()), mirror(model, axes)
    image = np.pad(scan().array, [(0, 20), (0, 13), (0, 7), (0, 0)], mode="wrap")
    planner = Planner(asked, bytes_per_voxel=1024)
    whole = planner.plan(image.shape[:3], np.inf)
    tiled = planner.smallest(image.shape[:3])
    assert len(whole.tiles) == 1 < len(tiled.tiles)
    assert tiled.exact
    assert "mirrored views: equal to one pass" in str(tiled)
    one, several = (
        np.concatenate([rows.copy() for rows in run_tiles(image, backend, asked, plan)], axis=1)
        for plan in (whole, tiled)
    )
    np.testing.assert_allclose(several, one[:, : image.shape[0]], rtol=0, atol=1e-6)


def test_the_axes_are_those_of_the_working_grid(path, network):
    """A scan that is stored in another order of axes is mirrored as the network sees it."""
    straight, predictor = scan(), load_predictor(path, "cpu", mirror=True)
    # First axis downwards, second to the left, third to the back.
    affine = np.array([[0, -1, 0, 23], [0, 0, -1, 19], [-1, 0, 0, 17], [0, 0, 0, 1]])
    array = np.transpose(straight.array[::-1, ::-1, ::-1], (2, 0, 1, 3))
    turned = Volume(np.ascontiguousarray(array), Geometry((18, 24, 20), affine), ("m",))
    tiling = predictor.manifest.tiling.model_copy(update={"mirror": ("i",)})
    predictor.manifest = predictor.manifest.model_copy(update={"tiling": tiling})
    one, other = (predictor(image, True).probabilities for image in (straight, turned))
    back = np.transpose(other, (1, 2, 0, 3))[::-1, ::-1, ::-1]
    np.testing.assert_allclose(back, one, rtol=0, atol=1e-6)


def test_mirroring_is_asked_for(path, network):
    backend, image = OnnxBackend(network.SerializeToString()), scan()
    asked, plain = load_predictor(path, "cpu", mirror=True), load_predictor(path, "cpu")
    assert asked.manifest.tiling.mirror == ("i", "j", "k")
    assert plain.manifest.tiling.mirror == ()
    found = asked.segment(image, image.geometry, True)
    expected = by_hand(backend, image.array, "ijk")
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)
    plan = asked.plan(image.geometry, image.geometry)
    assert plan.views == 8
    assert plan.memory_mb > plain.plan(image.geometry, image.geometry).memory_mb


def test_what_training_never_mirrored_is_not_mirrored(model_path, model):
    with pytest.raises(ModelError, match="its training mirrored no axis") as caught:
        load_predictor(model_path, "cpu", mirror=True)
    assert caught.value.where == str(model_path)
    assert "leave out --mirror" in caught.value.remedy
    tiling = {"step": [8, 8, 8], "mirrorable": ["i"], "mirror": ["k"]}
    with pytest.raises(ValidationError, match=r"cannot be mirrored along \['k'\]"):
        Manifest.model_validate({**model.model_dump(), "tiling": tiling})


def test_predict_records_mirrored_views_and_goes_on_in_the_same(
    vol3dseg, manifest, graph_of, brats_folder, tmp_path
):
    tiling = manifest.tiling.model_copy(update={"mirrorable": ("i", "k")})
    graph = graph_of(2, 4)
    path, out = tmp_path / "m.onnx", tmp_path / "O"
    path.write_bytes(with_manifest(graph, manifest.model_copy(update={"tiling": tiling})))
    assert "along i, k, with --mirror" in vol3dseg("info", path).stdout
    words = ("predict", path, brats_folder, "-o", out, "--device", "cpu")
    done = vol3dseg(*words, "--mirror")
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "predictions.json").read_text())
    assert record["mirror"] == ["i", "k"]
    assert ", in 4 mirrored views" in record["cases"]["Case_001"]["plan"]
    (out / "Case_002.nii.gz").unlink()
    done = vol3dseg(*words, "--resume")
    assert done.returncode == 1
    assert "was made with views mirrored along i, k, now it is no axis" in done.stderr
    done = vol3dseg(*words, "--mirror", "--resume")
    assert "2 of 3 cases are complete" in done.stdout, done.stderr
    assert (out / "Case_002.nii.gz").is_file()
