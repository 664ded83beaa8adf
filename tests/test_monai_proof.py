"""What a bundle is compared with, and that nothing is written where MONAI gives something else.

MONAI is not here: what stands for its results are those of the adopted model itself, of which some
are changed. What MONAI itself gives is compared by `vol3dseg adopt monai --verify`.
"""

from contextlib import contextmanager

import numpy as np
import pytest

from tests.monai_bundles import (
    ARGMAX,
    INVERT,
    SIGMOID,
    SOFTMAX,
    SPLEEN,
    THRESHOLD,
    UNET,
    composed,
    make_bundle,
    transform,
)
from vol3dseg.errors import DatasetError, ModelError, ParityError
from vol3dseg.export.monai import monai_proof
from vol3dseg.export.monai.adopting_monai import adopt_monai
from vol3dseg.export.monai.arguments import Component
from vol3dseg.export.monai.monai_run import OwnModel, OwnResults, has_values, monai_says
from vol3dseg.formats import read_image, write
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.replaying import replay
from vol3dseg.model import replay_case
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

SHAPE = (12, 10, 8)
GRID = Geometry(SHAPE, np.diag([-2.0, -1.2, 3.0, 1.0]))
REGIONS = {
    "network_def": {**UNET, "out_channels": 3},
    "postprocessing": composed(SIGMOID, INVERT, THRESHOLD),
}
NAMES = ("core", "whole", "rim")
PAINT = ("whole", "core", "rim")


@pytest.fixture
def scan(tmp_path):
    image = np.random.default_rng(0).integers(-80, 200, SHAPE).astype(np.int16)
    nifti.write(tmp_path / "scan.nii.gz", image, GRID)
    return tmp_path / "scan.nii.gz"


def logits_of(probabilities, regions):
    """What becomes these (channel, ...) probabilities by a sigmoid, or a softmax."""
    likely = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return np.log(likely / (1 - likely)) if regions else np.log(likely)


def stages(file, scan, regions=False):
    """What MONAI would have written, its channels in order, if it gave what the model gives."""
    predictor = load_predictor(file, "cpu")
    manifest = predictor.manifest
    image, grid = read_image(scan)
    image = image.astype(np.float32).reshape(*grid.shape, 1)
    volume = Volume(image, grid, manifest.recipe.modalities)
    prepared = prepare(volume, manifest.recipe).volume
    back = [PAINT.index(name) for name in NAMES] if regions else [0, 1]
    channels = np.moveaxis(prepared.array, -1, 0)
    sides = manifest.recipe.patch_size
    patch = channels[:, : sides[0], : sides[1], : sides[2]]
    short = [(0, side - have) for side, have in zip(sides, patch.shape[1:], strict=True)]
    patch = np.pad(patch, [(0, 0), *short])
    there = predictor.segment(prepared, prepared.geometry, keep_probabilities=True).probabilities
    found = predictor(volume, keep_probabilities=True)
    home = np.moveaxis(found.probabilities, -1, 0)[back]
    return {
        "image": channels.copy(),
        "patch": patch,
        "patch_logits": predictor.backend(patch[None])[0][back].copy(),
        "logits": logits_of(np.moveaxis(there, -1, 0)[back], regions),
        "values": home.copy(),
        "result": (home >= 0.5) if regions else found.segmentation.array[None].copy(),
    }


@pytest.fixture
def says(monkeypatch, tmp_path):
    """Lets MONAI be installed, and say what it is given."""

    def let(arrays, of_part=None):
        @contextmanager
        def run(own, cases):
            for case, files in cases.items():
                for stage, array in (of_part(*files) if case == "part" else arrays).items():
                    np.save(tmp_path / f"{case}.{stage}.npy", array)
            yield OwnResults(tmp_path)

        monkeypatch.setattr(monai_proof, "monai_says", run)
        monkeypatch.setattr("vol3dseg.export.monai.adopting_monai.require_monai", lambda: None)

    return let


@pytest.fixture
def own(tmp_path, scan):
    """A bundle, and what MONAI says of it."""
    bundle = make_bundle(tmp_path / "b")
    adopt_monai(bundle, tmp_path / "plain.onnx")
    return bundle, stages(tmp_path / "plain.onnx", scan)


def test_agreement_is_proven_and_kept(own, says, scan, tmp_path):
    bundle, arrays = own
    says(arrays)
    proof = adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan], device="cpu").proof
    assert (proof.framework, proof.against, proof.cases) == ("MONAI", "run", 1)
    assert (proof.voxels, proof.differing) == (np.prod(SHAPE), 0)
    assert proof.dice == {"spleen": 1.0}
    assert proof.max_abs_difference < 1e-5
    again = replay(tmp_path / "m.onnx", "cpu")
    assert (again.differing, again.voxels, again.agrees) == (0, np.prod(SHAPE), True)
    assert "MONAI says" in str(again)
    adopt_monai(bundle, tmp_path / "n.onnx", cases=[scan], keep_case=False)
    with pytest.raises(ModelError, match="carries no case"):
        replay(tmp_path / "n.onnx")


def test_a_large_scan_is_kept_in_part(own, says, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(replay_case, "_MOST_NUMBERS", 6**3 + 1)
    bundle, arrays = own
    says(arrays, lambda file: stages(tmp_path / "plain.onnx", file))
    adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan], device="cpu")
    again = replay(tmp_path / "m.onnx", "cpu")
    assert (again.differing, again.voxels) == (0, 6**3)
    assert "MONAI says" in str(again)


def test_a_few_voxels_are_rounding_and_no_more(own, says, scan, tmp_path):
    bundle, arrays = own
    flat = arrays["result"].reshape(-1)
    flat[:3] = 1 - flat[:3]
    says(arrays)
    assert adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan]).proof.differing == 3
    flat[3] = 1 - flat[3]
    with pytest.raises(ParityError, match=r"4 of 960 voxels differ.*expected at most 3"):
        adopt_monai(bundle, tmp_path / "n.onnx", cases=[scan])
    assert not (tmp_path / "n.onnx").exists()


def wrong_image(arrays):
    arrays["image"][0, 1, 1, 1] += 0.01


def other_grid(arrays):
    arrays["image"] = arrays["image"][:, 1:]


def wrong_network(arrays):
    arrays["patch_logits"][1, 2, 2, 2] += 0.1


def wrong_blending(arrays):
    arrays["logits"][:, 2, 2, 2] += np.array([1, -1])


STEPS = {
    "grid": (other_grid, r"the prepared image, of \(16, 8, 12\) voxels and not \(15, 8, 12\)"),
    "image": (wrong_image, "the prepared image, by up to 0.01"),
    "network": (wrong_network, "the network, by up to 0.1 in a logit"),
    "blending": (wrong_blending, r"the blending of tiles, by up to .* in probability"),
    "afterwards": (lambda arrays: None, "the grid of the scan, or .* choice of the"),
}


@pytest.mark.parametrize("step", STEPS)
def test_the_step_is_named_where_they_part(own, says, scan, tmp_path, step):
    bundle, arrays = own
    change, match = STEPS[step]
    change(arrays)
    arrays["result"] = 1 - arrays["result"]
    says(arrays)
    with pytest.raises(ParityError, match=match):
        adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan], device="cpu")
    assert not (tmp_path / "m.onnx").exists()


def test_labels_on_another_grid_are_no_proof(own, says, scan, tmp_path):
    bundle, arrays = own
    arrays["result"] = arrays["result"][:, :, 1:]
    says(arrays)
    with pytest.raises(ParityError, match=r"\(12, 9, 8\) voxels, not those of the scan"):
        adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan])


def test_regions_are_compared_as_they_are_painted(says, scan, tmp_path):
    bundle = make_bundle(tmp_path / "b", outputs=NAMES, **REGIONS)
    adopt_monai(bundle, tmp_path / "plain.onnx", paint=PAINT)
    arrays = stages(tmp_path / "plain.onnx", scan, regions=True)
    says(arrays)
    proof = adopt_monai(bundle, tmp_path / "m.onnx", paint=PAINT, cases=[scan]).proof
    assert (proof.differing, set(proof.dice)) == (
        0,
        {"whole", "core", "rim", "whole only", "core only"},
    )
    assert proof.max_abs_difference < 1e-5
    arrays["result"][[0, 2]] = arrays["result"][[2, 0]]
    says(arrays)
    with pytest.raises(ParityError, match="the grid of the scan"):
        adopt_monai(bundle, tmp_path / "n.onnx", paint=PAINT, cases=[scan])


def test_values_that_are_not_on_the_grid_of_the_scan_are_not_compared(says, scan, tmp_path):
    """Of a bundle that inverts nothing but the largest output."""
    still = {
        "preprocessing": composed(*SPLEEN["preprocessing"]["transforms"][:2]),
        "postprocessing": composed(transform("AsDiscreted", "pred", argmax=True)),
    }
    bundle = make_bundle(tmp_path / "b", **still)
    adopt_monai(bundle, tmp_path / "plain.onnx")
    arrays = stages(tmp_path / "plain.onnx", scan)
    arrays["values"] = arrays["values"][:, 1:]
    says(arrays)
    proof = adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan]).proof
    assert (proof.differing, proof.max_abs_difference) == (0, None)


@pytest.mark.parametrize("active", [True, False])
def test_probabilities_are_compared_whenever_they_are_made(says, scan, tmp_path, active):
    """Here after the way home: what was cropped has all outputs alike."""
    steps = [INVERT, *([SOFTMAX] if active else []), ARGMAX]
    cropped = [*SPLEEN["preprocessing"]["transforms"][:-1], transform("CropForegroundd")]
    changes = {"preprocessing": composed(*cropped), "postprocessing": composed(*steps)}
    bundle = make_bundle(tmp_path / "b", **changes)
    adopt_monai(bundle, tmp_path / "plain.onnx")
    arrays = stages(tmp_path / "plain.onnx", scan)
    if not active:
        arrays["values"] = logits_of(arrays["values"], regions=False)
    arrays["values"][:, :2] = 0.5 if active else 0
    says(arrays)
    proof = adopt_monai(bundle, tmp_path / "m.onnx", cases=[scan]).proof
    assert proof.max_abs_difference < 1e-5
    arrays["values"][:, 5, 5, 5] *= 0.5 if active else -1
    says(arrays)
    proof = adopt_monai(bundle, tmp_path / "n.onnx", cases=[scan]).proof
    assert proof.max_abs_difference > 0.1


def test_what_rounding_leaves_beside_a_crop_is_nothing():
    values = np.zeros((2, 3, 1, 1), np.float32)
    values[:, 0] = [[[3e-17]], [[4e-17]]]
    values[:, 1] = [[[-0.2]], [[-0.1]]]
    assert has_values(values).ravel().tolist() == [False, True, False]


def test_cases_must_be_what_monai_reads_alike(own, says, scan, tmp_path):
    bundle, arrays = own
    says(arrays)
    other = tmp_path / "scan.mha"
    write(other, np.zeros(SHAPE, np.uint8), GRID)
    with pytest.raises(DatasetError, match=r"scan.mha.*expected NIfTI.*convert it"):
        adopt_monai(bundle, tmp_path / "m.onnx", cases=[other])


def test_that_monai_fails_is_said_with_its_last_words(tmp_path):
    model = OwnModel([], [], Component("UNet", {}), {"roi_size": (8, 8, 8)}, {}, (0,))
    with (
        pytest.raises(ModelError, match=r"MONAI failed on it \(.*\); see that the bundle runs"),
        monai_says(model, {"a": [tmp_path / "nothing.nii.gz"]}),
    ):
        pass
