"""What a model says of its outputs: classes, regions, several networks."""

import json
import math

import nibabel as nib
import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.model import ensemble
from vol3dseg.model.ensemble import average, side_by_side
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import read_model, with_manifest
from vol3dseg.model.network_check import require_sound_network
from vol3dseg.model.outputs import Region, Sigmoid, Softmax
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

BRATS = Sigmoid(
    threshold=0.5,
    regions=(
        Region(name="whole", members=("edema", "necrotic core", "enhancing"), paints="edema"),
        Region(name="core", members=("necrotic core", "enhancing"), paints="necrotic core"),
        Region(name="active", members=("enhancing",), paints="enhancing"),
    ),
)


def region_graph(channels=2, thresholds=(-0.5, 0.25, 1.0)):
    """Region r where the first modality is above a threshold of its own."""
    regions = len(thresholds)
    weights = np.zeros((regions, channels, 1, 1, 1), dtype=np.float32)
    weights[:, 0] = 8
    bias = -8 * np.array(thresholds, dtype=np.float32)
    dims = ["i", "j", "k"]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["image", "w", "b"], ["logits"]),
            onnx.helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        ],
        "regions",
        [onnx.helper.make_tensor_value_info("image", 1, ["n", channels, *dims])],
        [onnx.helper.make_tensor_value_info("probabilities", 1, ["n", regions, *dims])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def of_regions(manifest):
    """A manifest whose network has a channel for each BraTS region."""
    return Manifest.model_validate({**manifest.model_dump(), "outputs": BRATS.model_dump()})


@pytest.fixture
def region_model(of_regions, tmp_path):
    path = tmp_path / "regions.onnx"
    path.write_bytes(with_manifest(region_graph(), of_regions))
    return path


def test_regions_are_painted_in_their_order(labels):
    voxels = [(0.4, 0.9, 0.4), (0.9, 0.4, 0.4), (0.9, 0.9, 0.4), (0.9, 0.4, 0.9), (0.5, 0.5, 0.5)]
    found = BRATS.decide(np.array(voxels, np.float32).T, labels)
    names = [labels.names[n] for n in found]
    assert names == ["necrotic core", "edema", "necrotic core", "enhancing", "background"]


def changed(**facts):
    first, *others = BRATS.regions
    return BRATS.model_copy(update={"regions": (first.model_copy(update=facts), *others)})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param(changed(members=("oedema",)), r"'whole' names \['oedema'\]", id="member"),
        pytest.param(changed(paints="x"), r"'whole' names \['x'\]", id="painted"),
        pytest.param(changed(paints="background"), r"\['background'\]", id="background"),
        pytest.param(changed(paints="enhancing"), r"no region paints \['edema'\]", id="unreached"),
        pytest.param(changed(name="core"), "named twice", id="named twice"),
        pytest.param(Softmax(classes=("background", "edema")), "those of the labels are", id="few"),
    ],
)
def test_outputs_must_fit_the_labels(manifest, outputs, message):
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate({**manifest.model_dump(), "outputs": outputs.model_dump()})


def test_an_axis_is_mirrored_once(manifest):
    with pytest.raises(ValidationError, match="i is there twice"):
        Manifest.model_validate(
            {**manifest.model_dump(), "tiling": {"step": [8, 8, 8], "mirrorable": ["i", "i"]}}
        )


def test_a_head_of_another_kind_is_refused_by_its_name(model_path):
    model = onnx.load_model_from_string(model_path.read_bytes())
    prop = model.metadata_props[0]
    prop.value = prop.value.replace('"kind":"softmax"', '"kind":"argmax"')
    model_path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"outputs: 'argmax' is none of 'softmax', 'sigmoid'"):
        read_model(model_path)


def test_regions_from_files_to_files(vol3dseg, region_model, brats_folder, of_regions, tmp_path):
    """Labels by hand from the probabilities that are written beside them."""
    words = ["--probabilities", "--device", "cpu"]
    done = vol3dseg("predict", region_model, brats_folder, "-o", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["channels"] == ["whole", "core", "active"]
    written = [label.write for label in of_regions.labels.classes]
    assert len(record["cases"]) == 3
    for name, case in record["cases"].items():
        values = np.asarray(nib.load(tmp_path / "out" / case["file"]).dataobj)
        path = tmp_path / "out" / f"{name}_probabilities.nii.gz"
        whole, core, active = np.moveaxis(nib.load(path).get_fdata(), -1, 0)
        index = of_regions.labels.index
        expected = np.where(whole > 0.5, written[index("edema")], 0)
        expected = np.where(core > 0.5, written[index("necrotic core")], expected)
        expected = np.where(active > 0.5, written[index("enhancing")], expected)
        assert len(np.unique(expected)) == 4
        np.testing.assert_array_equal(values, expected)
        assert set(case["volumes_ml"]) == set(of_regions.labels.foreground)


def test_regions_in_tiles_and_on_a_coarser_grid(of_regions):
    """Probabilities are interpolated, then decided; the plan counts channels, not classes."""
    recipe = of_regions.recipe.model_copy(update={"spacing_mm": (1.5, 1.5, 1.5)})
    facts = {"recipe": recipe, "network": of_regions.network.model_copy(update={"local": False})}
    manifest = of_regions.model_copy(update=facts)
    backend = OnnxBackend(region_graph().SerializeToString())
    array = np.random.default_rng(0).random((30, 28, 26, 2), dtype=np.float32)
    array[8:20, 8:20, 8:20, 0] += np.linspace(0, 3, 12, dtype=np.float32)
    scan = Volume(array, Geometry(array.shape[:3], np.eye(4)), recipe.modalities)
    found = Predictor(backend, manifest)(scan, keep_probabilities=True)
    assert found.plan.blended
    assert found.plan.computed > math.prod(found.plan.size)
    probabilities = np.moveaxis(found.probabilities, -1, 0)
    np.testing.assert_array_equal(
        found.segmentation.array, manifest.outputs.decide(probabilities, manifest.labels)
    )
    assert len(np.unique(found.segmentation.array)) == 4


def test_memory_is_planned_for_channels(of_regions, manifest):
    shape = (40, 40, 40)
    three, four = (Planner(m, bytes_per_voxel=1).blended(shape) for m in (of_regions, manifest))
    rows = (16 + 8) * 40 * 40 * 4 / 2**20  # in the window, and on their way
    assert four.memory_mb - three.memory_mb == pytest.approx(rows)


def test_what_lies_outside_of_the_crop_is_in_no_region(of_regions):
    array = np.zeros((20, 20, 20, 2), np.float32)
    array[5:9, 5:9, 5:9] = np.random.default_rng(0).uniform(1, 2, (4, 4, 4, 2))
    scan = Volume(array, Geometry((20, 20, 20), np.eye(4)), of_regions.recipe.modalities)
    found = Predictor(OnnxBackend(region_graph().SerializeToString()), of_regions)(scan, True)
    assert found.probabilities[6, 6, 6].any()
    assert not found.probabilities[:4].any()
    assert not found.segmentation.array[:4].any()


# --- several networks -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks(small_unet):
    return [small_unet(np.random.default_rng(seed)) for seed in range(3)]


def test_the_average_is_the_mean_of_the_parts(networks):
    image = np.random.default_rng(0).normal(0, 1, (2, 1, 12, 10, 8)).astype(np.float32)
    parts = [OnnxBackend(n.SerializeToString())(image) for n in networks]
    before = [n.SerializeToString() for n in networks]
    mean = average(networks)
    found = OnnxBackend(mean.SerializeToString())(image)
    np.testing.assert_allclose(found, np.mean(parts, axis=0), rtol=0, atol=1e-6)
    assert np.abs(parts[0] - found).max() > 0.01
    assert [n.SerializeToString() for n in networks] == before


def test_side_by_side_are_the_outputs_of_all(networks):
    image = np.random.default_rng(0).normal(0, 1, (2, 1, 12, 10, 8)).astype(np.float32)
    parts = [OnnxBackend(n.SerializeToString())(image) for n in networks]
    before = [n.SerializeToString() for n in networks]
    found = OnnxBackend(side_by_side(networks).SerializeToString())(image)
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1), rtol=0, atol=1e-6)
    assert [n.SerializeToString() for n in networks] == before


def test_a_manifest_says_of_how_many_networks_a_graph_gives_outputs(networks, manifest_for):
    facts = manifest_for(1, 4, (8, 8, 8), 2)
    tiling = facts.tiling.model_copy(update={"skip_empty": False, "members_apart": 3})
    apart = facts.model_copy(update={"members": facts.members * 3, "tiling": tiling})
    require_sound_network(side_by_side(networks), apart, "model.onnx")
    with pytest.raises(ModelError, match=r"\(12 channels.* expected from .*\(4 channels"):
        require_sound_network(side_by_side(networks), facts, "model.onnx")
    with pytest.raises(ModelError, match=r"\(4 channels.* expected from .*\(12 channels"):
        require_sound_network(average(networks), apart, "model.onnx")
    known = {**apart.model_dump(), "members": facts.members * 2}
    with pytest.raises(ValidationError, match="3 networks are blended apart, of 2 members"):
        Manifest.model_validate(known)
    with pytest.raises(ValidationError, match="all tiles are blended"):
        Tiling(step=(4, 4, 4), members_apart=2)


def test_an_average_is_a_model_that_says_of_how_many(
    networks, manifest_for, vol3dseg, tmp_path, labels
):
    facts = manifest_for(1, 4, (8, 8, 8), 2)
    facts = facts.model_copy(update={"members": facts.members * 3})
    path = tmp_path / "mean.onnx"
    path.write_bytes(with_manifest(average(networks), facts))
    shown = vol3dseg("info", path)
    assert "the average of 3 networks" in shown.stdout
    scan = Volume(
        np.random.default_rng(0).random((16, 16, 16, 1), np.float32),
        Geometry((16, 16, 16), np.eye(4)),
        ("m0",),
    )
    found = load_predictor(path, "cpu")(scan, True).probabilities
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_more_than_onnx_can_hold_is_refused(networks, monkeypatch):
    each = networks[0].ByteSize()
    monkeypatch.setattr(ensemble, "_MOST", 2 * each)
    average(networks[:1] * 2)
    with pytest.raises(ModelError, match=r"3 networks take .*; take fewer folds \(--folds\), or"):
        average(networks[:1] * 3)
    with pytest.raises(ModelError, match="3 networks take"):
        side_by_side(networks[:1] * 3)


def test_networks_of_different_interface_are_not_averaged(networks):
    with pytest.raises(ModelError, match=r"graph 2 of 2 .* expected that of the first"):
        average([networks[0], region_graph()])
    with pytest.raises(ModelError, match="at least one"):
        average([])


def test_logits_are_decided_as_their_probabilities_are(labels):
    logits = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=0)
    sigmoid = 1 / (1 + np.exp(-logits[:3]))
    plain = Softmax(classes=labels.names)
    for outputs, shares, values in (
        (plain, softmax, logits),
        (BRATS, sigmoid, logits[:3]),
        (BRATS.model_copy(update={"threshold": 0.8}), sigmoid, logits[:3]),
    ):
        asked = outputs.model_copy(update={"values": "logits"})
        assert np.array_equal(asked.decide(values, labels), outputs.decide(shares, labels))
        assert asked.decide(asked.background, labels) == 0
