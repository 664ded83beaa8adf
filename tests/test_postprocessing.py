"""Post-processing: laws of its steps, and what a model, its predictor and records say of it."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter

from vol3dseg.errors import MemoryLimitError, MissingExtraError, ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.machine import give_back, peak_mb, reset_peak, resident_mb
from vol3dseg.model import components as module
from vol3dseg.model.components import BYTES_PER_VOXEL, postprocess
from vol3dseg.model.manifest import parse_manifest
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.postprocessing import FillHoles, KeepLargest, RemoveSmall, Steps
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation
from vol3dseg.space.volume import Volume

LABELS = LabelSet(
    classes=[Label(name=name, read=(n,), write=n) for n, name in enumerate(["air", "rim", "core"])],
    regions={"whole": ["rim", "core"]},
)
KEEP = KeepLargest(of="rim", becomes="air")
SMALL = RemoveSmall(of="rim", volume_ml=0.003, becomes="air")  # three voxels of a millimetre
FILL = FillHoles(of="rim", becomes="rim")
STEPS = [
    pytest.param(step, id=f"{step.kind} {step.of}")
    for step in (
        KEEP,
        SMALL,
        FILL,
        KeepLargest(of="whole", becomes="air"),
        RemoveSmall(of="whole", volume_ml=0.004, becomes="air"),
        RemoveSmall(of="core", volume_ml=0.002, becomes="rim"),
        FillHoles(of="whole", becomes="core"),
    )
]
maps = arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.sampled_from([0, 0, 1, 2]))


def done(array, *steps, spacing=(1, 1, 1)):
    """A copy of a label map after steps, and what they have changed."""
    array = np.array(array, dtype=np.uint8)
    found = Segmentation(array, Geometry(array.shape, np.diag([*spacing, 1.0])), LABELS)
    return array, postprocess(found, steps)


def members(step):
    return LABELS.indices(LABELS.regions.get(step.of, (step.of,)))


def row(*values):
    return np.array(values, dtype=np.uint8)[:, None, None]


def shell(side=5):
    """A hollow cube of rim, with a voxel of air around it."""
    array = np.pad(np.ones((side,) * 3, dtype=np.uint8), 1)
    array[2:-2, 2:-2, 2:-2] = 0
    return array


@pytest.mark.parametrize("step", STEPS)
@given(array=maps)
def test_a_step_is_done_once_and_for_all(step, array):
    once, (change,) = done(array, step)
    twice, (nothing,) = done(once, step)
    np.testing.assert_array_equal(twice, once)
    assert (nothing.pieces, nothing.voxels) == (0, 0)
    assert change.voxels == np.count_nonzero(once != array)
    assert bool(change.pieces) == bool(change.voxels)
    became = LABELS.index(step.becomes)
    before = [0] if step.kind == "fill_holes" else members(step)
    assert set(array[once != array].tolist()) <= set(before)
    assert set(once[once != array].tolist()) <= {became}


@pytest.mark.parametrize("step", STEPS)
@given(array=maps)
def test_steps_do_what_scipy_finds(step, array):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = np.isin(array, members(step))
    if step.kind == "fill_holes":
        changed = ndimage.binary_fill_holes(mask) & (array == 0)
    else:
        found, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(found.ravel(), minlength=count + 1)
        if step.kind == "keep_largest":
            changed = mask & (found != 1 + sizes[1:].argmax()) if count else mask
        else:
            changed = mask & (sizes[found] < round(step.volume_ml * 1000))
    expected = np.where(changed, LABELS.index(step.becomes), array)
    np.testing.assert_array_equal(done(array, step)[0], expected)


@pytest.mark.parametrize("step", STEPS)
def test_an_empty_map_stays_empty(step):
    array, (change,) = done(np.zeros((3, 4, 5)), step)
    assert not array.any()
    assert (change.step, change.what, change.pieces, change.voxels) == (1, str(step), 0, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(row(1, 1, 0, 1, 1), row(1, 1, 0, 0, 0), id="the first of equals"),
        pytest.param(row(1, 0, 1, 1, 2), row(0, 0, 1, 1, 2), id="the largest"),
        pytest.param(row(1, 2, 1, 1, 0), row(0, 2, 1, 1, 0), id="another class does not connect"),
        pytest.param(np.eye(3)[..., None], np.eye(3)[..., None], id="corners connect"),
        pytest.param(row(0, 2, 0), row(0, 2, 0), id="none"),
    ],
)
def test_the_largest_component_is_kept(before, after):
    np.testing.assert_array_equal(done(before, KEEP)[0], after)


def test_the_first_of_equals_is_the_first_in_memory():
    array = np.zeros((3, 3, 3), dtype=np.uint8)
    array[0, 0, 2] = array[0, 2, 0] = array[2, 0, 0] = 1  # by i, then j, then k: at j = 0
    expected = np.zeros_like(array)
    expected[0, 0, 2] = 1
    np.testing.assert_array_equal(done(array, KEEP)[0], expected)
    np.testing.assert_array_equal(done(np.asfortranarray(array), KEEP)[0], expected)


@pytest.mark.parametrize(
    ("spacing", "volume_ml", "kept"),
    [
        pytest.param((1, 1, 1), 0.003, True, id="just as large"),
        pytest.param((1, 1, 1), 0.0031, False, id="smaller"),
        pytest.param((0.5, 0.5, 6.5), 0.0048, True, id="slices far apart"),
        pytest.param((0.5, 0.5, 6.5), 0.0049, False, id="slices far apart, smaller"),
        pytest.param((0.1, 0.3, 0.3), 2.7e-5, True, id="just as large but for rounding"),
    ],
)
def test_volumes_are_those_of_the_grid(spacing, volume_ml, kept):
    step = RemoveSmall(of="rim", volume_ml=volume_ml, becomes="air")
    array, (change,) = done(row(0, 1, 1, 1, 0), step, spacing=spacing)
    assert array.any() == kept
    assert (change.pieces, change.voxels) == ((0, 0) if kept else (1, 3))


def test_holes_are_filled_and_what_touches_a_face_is_none():
    array = shell()
    np.testing.assert_array_equal(done(array, FILL)[0][1:-1, 1:-1, 1:-1], 1)
    assert done(array, FILL)[1][0].pieces == 1
    assert not done(array, FILL)[0][0].any()
    cut = array[:, 3:]  # through the hole: the volume's face is its wall
    np.testing.assert_array_equal(done(cut, FILL)[0], cut)
    open_ = array.copy()
    open_[1, 3, 3] = 0  # a way out through a face of a voxel
    np.testing.assert_array_equal(done(open_, FILL)[0], open_)
    edge = array.copy()
    edge[1, 1, 3] = 0  # an edge has no way through
    filled = done(edge, FILL)[0]
    assert (filled[1, 1, 3], filled[3, 3, 3]) == (0, 1)


def test_what_lies_in_a_hole_stays():
    array = shell()
    array[3, 3, 3] = 2
    filled, (change,) = done(array, FILL)
    assert filled[3, 3, 3] == 2
    assert (change.pieces, change.voxels) == (1, 26)
    whole, _ = done(array, FillHoles(of="whole", becomes="core"))
    assert np.count_nonzero(whole == 2) == 27


def test_a_region_is_one_structure():
    """Classes that touch are one component of their region, and go together."""
    array = row(1, 2, 0, 1, 0, 2, 2, 1)
    kept, (change,) = done(array, KeepLargest(of="whole", becomes="air"))
    np.testing.assert_array_equal(kept, row(0, 0, 0, 0, 0, 2, 2, 1))
    assert (change.pieces, change.voxels) == (2, 3)


def test_steps_are_done_in_their_order():
    array = row(2, 0, 1, 1, 0, 1)
    to_core = RemoveSmall(of="rim", volume_ml=0.002, becomes="core")
    largest = KeepLargest(of="core", becomes="air")
    assert done(array, to_core, largest)[0].ravel().tolist() == [2, 0, 1, 1, 0, 0]
    assert done(array, largest, to_core)[0].ravel().tolist() == [2, 0, 1, 1, 0, 2]
    assert [change.step for change in done(array, to_core, largest)[1]] == [1, 2]


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (3, 3, 3), (5, 1, 7), (1, 6, 1), (7, 7, 7), (8, 6, 4)], ids=str
)
def test_as_many_components_as_there_can_be(shape):
    """One in every corner of 2 x 2 x 2 voxels; cc3d alone fails where a side is odd."""
    array = np.zeros(shape, dtype=np.uint8)
    array[::2, ::2, ::2] = 1
    kept, (change,) = done(array, KEEP)
    assert change.pieces == np.count_nonzero(array) - 1
    assert np.flatnonzero(kept).tolist() == [0]


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("step", [KEEP, SMALL, FILL], ids=lambda step: step.kind)
def test_memory_is_no_more_than_is_counted(step, share):
    array = (np.random.default_rng(0).random((128, 128, 128), np.float32) < share).view(np.uint8)
    segmentation = Segmentation(array.copy(), Geometry(array.shape, np.eye(4)), LABELS)
    give_back()
    before = resident_mb()
    reset_peak()
    if before is None or peak_mb() > before + 1:
        pytest.skip("this system forgets no peak")
    postprocess(segmentation, [step])
    assert peak_mb() - before <= array.size * BYTES_PER_VOXEL / 2**20 + 10


# --- in the manifest ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param(
            {"kind": "keep_largest", "of": "bone", "becomes": "air"},
            r"step 1 of postprocessing \(keep_largest\) is of 'bone', classes and regions are",
            id="unknown",
        ),
        pytest.param(
            {"kind": "keep_largest", "of": "air", "becomes": "rim"}, "is of 'air'", id="background"
        ),
        pytest.param(
            {"kind": "keep_largest", "of": "whole", "becomes": "core"},
            r"become 'core', possible are \['air'\]",
            id="nothing would be removed",
        ),
        pytest.param(
            {"kind": "fill_holes", "of": "rim", "becomes": "core"},
            r"become 'core', possible are \['rim'\]",
            id="filled with another class",
        ),
        pytest.param(
            {"kind": "erode", "of": "rim", "becomes": "air"}, "'erode' is none", id="kind"
        ),
        pytest.param(
            {"kind": "remove_small", "of": "rim", "becomes": "air", "volume_ml": 0.0},
            "volume_ml",
            id="no volume",
        ),
    ],
)
def test_steps_must_fit_the_labels(step, message, recipe, manifest_of):
    given_ = {**manifest_of(recipe, LABELS).model_dump(mode="json"), "postprocessing": [step]}
    with pytest.raises(ModelError, match=message):
        parse_manifest(json.dumps(given_), "here")


def test_steps_come_back_from_json_as_they_were():
    steps = (KEEP, SMALL, FILL)
    adapter = TypeAdapter(Steps)
    assert adapter.validate_json(adapter.dump_json(steps)) == steps


# --- in the predictor -----------------------------------------------------------------------------


@pytest.fixture
def model_with(tmp_path, manifest, graph_of):
    """Return what writes a model that keeps the largest component of a class."""

    def write(name):
        step = KeepLargest(of=name, becomes="background")
        path = tmp_path / "post.onnx"
        facts = manifest.model_copy(update={"postprocessing": (step,)})
        path.write_bytes(with_manifest(graph_of(2, 4), facts))
        return path, step

    return write


@pytest.fixture
def path(model_with):
    """A model that keeps the largest component of what is brightest."""
    return model_with("enhancing")[0]


@pytest.fixture
def volume(recipe):
    array = np.random.default_rng(0).uniform(1, 2, (12, 10, 8, 2)).astype(np.float32)
    array[2:4, 2:4, 2:4, 0] = 60
    array[8, 8, 6, 0] = 60
    return Volume(array, Geometry((12, 10, 8), np.diag([-1.0, -1.0, 2.0, 1.0])), recipe.modalities)


def test_a_predictor_does_the_steps_of_its_model(path, volume, labels):
    last = len(labels.classes) - 1
    plain = load_predictor(path, "cpu", postprocess=False)(volume, True)
    found = load_predictor(path, "cpu")(volume, True)
    assert plain.changes == ()
    assert "postprocess" not in plain.seconds
    assert np.count_nonzero(plain.segmentation.array == last) == 9
    expected = plain.segmentation.array.copy()
    expected[8, 8, 6] = 0
    np.testing.assert_array_equal(found.segmentation.array, expected)
    np.testing.assert_array_equal(found.probabilities, plain.probabilities)
    assert [(c.pieces, c.voxels) for c in found.changes] == [(1, 1)]
    assert found.seconds["postprocess"] >= 0


def test_memory_for_components_is_counted(path, volume, monkeypatch):
    monkeypatch.setattr("vol3dseg.inference.allowance.BYTES_PER_VOXEL", 2**40)
    with pytest.raises(MemoryLimitError, match="post-processing takes") as caught:
        load_predictor(path, "cpu", max_memory_mb=2000)(volume)
    assert "give --max-memory" in caught.value.remedy
    load_predictor(path, "cpu", max_memory_mb=2000, postprocess=False)(volume)


def test_what_does_not_fit_is_said_in_our_words(path, volume, monkeypatch):
    def full(*args, **options):
        raise MemoryError

    monkeypatch.setattr(module.load_extra("cc3d", ""), "connected_components", full)
    with pytest.raises(MemoryLimitError, match="components of 12x10x8 voxels do not fit"):
        load_predictor(path, "cpu")(volume)


def test_a_missing_package_is_told_before_work_and_not_missed_without_post_processing(
    path, volume, monkeypatch
):
    monkeypatch.setitem(sys.modules, "cc3d", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vol3dseg\[postprocess\]'"):
        load_predictor(path, "cpu")
    load_predictor(path, "cpu", postprocess=False)(volume)


def test_predict_records_what_it_has_changed_and_goes_on_in_the_same_way(
    vol3dseg, model_with, brats_folder, tmp_path
):
    path, step = model_with("necrotic core")  # brighter than the mean by a little: noise
    shown = vol3dseg("info", path).stdout
    assert "What is done to labels" in shown
    assert "only the largest component of" in shown
    out = tmp_path / "O"
    words = ("predict", path, brats_folder, "-o", out, "--device", "cpu")
    done_ = vol3dseg(*words)
    assert done_.returncode == 0, done_.stderr
    record = json.loads((out / "predictions.json").read_text())
    assert record["postprocessing"] == [step.model_dump()]
    cases = record["cases"].values()
    assert all(case["changes"][0]["what"] == str(step) for case in cases)
    assert sum(case["changes"][0]["voxels"] for case in cases) > 0
    assert f"post-processing: {step}: " in done_.stderr
    refused = vol3dseg(*words, "--resume", "--no-postprocess")
    assert "was made with post-processing: only the largest" in refused.stderr
    assert "now it is none" in refused.stderr
    plain = vol3dseg(*words[:3], "-o", tmp_path / "plain", "--no-postprocess")
    assert plain.returncode == 0, plain.stderr
    record = json.loads((tmp_path / "plain" / "predictions.json").read_text())
    assert record["postprocessing"] == []
    assert record["cases"]["Case_001"]["changes"] == []
