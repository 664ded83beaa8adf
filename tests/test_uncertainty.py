"""Entropy and mutual information on the grid of the scan, of every kind of model."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

import vol3dseg
from tests.conftest import make_graph
from tests.test_nnunet_tiling import SHAPES, adopted, image, of_members, result, with_members
from tests.test_two_stages import pair, scan
from vol3dseg.errors import MemoryLimitError
from vol3dseg.inference.allowance import Scan
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.record import CaseRecord, load_record
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.uncertainty import Uncertainty
from vol3dseg.model.ensemble import average
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.outputs import Region, Sigmoid, Softmax
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.reporting.matching import no_label_maps
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

__all__ = ["adopted", "pair", "with_members"]  # fixtures
CLASSES = ("a", "b", "c")
SHAPE = (24, 20, 18)


def shannon(probabilities, axis=-1):
    p = np.asarray(probabilities, dtype=np.float64)
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(axis=axis)


def binary(probabilities, axis=-1):
    return sum(shannon(np.stack([p, 1 - p]), 0) for p in np.moveaxis(probabilities, axis, 0))


def soft(logits):
    found = np.exp(np.asarray(logits, dtype=np.float64) - logits.max(axis=0))
    return found / found.sum(axis=0)


def sigmoid_of(values="probabilities"):
    regions = [Region(name=f"r{n}", members=("edema",), paints="edema") for n in range(3)]
    return Sigmoid(threshold=0.5, regions=regions, values=values)


def measured(outputs, members, channels, labels):
    """What a decision measures of (channel, ...) values."""
    decision = Decision(outputs, labels, Uncertainty(True, members))
    kept = np.empty((len(decision.nothing(False)), *channels.shape[1:]), dtype=np.float32)
    decision.decide(iter(channels), channels.shape[1:], kept)
    return kept


@given(
    seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 3, 80]), sigmoid=st.booleans(),
    logits=st.booleans(), members=st.sampled_from([0, 2, 5]),
)  # fmt: skip
def test_they_are_what_their_formulas_say(labels, seed, scale, sigmoid, logits, members):
    rng = np.random.default_rng(seed)
    values = "logits" if logits else "probabilities"
    outputs = sigmoid_of(values) if sigmoid else Softmax(classes=CLASSES, values=values)
    raw = (scale * rng.normal(size=(members or 1, 3, 40))).astype(np.float32)
    turn = (lambda x: 1 / (1 + np.exp(-x.astype(np.float64)))) if sigmoid else soft
    each = np.stack([turn(x) for x in raw])
    given_ = raw if logits else each.astype(np.float32)
    decides = given_.mean(axis=0)
    channels = np.concatenate([decides, *(given_ if members else [])])
    found = measured(outputs, members, channels, labels)
    entropy = binary if sigmoid else shannon
    np.testing.assert_allclose(
        found[0], entropy(turn(decides) if logits else decides, axis=0), atol=2e-5
    )
    if members:
        apart = np.mean([entropy(p, axis=0) for p in each], axis=0)
        np.testing.assert_allclose(found[1], entropy(each.mean(axis=0), axis=0) - apart, atol=2e-5)
        assert found[1].min() >= 0
        assert found[1].max() <= np.log(members) * (3 if sigmoid else 1) + 1e-5


@pytest.fixture
def average_of(tmp_path, manifest_for, small_unet):
    """Write the average of three networks, and each; returns their files."""

    def write(local=True, copies=None, **recipe):
        facts = manifest_for(1, 4, (16, 16, 16), 2)
        own = facts.recipe.model_copy(update=recipe)
        reach = {"receptive_field": (6, 6, 6), "local": local}
        facts = facts.model_copy(
            update={
                "recipe": own,
                "fingerprint": own.fingerprint,
                "network": facts.network.model_copy(update=reach),
                "tiling": Tiling.of((16, 16, 16), mirrorable=("i",)),
            }
        )
        networks = [small_unet(np.random.default_rng(seed)) for seed in range(3)]
        several = facts.model_copy(update={"members": facts.members * (copies or 3)})
        made = {"all": with_manifest(average(networks), several)}
        made |= {f"{n}": with_manifest(each, facts) for n, each in enumerate(networks)}
        for name, content in made.items():
            (tmp_path / f"{name}.onnx").write_bytes(content)
        return [tmp_path / f"{name}.onnx" for name in made]

    return write


def a_scan(shape=SHAPE, spacing=1.0):
    array = np.random.default_rng(1).normal(0, 1, (*shape, 1)).astype(np.float32)
    return Volume(array, Geometry(shape, np.diag([-spacing, spacing, 1.0, 1.0])), ("m0",))


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("recipe", [{}, {"spacing_mm": (1.3, 1.3, 1.3)}], ids=["", "resampled"])
def test_networks_of_a_graph_are_told_apart_and_the_rest_stays(average_of, local, mirror, recipe):
    def run(path, uncertainty=False):
        load = vol3dseg.load_predictor
        predictor = load(path, device="cpu", mirror=mirror, uncertainty=uncertainty)
        return predictor(a_scan(), keep_probabilities=True)

    together, *paths = average_of(local, **recipe)
    plain, found = run(together), run(together, uncertainty=True)
    each = [run(path).probabilities for path in paths]
    assert not plain.uncertainty
    np.testing.assert_array_equal(found.segmentation.array, plain.segmentation.array)
    np.testing.assert_array_equal(found.probabilities, plain.probabilities)
    np.testing.assert_allclose(
        found.uncertainty["entropy"], shannon(found.probabilities), atol=1e-5
    )
    expected = shannon(np.mean(each, axis=0)) - np.mean([shannon(p) for p in each], axis=0)
    assert expected.max() > 0.05
    np.testing.assert_allclose(found.uncertainty["mutual_information"], expected, atol=1e-5)
    assert vol3dseg.load_predictor(together, uncertainty=True).notes == ()


def test_what_a_graph_does_not_tell_is_said(average_of):
    together, alone, *_ = average_of(copies=2)
    predictor = vol3dseg.load_predictor(together, device="cpu", uncertainty=True)
    assert predictor.notes == (
        "the graph does not tell its 2 networks apart: no mutual information",
    )
    assert list(predictor(a_scan()).uncertainty) == ["entropy"]
    of_one = vol3dseg.load_predictor(alone, device="cpu", uncertainty=True)
    assert of_one.notes == ()
    assert list(of_one(a_scan()).uncertainty) == ["entropy"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("local", [True, False])
def test_networks_side_by_side_come_behind_their_mean(with_members, shape, local):
    manifest, array = with_members(3), image(shape)
    network = manifest.network.model_copy(update={"local": local, "divisor": (1, 1, 1)})
    manifest = manifest.model_copy(update={"network": network})

    def rows(told):
        planner = Planner(manifest, bytes_per_voxel=1, uncertainty=Uncertainty(True, told))
        plan = planner.plan(array.shape[:3], 1e6)
        if not local:
            assert plan.members_apart == 3
        return result(array, manifest, plan, run=of_members(3))

    mean, told = rows(0), rows(3)
    assert len(told) == 4 * len(mean)
    np.testing.assert_array_equal(told[: len(mean)], mean)
    each = told[len(mean) :].reshape(3, *mean.shape)
    np.testing.assert_allclose(each.mean(axis=0), mean, rtol=0.02, atol=0.02)
    assert np.abs(each[0] - each[1]).max() > 0.1


def test_networks_that_are_compared_are_never_averaged_tile_by_tile(with_members):
    shape, manifest = (20, 30, 17), with_members(4)
    plain = Planner(manifest, bytes_per_voxel=1)
    compared = Planner(manifest, bytes_per_voxel=1, uncertainty=Uncertainty(True, 4))
    assert plain.smallest(shape).members_apart == 1
    least = compared.smallest(shape)
    assert least.members_apart == 4
    assert compared.plan(shape, 0.9 * least.memory_mb) is None
    assert least.memory_mb > plain.smallest(shape).memory_mb


def test_regions_have_the_sum_of_their_entropies(model_path, manifest, brats_folder, tmp_path):
    regions = tuple(
        Region(name=name, members=(name,), paints=name) for name in manifest.labels.foreground
    )
    graph = make_graph(2, 3)
    graph.graph.node[1].op_type = "Sigmoid"
    graph.graph.node[1].ClearField("attribute")
    outputs = Sigmoid(threshold=0.5, regions=regions)
    model_path.write_bytes(with_manifest(graph, manifest.model_copy(update={"outputs": outputs})))
    predictor = vol3dseg.load_predictor(model_path, device="cpu", uncertainty=True)
    volume, _ = vol3dseg.read_case(vol3dseg.find_cases(brats_folder)[0], ("flair", "t1"))
    found = predictor(volume, keep_probabilities=True)
    expected = binary(found.probabilities)
    assert expected.max() > np.log(2)
    np.testing.assert_allclose(found.uncertainty["entropy"], expected, atol=1e-5)


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("nothing", ["whole", "empty"])
def test_where_the_second_of_a_pair_did_not_look_it_is_0(pair, bright, nothing):
    predictor = vol3dseg.load_predictor(pair(nothing), device="cpu", uncertainty=True)
    volume = scan(bright)
    found = predictor(volume)
    entropy = found.uncertainty["entropy"]
    assert entropy.shape == volume.geometry.shape
    assert entropy.any() == (bright or nothing == "whole")
    assert (entropy[30:] == 0).all() == (bright or nothing == "empty")
    notes = predictor.notes_on(predictor.prepare(volume, Scan(volume.geometry)))
    said = {
        (True, "whole"): "uncertainty is 0 outside of the box that was looked at",
        (True, "empty"): "uncertainty is 0 outside of the box that was looked at",
        (False, "whole"): "nothing was found where to look: the whole scan was segmented",
        (False, "empty"): "nothing was found where to look: all of it is background, and its "
        "uncertainty 0",
    }
    assert notes == (said[bright, nothing],)


def test_files(vol3dseg, model_path, brats_folder, tmp_path):
    """Written beside label maps, judged by no reference, resumed, and removed with them."""
    out = tmp_path / "O"
    command = ("predict", model_path, brats_folder, "-o", out, "--device", "cpu")
    done = vol3dseg(*command, "--uncertainty", "--probabilities")
    assert done.returncode == 0, done.stderr
    made = load_record(out).cases["Case_001"]
    assert list(made.beside) == ["Case_001_probabilities.nii.gz", "Case_001_entropy.nii.gz"]
    entropy = nib.load(out / "Case_001_entropy.nii.gz")
    assert entropy.get_data_dtype() == np.float32
    shares = nib.load(out / "Case_001_probabilities.nii.gz").get_fdata()
    np.testing.assert_allclose(entropy.get_fdata(), shannon(shares), atol=1e-5)
    np.testing.assert_array_equal(entropy.affine, nib.load(out / made.file).affine)

    judged = vol3dseg("evaluate", out, brats_folder, "-o", tmp_path / "scores")
    assert judged.returncode == 0, judged.stderr
    assert "entropy" not in judged.stdout
    again = vol3dseg(*command, "--uncertainty", "--resume")
    assert "3 of 3 cases are complete" in again.stdout
    (out / "Case_002_entropy.nii.gz").unlink()
    assert "2 of 3 cases" in vol3dseg(*command, "--uncertainty", "--resume").stdout
    assert vol3dseg(*command).returncode == 0
    assert not list(out.glob("*_entropy*"))
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), out / "Case_003_entropy.nii.gz")
    refused = vol3dseg(*command)
    assert refused.returncode != 0
    assert "Case_003_entropy.nii" in refused.stderr


def test_what_is_left_of_a_case_that_failed_is_no_label_map():
    made = {"a": CaseRecord(error="is damaged"), "b": CaseRecord(file="b.nii")}
    assert no_label_maps(made) >= {"a_entropy", "a_mutual_information", "a_probabilities"}
    assert "a_entropy" not in no_label_maps({**made, "a_entropy": CaseRecord(file="x.nii")})


def test_memory_that_is_given_counts_it(model_path):
    """Four bytes for each voxel of the scan, and what each thread adds up in."""
    scan_ = Scan(Geometry((400, 400, 200), np.eye(4)))
    plain, measuring = (
        vol3dseg.load_predictor(model_path, threads=1, max_memory_mb=400, uncertainty=asked)
        for asked in (False, True)
    )
    taken = [predictor._allowance._results_mb(scan_) for predictor in (plain, measuring)]
    each = 4 * 400 * 400 * 200 / 2**20
    assert each < taken[1] - taken[0] < each + 50
    with pytest.raises(MemoryLimitError, match="--max-memory"):
        measuring.require(scan_)
