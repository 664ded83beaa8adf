"""Tiling laws, the predictor, model files, devices."""

import itertools
import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.cli import predict as predict_module
from vol3dseg.cli.predict import predict as predict_command
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import DatasetError, DeviceError, ModelError
from vol3dseg.formats import FORMATS
from vol3dseg.inference import DEVICES, FORMAT_NAMES, PRECISIONS, SEG, batch
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.inference.tiling.blending import tile_weights
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.tiling.run_tiles import run_tiles
from vol3dseg.model.model_file import read_model, with_manifest
from vol3dseg.model.outputs import Softmax
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume


def blend(image, backend, classes, tile, overlap, manifest_of):
    """Return the (i, j, k, class) result of blended tiles."""
    recipe = Recipe(modalities=("m",), normalisation={"method": "zscore"}, patch_size=tile)
    labels = load_config("crops32").labels
    names = [str(n) for n in range(classes)]
    changes = {"outputs": Softmax(classes=names), "tiling": Tiling.of(tile, overlap)}
    manifest = manifest_of(recipe, labels).model_copy(update=changes)
    plan = Planner(manifest, bytes_per_voxel=1).blended(image.shape[:3])
    rows = [np.array(row) for row in run_tiles(image, backend, manifest, plan)]
    return np.moveaxis(np.concatenate(rows, axis=1), 0, -1)


shapes = st.tuples(*[st.integers(1, 20)] * 3)
tiles = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, tile=tiles, overlap=st.sampled_from([0, 0.25, 0.5, 0.75]))
def test_identity_model_is_the_identity(manifest_of, shape, tile, overlap):
    image = np.random.default_rng(0).random((*shape, 2), dtype=np.float32)
    result = blend(image, lambda patches: patches, 2, tile, overlap, manifest_of)
    # float32: dozens of tiles add up at a voxel, each rounded
    np.testing.assert_allclose(result, image, rtol=0, atol=4e-6)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, tile=tiles, overlap=st.sampled_from([0, 0.5, 0.9]))
def test_blending_weights_sum_to_one(manifest_of, shape, tile, overlap):
    image = np.ones((*shape, 1), dtype=np.float32)
    result = blend(image, np.ones_like, 1, tile, overlap, manifest_of)
    np.testing.assert_allclose(result, 1, rtol=0, atol=4e-6)


def test_gaussian_weights_fall_off_from_the_middle_and_stay_positive():
    weights = tile_weights((9, 8, 7), Tiling.of((9, 8, 7)))
    assert weights.shape == (9, 8, 7)
    assert weights[4, 3, 3] == weights.max()
    assert weights.min() == np.float32(1e-3)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1, ::-1])


def orientations():
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            yield pytest.param(order, flips, id=f"{order}{flips}".replace(" ", ""))


@pytest.mark.parametrize(("order", "flips"), list(orientations()))
def test_turning_a_volume_with_its_affine_turns_its_segmentation(order, flips, manifest):
    rng = np.random.default_rng(5)
    array = rng.random((19, 23, 17, 2), dtype=np.float32)
    array[:4] = 0
    angle = 0.2
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, 3] = (12.0, -30.0, 7.5)

    def turn(values):
        return np.transpose(values, (*order, *range(3, values.ndim)))[
            tuple(slice(None, None, f) for f in flips)
        ]

    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        to_old[old, new] = flip
        to_old[old, 3] = 0 if flip == 1 else array.shape[old] - 1

    def backend(patches):  # depends on position in the patch, so that tiling matters
        ramp = np.linspace(0, 1, patches.shape[2], dtype=np.float32)[:, None, None]
        score = patches[:, :1] + 0.1 * ramp
        return np.concatenate([1 - score, score, 0 * score, 0 * score], axis=1)

    predictor = Predictor(backend, manifest)
    names = ("flair", "t1")
    straight = predictor(Volume(array, Geometry(array.shape[:3], affine), names)).segmentation
    turned_grid = Geometry(turn(array).shape[:3], affine @ to_old)
    turned = predictor(Volume(turn(array), turned_grid, names)).segmentation
    assert 0 < straight.array.mean() < 1
    np.testing.assert_array_equal(turned.array, turn(straight.array))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 5), (17, 16, 15)], ids=str)
def test_volumes_smaller_than_a_tile_are_padded(shape, manifest, model_path):
    array = np.random.default_rng(0).random((*shape, 2), dtype=np.float32)
    prediction = load_predictor(model_path)(
        Volume(array, Geometry(shape, np.eye(4)), ("flair", "t1")), keep_probabilities=True
    )
    assert prediction.segmentation.array.shape == shape
    np.testing.assert_allclose(prediction.probabilities.sum(axis=3), 1, atol=1e-5)


def test_modalities_are_found_by_name_whatever_their_order(brats_folder, model_path):
    predictor = load_predictor(model_path)
    case = find_cases(brats_folder)[0]
    straight = predictor(read_volume(case, ["flair", "t1"])).segmentation
    swapped = predictor(read_volume(case, ["t1", "flair"])).segmentation
    assert straight.array.any()
    np.testing.assert_array_equal(straight.array, swapped.array)
    with pytest.raises(DatasetError, match="t1"):
        predictor(read_volume(case, ["flair"]))


def test_intensity_scale_does_not_matter_under_z_score(brats_folder, model_path):
    predictor = load_predictor(model_path)
    volume = read_volume(find_cases(brats_folder)[0], ["flair", "t1"])
    scaled = Volume(volume.array * np.float32(4), volume.geometry, volume.modalities)
    np.testing.assert_array_equal(
        predictor(volume).segmentation.array, predictor(scaled).segmentation.array
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_onnx_backend_says_what_it_runs_on(model_path, threads):
    backend = OnnxBackend(model_path.read_bytes(), "cpu", threads)
    assert backend.provider == "CPUExecutionProvider"
    output = backend(np.zeros((2, 2, 4, 4, 4), dtype=np.float32))
    assert output.shape == (2, 4, 4, 4, 4)


@pytest.mark.parametrize(("overlap", "step"), [(None, 4), (0.0, 8), (0.75, 2)])
def test_the_overlap_of_blended_tiles_can_be_chosen(manifest, tmp_path, small_unet, overlap, step):
    network = manifest.network.model_copy(update={"local": False})
    recipe = manifest.recipe.select(["flair"]).model_copy(update={"patch_size": (8, 8, 8)})
    changes = {
        "network": network,
        "recipe": recipe,
        "fingerprint": recipe.fingerprint,
        "tiling": Tiling.of(recipe.patch_size),
    }
    of_tiles = manifest.model_copy(update=changes)
    path = tmp_path / "tiles.onnx"
    path.write_bytes(with_manifest(small_unet(np.random.default_rng(0)), of_tiles))
    grid = Geometry((20, 20, 20), np.eye(4))
    plan = load_predictor(path, "cpu", overlap=overlap).plan(grid, grid)
    assert plan.blended
    assert plan.step == (step, step, step)


def test_the_command_offers_what_the_library_has():
    options = {option.name: option for option in predict_command.params}
    assert tuple(options["device"].type.choices) == DEVICES
    assert tuple(options["precision"].type.choices) == PRECISIONS
    assert tuple(options["format"].type.choices) == FORMAT_NAMES
    assert (*(written.name for written in FORMATS), SEG) == FORMAT_NAMES


def test_the_progress_bar_knows_its_total_before_the_first_case_is_read(
    model_path, brats_folder, tmp_path, monkeypatch
):
    bar, read, totals = predict_module.progress_bar(), batch.read_volume, []

    def noting(*arguments):
        totals.append(bar.tasks[0].total)
        return read(*arguments)

    monkeypatch.setattr(predict_module, "progress_bar", lambda: bar)
    monkeypatch.setattr(batch, "read_volume", noting)
    arguments = [str(model_path), str(brats_folder), "-o", str(tmp_path / "O")]
    done = CliRunner().invoke(predict_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert totals == [3, 3, 3]


def test_a_device_that_is_not_there_is_an_error(model_path, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"pip install 'vol3dseg\[gpu\]'"):
        load_predictor(model_path, "cuda")


def test_a_silent_fallback_is_an_error(model_path, monkeypatch):
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda content, sess_options, providers: real(
            content, sess_options, providers=["CPUExecutionProvider"]
        ),
    )
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        load_predictor(model_path, "cuda")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_agrees_with_onnxruntime(precision, model_path, brats_folder):
    pytest.importorskip("openvino")
    volume = read_volume(find_cases(brats_folder)[0], ["flair", "t1"])
    try:
        ours = load_predictor(model_path, "openvino", precision=precision)
    except DeviceError as error:
        assert "not in bfloat16" in str(error)  # noqa: PT017 - either outcome is right
        return
    expected = load_predictor(model_path, "cpu")(volume, keep_probabilities=True)
    found = ours(volume, keep_probabilities=True)
    assert ours.backend.provider == f"OpenVINO CPU {precision}"
    tolerance = {"float32": 1e-5, "bfloat16": 3e-2}[precision]
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=tolerance)


def test_bfloat16_is_for_openvino(model_path):
    with pytest.raises(DeviceError, match="use --device openvino for bfloat16"):
        load_predictor(model_path, "cpu", precision="bfloat16")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(model_path, brats_folder):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("no CUDA provider in this onnxruntime")
    volume = read_volume(find_cases(brats_folder)[0], ["flair", "t1"])
    cpu, cuda = (load_predictor(model_path, d)(volume, True).probabilities for d in ("cpu", "cuda"))
    np.testing.assert_allclose(cpu, cuda, atol=1e-4)


def other_channels(model):
    prop = model.metadata_props[0]
    names = '"classes":["background",'
    assert names in prop.value
    other = json.loads(prop.value)
    regions = [{"name": n, "members": [n], "paints": n} for n in other["outputs"]["classes"][1:]]
    other["outputs"] = {"kind": "sigmoid", "threshold": 0.5, "regions": regions}
    prop.value = json.dumps(other)


def without_manifest(model):
    del model.metadata_props[:]


def manifest_of_version(version):
    def change(model):
        now = model.metadata_props[0].value
        model.metadata_props[0].value = now.replace('"version":6,"rec', f'"version":{version},"rec')
        assert model.metadata_props[0].value != now

    return change


def other_recipe(model):
    prop = model.metadata_props[0]
    prop.value = prop.value.replace('"crop":"nonzero"', '"crop":"none"')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(other_channels, r"\(4 channels, .* as its manifest says", id="other channels"),
        pytest.param(without_manifest, "without the metadata", id="no manifest"),
        pytest.param(manifest_of_version(7), "another version", id="newer manifest"),
        pytest.param(manifest_of_version(5), "anew with vol3dseg export-onnx", id="older manifest"),
        pytest.param(other_recipe, "fingerprint", id="edited recipe"),
    ],
)
def test_a_model_that_is_not_ours_is_refused(model_path, change, message):
    model = onnx.load_model_from_string(model_path.read_bytes())
    change(model)
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        read_model(model_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"", "not an ONNX file", id="empty"),
        pytest.param(b"<html></html>", "not an ONNX file", id="web page"),
    ],
)
def test_a_file_that_is_no_onnx_is_refused(tmp_path, content, message):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_model(path)


def test_the_manifest_survives_the_file(model_path, manifest):
    model = read_model(model_path)
    assert model.manifest == manifest
    graph = onnx.load_model_from_string(model.content)
    assert with_manifest(graph, manifest) == model.content


@pytest.mark.parametrize("limit_mb", [None, 10_000.0])
def test_what_the_runtime_keeps_is_given_back_where_memory_is_limited(limit_mb, manifest):
    released = []
    predictor = Predictor(
        lambda patches: np.zeros((1, 4, *patches.shape[2:]), np.float32),
        manifest,
        Planner(manifest, bytes_per_voxel=1),
        max_memory_mb=limit_mb,
        release=lambda: released.append("once"),
    )
    image = np.ones((20, 20, 20, len(manifest.recipe.modalities)), np.float32)
    volume = Volume(image, Geometry(image.shape[:3], np.eye(4)), manifest.recipe.modalities)
    predictor.segment(volume, volume.geometry)
    before = len(released)  # measuring is a run as well
    predictor(volume)
    assert len(released) - before == (limit_mb is not None)
