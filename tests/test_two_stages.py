"""A pair: one network finds where to look, and the other sees only that box."""

import hashlib
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_graph, make_manifest, small_config
from vol3dseg import formats
from vol3dseg.cli.main import cli
from vol3dseg.errors import ModelError, RunError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.record import load_record
from vol3dseg.inference.where_to_look import on_grid
from vol3dseg.model.locating import LABELS, Found, Locating
from vol3dseg.model.model_file import read_model, with_manifest
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.recipe import Recipe
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

pytest.importorskip("onnxruntime")
SHAPE = (40, 36, 32)
FOUND = Found(margin_mm=4.0, cases=3, missed=0, share=0.1)


@pytest.fixture
def pair(tmp_path, labels):
    """Write a pair of networks for which bright voxels are something; return its file."""
    fine = Recipe(
        modalities=("mr",), normalisation={"method": "zscore", "mask": "all"}, crop="none",
        patch_size=(16, 16, 16),
    )  # fmt: skip
    coarse = fine.model_copy(update={"spacing_mm": (3.0, 3.0, 3.0)})

    def write(nothing="whole", name="pair.onnx", **changes):
        first = with_manifest(make_graph(1, 2), make_manifest(coarse, LABELS))
        first = changes.get("first", first)
        sha256 = changes.get("sha256", hashlib.sha256(first).hexdigest())
        locating = Locating(sha256=sha256, found=FOUND, nothing=nothing)
        manifest = make_manifest(fine, labels)
        if changes.get("known", True):
            manifest = manifest.model_copy(update={"locating": locating})
        path = tmp_path / name
        put = first if changes.get("put", True) else None
        path.write_bytes(with_manifest(make_graph(1, 4), manifest, locator=put))
        return path

    return write


def scan(bright=True, affine=None):
    """A scan with something bright in a corner of it, and a bright speck far away."""
    image = np.random.default_rng(0).normal(100, 2, SHAPE).astype(np.float32)
    if bright:
        image[6:14, 5:12, 4:10] = 300
        image[35, 30, 28] = 300  # which is too small for the coarse grid
    geometry = Geometry(SHAPE, np.diag([-1, -1, 1, 1]) if affine is None else affine)
    return Volume(image[..., None], geometry, ("mr",))


def test_only_the_box_is_segmented(pair):
    predictor = load_predictor(pair(), device="cpu")
    found = predictor(scan())
    alone = replace(read_model(pair()), locator=None)
    assert alone.manifest.locating is not None
    predictor.locator = None
    whole = predictor(scan())
    expected = whole.segmentation.array.copy()
    assert expected[35, 30, 28]
    expected[35, 30, 28] = 0
    np.testing.assert_array_equal(found.segmentation.array, expected)
    assert found.plan.computed < whole.plan.computed / 4
    assert found.segmentation.geometry == whole.segmentation.geometry


def test_axes_and_spacing_of_the_file_do_not_matter(pair):
    turned = np.array([[0, 0, 1.5, 3], [-1.5, 0, 0, 4], [0, -1.5, 0, 9], [0, 0, 0, 1]])
    predictor = load_predictor(pair(), device="cpu")
    found = predictor(scan(affine=turned)).segmentation.array
    assert found[6:14, 5:12, 4:10].all()
    assert np.count_nonzero(found) == 8 * 7 * 6


@pytest.mark.parametrize("nothing", ["whole", "empty"])
@pytest.mark.parametrize("keep", [True, False])
def test_where_nothing_is_found(pair, tmp_path, nothing, keep):
    path = pair(nothing)
    dim = scan(bright=False)
    nifti.write(tmp_path / "one.nii.gz", dim.array[..., 0], dim.geometry)
    import vol3dseg

    options = vol3dseg.PredictOptions(probabilities=keep)
    vol3dseg.predict(path, tmp_path / "one.nii.gz", tmp_path / "out", options)
    case = load_record(tmp_path / "out").cases["one"]
    done = {"whole": "the whole scan was segmented", "empty": "all of it is background"}[nothing]
    assert case.notes == (f"nothing was found where to look: {done}",)
    labels, grid = formats.read_image(tmp_path / "out" / "one.nii.gz")
    assert grid.fits(dim.geometry)
    assert labels.any() == (nothing == "whole")  # noise is bright to a network that looks


def test_a_scan_with_something_has_no_such_note(pair, tmp_path):
    import vol3dseg

    volume = scan()
    nifti.write(tmp_path / "one.nii.gz", volume.array[..., 0], volume.geometry)
    vol3dseg.predict(pair(), tmp_path / "one.nii.gz", tmp_path / "out")
    assert load_record(tmp_path / "out").cases["one"].notes == ()


class TestFiles:
    def test_what_is_written_is_read(self, pair):
        path = pair()
        model = read_model(path)
        assert model.manifest.locating.found == FOUND
        assert model.locator.manifest.labels == LABELS
        assert not any(
            "locator" in t.name for t in onnx.load_from_string(model.content).graph.initializer
        )
        assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_info_says_so(self, pair):
        said = CliRunner().invoke(cli, ["info", str(pair())]).output
        assert "with one that finds where to look" in " ".join(said.split())

    @pytest.mark.parametrize(
        "changes", [{"sha256": "0" * 64}, {"put": False}, {"known": False}], ids=str
    )
    def test_a_pair_that_is_not_what_it_says_is_refused(self, pair, changes):
        with pytest.raises(ModelError, match="carries another network to find where to look"):
            read_model(pair(**changes))

    def test_a_locator_must_be_one(self, pair, recipe, labels):
        other = with_manifest(make_graph(2, 4), make_manifest(recipe, labels))
        with pytest.raises(ModelError, match="find where to look that is none"):
            read_model(pair(first=other))
        with pytest.raises(ModelError, match="find where to look that is none, but a pair"):
            read_model(pair(first=pair(name="inner.onnx").read_bytes()))
        with pytest.raises(ModelError, match="not an ONNX file"):
            read_model(pair(first=b"nothing of the kind"))


@given(st.integers(0, 2**32 - 1))
def test_a_box_is_held_by_its_voxels_on_another_grid(seed):
    rng = np.random.default_rng(seed)
    coarse = Geometry(tuple(rng.integers(3, 9, 3).tolist()), np.diag([*rng.uniform(2, 5, 3), 1]))
    fine = coarse.with_spacing(tuple(rng.uniform(0.5, 1.5, 3).tolist()))
    low = rng.integers(0, np.array(coarse.shape) - 1)
    high = rng.integers(low + 1, np.array(coarse.shape) + 1)
    box = Box(tuple(low.tolist()), tuple(high.tolist()))
    margin = float(rng.uniform(0, 3))
    found = on_grid(box, coarse, fine, margin)
    assert all(0 <= a < b <= n for a, b, n in zip(found.start, found.stop, fine.shape, strict=True))

    def edges(grid, ends):
        """In mm, of the outermost faces."""
        corners = np.array([ends.start, ends.stop]) - 0.5
        return corners * np.diag(grid.affine)[:3] + grid.affine[:3, 3]

    (first, last), (start, stop) = edges(coarse, box), edges(fine, found)
    whole_first, whole_last = edges(fine, Box.whole(fine.shape))
    assert (start <= np.maximum(first - margin, whole_first) + 0.01).all()
    assert (stop >= np.minimum(last + margin, whole_last) - 0.01).all()
    spare = np.array(fine.spacing_mm) + 0.01
    assert (start >= first - margin - spare).all()
    assert (stop <= last + margin + spare).all()


@pytest.mark.train
class TestTraining:
    @pytest.fixture(autouse=True)
    def _needs(self):
        pytest.importorskip("tensorflow")
        pytest.importorskip("matplotlib")

    @pytest.fixture
    def prepared(self, brats_folder, tmp_path, recipe):
        config = small_config(recipe, precision="float32", deterministic=True)
        preprocess(brats_folder, tmp_path / "prepared", config)
        return tmp_path / "prepared"

    def test_from_a_prepared_folder_to_a_pair(self, prepared, brats_folder, tmp_path, monkeypatch):
        import vol3dseg
        from vol3dseg.training import locating_data

        monkeypatch.setattr(locating_data, "_EPOCHS", 2)
        monkeypatch.setattr(locating_data, "_STEPS", 2)
        words = [str(prepared), "-o", str(tmp_path / "locator"), "--locate"]
        done = CliRunner().invoke(cli, ["train", *words])
        assert done.exit_code == 0, done.output
        assert "lies in the box that is found in" in done.output
        vol3dseg.train(prepared, tmp_path / "run")
        words = [str(tmp_path / "run"), "-o", str(tmp_path / "pair.onnx")]
        done = CliRunner().invoke(
            cli, ["export-onnx", *words, "--locator", str(tmp_path / "locator")]
        )
        assert done.exit_code == 0, done.output
        model = read_model(tmp_path / "pair.onnx")
        assert model.manifest.parity is not None
        assert model.locator.manifest.parity is not None
        assert model.locator.manifest.recipe.spacing_mm == (2.0, 2.0, 2.0)
        record = vol3dseg.predict(tmp_path / "pair.onnx", brats_folder, tmp_path / "out")
        assert not any(case.error for case in record.cases.values())
        again = CliRunner().invoke(
            cli, ["train", str(prepared), "-o", str(tmp_path / "locator"), "--locate", "--resume"]
        )
        assert again.exit_code == 0, again.output

    def test_a_run_that_is_no_locator_is_refused(self, prepared, tmp_path):
        import vol3dseg

        vol3dseg.train(prepared, tmp_path / "run")
        with pytest.raises(RunError, match=r"locating.json"):
            vol3dseg.export_onnx(tmp_path / "run", tmp_path / "pair.onnx", locator=tmp_path / "run")
        assert not (tmp_path / "pair.onnx").exists()

    @pytest.mark.parametrize("words", [["--epochs", "3"], ["-c", "a", "-c", "b"]], ids=str)
    def test_what_does_not_go_with_it(self, prepared, tmp_path, words):
        command = ["train", str(prepared), "-o", str(tmp_path / "run"), "--locate", *words]
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 2
        assert "--locate takes one config" in done.output
