"""A bundle of MONAI in, one model.onnx out: without torch, and refused by name in one line.

Numbers that MONAI 1.6.1 and torch 2.13 gave are said with their test; that whole bundles give
MONAI's labels is shown by `vol3dseg adopt monai --verify`, where these are installed.
"""

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
    state_of_unet,
    transform,
)
from tests.torch_files import Call, torch_file
from vol3dseg.errors import FileFormatError, ModelError, Vol3dSegError
from vol3dseg.export.monai.adopting_monai import adopt_monai
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.model_file import read_model
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume


def preprocessing(*transforms):
    return composed(transform("LoadImaged"), transform("EnsureChannelFirstd"), *transforms)


def test_a_bundle_of_the_zoo_becomes_one_file(vol3dseg, tmp_path):
    bundle, file = make_bundle(tmp_path / "b"), tmp_path / "model.onnx"
    done = vol3dseg("adopt", "monai", bundle, "-o", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "never compared with those of MONAI" in done.stdout
    manifest = read_model(file).manifest
    assert [step.step for step in manifest.recipe.steps] == [
        "orientation",
        "spacing",
        "scale_range",
    ]
    assert manifest.recipe.spacing_mm == (1.5, 1.5, 2.0)
    assert manifest.labels.names == ("background", "spleen")
    assert (manifest.outputs.values, manifest.outputs.brought) == ("logits", "probabilities")
    assert (manifest.tiling.step, manifest.tiling.floor) == ((4, 4, 2), 1.0)
    assert manifest.network.divisor == (2, 2, 2)
    page = vol3dseg("info", file).stdout
    assert "step 2" in page
    assert "spacing 1.5 x 1.5 x 2 mm" in page


def test_probabilities_lie_on_the_grid_of_the_scan(tmp_path):
    adopt_monai(make_bundle(tmp_path / "b"), tmp_path / "model.onnx")
    predictor = load_predictor(tmp_path / "model.onnx", device="cpu")
    rng = np.random.default_rng(0)
    scan = rng.normal(50, 60, (9, 11, 7, 1)).astype(np.float32)
    found = predictor(Volume(scan, Geometry((9, 11, 7), np.diag([-2, 1.2, 3, 1])), ("CT",)), True)
    assert found.probabilities.shape == (9, 11, 7, 2)
    assert np.allclose(found.probabilities.sum(axis=-1), 1, atol=1e-5)
    assert np.array_equal(found.segmentation.array, found.probabilities.argmax(axis=-1))


def test_regions_are_painted_from_the_widest(tmp_path):
    names = ("core", "whole", "rim")
    changes = {
        "network_def": {**UNET, "out_channels": 3},
        "postprocessing": composed(SIGMOID, INVERT, THRESHOLD),
    }
    bundle = make_bundle(tmp_path / "b", outputs=names, **changes)
    with pytest.raises(
        ModelError, match=r"independent: core, whole, rim.*--paint 'core,whole,rim'"
    ):
        adopt_monai(bundle, tmp_path / "m.onnx")
    plain = make_bundle(tmp_path / "c", outputs=names, network_def=changes["network_def"])
    made = adopt_monai(bundle, tmp_path / "m.onnx", paint=["whole", "core", "rim"])
    assert made.outputs.channels == ("whole", "core", "rim")
    assert made.labels.names == ("background", "whole only", "core only", "rim")
    assert made.labels.regions == {
        "whole": ("whole only", "core only", "rim"),
        "core": ("core only", "rim"),
    }
    adopt_monai(plain, tmp_path / "n.onnx")
    patch = np.random.default_rng(1).normal(size=(1, 1, 8, 8, 4)).astype(np.float32)
    painted, stored = (
        load_predictor(tmp_path / name, device="cpu").backend(patch)
        for name in ("m.onnx", "n.onnx")
    )
    assert np.allclose(painted, stored[:, [1, 0, 2]], atol=1e-6)


EXPRESSION = "$[x for x in ().__class__.__bases__]"
REFUSED = {
    "transform": (
        {"preprocessing": preprocessing(transform("RandFlipd"))},
        "preprocessing has 'RandFlipd'; expected transforms of a closed list",
    ),
    "expression": (
        {"preprocessing": preprocessing(transform("Spacingd", pixdim=EXPRESSION))},
        r"pixdim of Spacingd is the expression '\$\[x for x in .*not evaluated",
    ),
    "another file": (
        {"preprocessing": preprocessing(transform("Spacingd", pixdim="%other.json#pixdim"))},
        "which lies in another file",
    ),
    "nowhere": (
        {"preprocessing": preprocessing(transform("Spacingd", pixdim="@nothing"))},
        "refers to '@nothing', which is not there",
    ),
    "circle": (
        {"a": "@b", "b": "@a", "preprocessing": preprocessing(transform("Spacingd", pixdim="@a"))},
        "references run in a circle",
    ),
    "unknown argument": (
        {"preprocessing": preprocessing(transform("Spacingd", pixdim=[1, 1, 1], max_pixdim=2))},
        "Spacingd has 'max_pixdim'",
    ),
    "nearest image": (
        {"preprocessing": preprocessing(transform("Spacingd", pixdim=[1, 1, 1], mode="nearest"))},
        "Spacingd cannot be carried",
    ),
    "other axes": (
        {"preprocessing": preprocessing(transform("Orientationd", axcodes="LPS"))},
        "Orientationd cannot be carried",
    ),
    "crop first": (
        {
            "preprocessing": preprocessing(
                transform("CropForegroundd", source_key="image"),
                transform("Spacingd", pixdim=[1, 1, 1]),
            )
        },
        "spacing comes after the crop",
    ),
    "no range": (
        {"preprocessing": preprocessing(transform("ScaleIntensityRanged", a_min=1, a_max=1))},
        "ScaleIntensityRanged cannot be carried",
    ),
    "attention": (
        {"network_def": {"_target_": "SwinUNETR", "in_channels": 1}},
        "network_def is 'SwinUNETR'; expected UNet, BasicUNet, DynUNet or SegResNet",
    ),
    "activation": ({"network_def": {**UNET, "act": "mish"}}, "UNet cannot be carried"),
    "argument of network": ({"network_def": {**UNET, "dilation": 2}}, "UNet has 'dilation'"),
    "channels": ({"network_def": {**UNET, "out_channels": 3}}, "has 1 and 3 channels; expected 1"),
    "inferer": ({"inferer": {"_target_": "SimpleInferer"}}, "its inferer is 'SimpleInferer'"),
    "roi": (
        {"inferer": {"_target_": "SlidingWindowInferer", "roi_size": [7, 8, 8]}},
        r"roi_size of its inferer is \(7, 8, 8\); expected multiples of \(2, 2, 2\)",
    ),
    "padding": (
        {"inferer": {**SPLEEN["inferer"], "padding_mode": "reflect"}},
        "SlidingWindowInferer cannot be carried",
    ),
    "no way home": ({"postprocessing": composed(SOFTMAX, ARGMAX)}, "has no Invertd"),
    "nearest home": (
        {"postprocessing": composed(SOFTMAX, {**INVERT, "nearest_interp": True}, ARGMAX)},
        "Invertd takes the nearest voxel",
    ),
    "labels home": ({"postprocessing": composed(SOFTMAX, ARGMAX, INVERT)}, "takes the near"),
    "inverse of another": (
        {"postprocessing": composed(SOFTMAX, {**INVERT, "transform": "@other"}, ARGMAX)},
        "Invertd inverts something else",
    ),
    "no labels": ({"postprocessing": composed(SOFTMAX, INVERT)}, "makes no labels"),
    "odd labels": ({"postprocessing": composed(SIGMOID, INVERT, ARGMAX)}, "no labels that are kno"),
    "largest component": (
        {"postprocessing": composed(transform("KeepLargestConnectedComponentd", "pred"))},
        "postprocessing has 'KeepLargestConnectedComponentd'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_carried_is_named(tmp_path, case):
    changes, match = REFUSED[case]
    bundle = make_bundle(tmp_path / "b", **changes)
    with pytest.raises(ModelError, match=match) as refused:
        adopt_monai(bundle, tmp_path / "m.onnx")
    assert str(refused.value).startswith(str(bundle / "configs" / "inference.json"))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "m.onnx").exists()


def without(name):
    return {key: value for key, value in state_of_unet().items() if key != name}


@pytest.mark.parametrize(
    ("state", "match"),
    [
        (without("model.0.residual.bias"), "no weights 'model.0.residual.bias'"),
        (state_of_unet() | {"extra": np.ones(2, np.float32)}, "weights of no layer: 'extra'"),
        (state_of_unet(3), r"its weights 'model.2.0.conv.weight' are \[5, 3, 3, 3, 3\]"),
        (
            state_of_unet() | {"model.2.0.conv.bias": np.full(2, np.nan, np.float32)},
            "not finite",
        ),
    ],
)
def test_weights_must_be_those_of_the_network(tmp_path, state, match):
    with pytest.raises(ModelError, match=match):
        adopt_monai(make_bundle(tmp_path / "b", state), tmp_path / "m.onnx")


@pytest.mark.hostile
def test_nothing_in_weights_is_run(tmp_path):
    bundle, trap = make_bundle(tmp_path / "b"), tmp_path / "trap"
    evil = torch_file({"a": Call("os.system", (f"touch {trap}",))})
    (bundle / "models" / "model.pt").write_bytes(evil)
    with pytest.raises(FileFormatError, match=r"asks for 'os.system', which is not run"):
        adopt_monai(bundle, tmp_path / "m.onnx")
    assert not trap.exists()


@pytest.mark.hostile
def test_scripts_and_other_folders_are_no_bundles(tmp_path):
    bundle = make_bundle(tmp_path / "b")
    (bundle / "models" / "model.pt").rename(bundle / "models" / "model.ts")
    with pytest.raises(ModelError, match=r"has model.ts, which is code"):
        adopt_monai(bundle, tmp_path / "m.onnx")
    with pytest.raises(Vol3dSegError, match=r"has no configs/inference.json"):
        adopt_monai(tmp_path, tmp_path / "m.onnx")
