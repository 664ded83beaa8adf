"""A small case in a model file: packed as it was, never more of it than is said, and replayed."""

import base64
import json
import zlib

import numpy as np
import onnx
import pytest

from vol3dseg.errors import ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.replaying import replay
from vol3dseg.model.adopted import AdoptedFacts, Proof
from vol3dseg.model.model_file import describe, with_manifest
from vol3dseg.model.replay_case import METADATA_KEY, ReplayCase, cropped, pack, small_part
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

SHAPE = (20, 18, 16)
FACTS = AdoptedFacts(framework="nnU-Net", checkpoint="checkpoint_final.pth", sha256="0" * 64)


@pytest.fixture
def scan():
    """Two modalities of whole numbers on a turned grid."""
    array = np.random.default_rng(0).integers(1, 900, (*SHAPE, 2)).astype(np.float32)
    affine = np.diag([-1.0, -1.5, 2.0, 1.0])
    affine[:3, 3] = 7.25, -3, 11
    return Volume(array, Geometry(SHAPE, affine), ("flair", "t1"))


@pytest.fixture
def adopted(tmp_path, manifest, graph_of, scan):
    """A model file with what it gave of the scan, after a change of so many voxels."""
    proof = Proof(
        against="run", framework="nnU-Net", cases=1, voxels=5760, differing=0, dice={},
        provider="x", versions={},
    )  # fmt: skip
    facts = manifest.model_copy(update={"members": (FACTS,), "proof": proof})
    path = tmp_path / "adopted.onnx"
    graph = graph_of(2, len(manifest.labels.classes))
    path.write_bytes(with_manifest(graph, facts))
    found = load_predictor(path, "cpu")(scan).segmentation

    def make(changed=0, said_by="framework"):
        array = found.array.copy()
        array.ravel()[:changed] = (array.ravel()[:changed] + 1) % 4
        case = pack(scan, Segmentation(array, scan.geometry, manifest.labels), said_by)
        path.write_bytes(with_manifest(graph, facts, case))
        return path

    return make


@pytest.mark.parametrize("scale", [1, 0.5, 100], ids=["whole", "halves", "beyond int16"])
def test_a_case_is_unpacked_as_it_was(scan, labels, scale):
    volume = Volume(scan.array * np.float32(scale), scan.geometry, scan.modalities)
    classes = Segmentation((scan.array[..., 0] % 4).astype(np.uint8), scan.geometry, labels)
    packed = pack(volume, classes, "framework")
    case = ReplayCase.model_validate_json(packed.model_dump_json())
    again = case.volume(scan.modalities)
    assert np.array_equal(again.array, volume.array)
    assert again.geometry == scan.geometry
    assert np.array_equal(case.segmentation(labels).array, classes.array)
    assert case.kind == ("int16" if scale == 1 else "float32")


def test_of_a_large_scan_a_part_amid_its_labels_is_kept(labels):
    shape = (160, 150, 60)
    array = np.zeros((*shape, 1), dtype=np.float32)
    found = np.zeros(shape, dtype=np.uint8)
    found[130:150, 5:25, 30:40] = 1
    grid = Geometry(shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    volume = Volume(array, grid, ("t1",))
    box = small_part(volume, Segmentation(found, grid, labels))
    assert box.shape == (101, 101, 60)
    assert found[box.slices].sum() == found.sum()
    part = cropped(volume, box)
    assert part.geometry.affine[:3, 3].tolist() == [box.start[0], 2.0 * box.start[1], 0]
    small = Volume(array[:20, :20], Geometry((20, 20, 60), np.eye(4)), ("t1",))
    whole = small_part(small, Segmentation(found[:20, :20], small.geometry, labels))
    assert whole.shape == (20, 20, 60)


def packed(content):
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("images", "%%%", id="no base64"),
        pytest.param("images", base64.b64encode(b"abc").decode(), id="not packed"),
        pytest.param("images", packed(b"\0" * 10), id="short"),
        pytest.param("images", packed(b"\0" * 2**24), id="a bomb"),
        pytest.param("labels", packed(b"\7" * (20 * 18 * 16)), id="no such class"),
    ],
)
def test_damage_is_named(vol3dseg, adopted, field, value):
    path = adopted()
    model = onnx.load(path)
    (prop,) = (each for each in model.metadata_props if each.key == METADATA_KEY)
    prop.value = json.dumps({**json.loads(prop.value), field: value})
    onnx.save(model, path)
    done = vol3dseg("info", path, "--replay")
    assert done.returncode == 1
    assert "the case to replay" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_case_of_another_shape_is_damage(scan, labels):
    classes = Segmentation(np.zeros(SHAPE, np.uint8), scan.geometry, labels)
    case = pack(scan, classes, "framework").model_copy(update={"shape": (2**10, 2**10, 1)})
    with pytest.raises(ModelError, match="at most"):
        case.volume(scan.modalities)


@pytest.mark.parametrize(("changed", "agrees"), [(0, True), (3, True), (4, False)])
def test_more_voxels_than_rounding_explains_are_told(vol3dseg, adopted, changed, agrees):
    path = adopted(changed)
    done = vol3dseg("info", path, "--replay", "--device", "cpu")
    assert done.returncode == (not agrees)
    assert f"{changed} of 5760 voxels differ from what nnU-Net says" in done.stdout


def test_whose_labels_they_are_is_said(adopted):
    assert "from what it gave when adopted" in str(replay(adopted(said_by="vol3dseg"), "cpu"))


def test_a_model_without_a_case(model_path):
    with pytest.raises(ModelError, match="carries no case to replay"):
        replay(model_path)


def test_it_is_no_part_of_what_a_model_says_of_itself(adopted):
    found = describe(adopted())
    assert found.kind == "model, adopted from nnU-Net"
    assert len(json.dumps(found.document)) < 10_000
