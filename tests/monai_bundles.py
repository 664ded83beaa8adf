"""Bundles of MONAI for tests: configs as its model zoo has them, and weights by torch's names."""

import copy
import json

import numpy as np

from tests.torch_files import Tensor, ordered, torch_file

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [2, 3],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}


def composed(*transforms):
    return {"_target_": "Compose", "transforms": list(transforms)}


def transform(name, key="image", **arguments):
    return {"_target_": name, "keys": key, **arguments}


INVERT = transform(
    "Invertd", "pred", transform="@preprocessing", orig_keys="image", nearest_interp=False
)
SOFTMAX = transform("Activationsd", "pred", softmax=True)
SIGMOID = transform("Activationsd", "pred", sigmoid=True)
ARGMAX = transform("AsDiscreted", "pred", argmax=True)
THRESHOLD = transform("AsDiscreted", "pred", threshold=0.5)
SPLEEN = {
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "spacing": [1.5, 1.5, "$2.0"],
    "preprocessing": composed(
        transform("LoadImaged"),
        transform("EnsureChannelFirstd"),
        transform("Orientationd", axcodes="RAS"),
        transform("Spacingd", pixdim="@spacing", mode="bilinear"),
        transform("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
        transform("EnsureTyped", device="@device"),
    ),
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 4], "overlap": 0.5},
    "postprocessing": composed(
        SOFTMAX, INVERT, ARGMAX, transform("SaveImaged", "pred", output_dir="@output_dir")
    ),
}


def state_of_unet(outputs=2, seed=0):
    """Weights of `UNET` with as many outputs, as torch lists them."""
    rng, state = np.random.default_rng(seed), {}

    def convolution(name, *shape):
        state[f"{name}.weight"] = rng.normal(0, 0.4, shape).astype(np.float32)
        bias = shape[1] if ".2.0." in name else shape[0]
        state[f"{name}.bias"] = rng.normal(0, 0.4, bias).astype(np.float32)

    def finished(name, count):
        norm = f"{name}.adn.N"
        for part, low in (("weight", 0.5), ("bias", 0), ("running_mean", 0), ("running_var", 0.5)):
            state[f"{norm}.{part}"] = rng.uniform(low, 1.5, count).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(7)
        state[f"{name}.adn.A.weight"] = np.array([0.25], np.float32)

    convolution("model.0.conv.unit0.conv", 2, 1, 3, 3, 3)
    finished("model.0.conv.unit0", 2)
    convolution("model.0.residual", 2, 1, 3, 3, 3)
    convolution("model.1.submodule.conv.unit0.conv", 3, 2, 3, 3, 3)
    finished("model.1.submodule.conv.unit0", 3)
    convolution("model.1.submodule.residual", 3, 2, 1, 1, 1)
    convolution("model.2.0.conv", 5, outputs, 3, 3, 3)
    finished("model.2.0", outputs)
    convolution("model.2.1.conv.unit0.conv", outputs, outputs, 3, 3, 3)
    return state


def weights_file(state):
    """What torch.save writes of a state_dict."""
    kinds = {np.dtype(np.int64): "i8"}
    return torch_file(
        ordered({n: Tensor(a, kind=kinds.get(a.dtype, "f4")) for n, a in state.items()})
    )


def make_bundle(folder, state=None, outputs=("background", "spleen"), **changes):
    """A bundle in a folder; `changes` replace parts of its config."""
    config = {**copy.deepcopy(SPLEEN), **changes}
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    ends = {"inputs": ("image", ["CT"]), "outputs": ("pred", outputs)}
    described = {
        end: {name: {"channel_def": {str(n): each for n, each in enumerate(names)}}}
        for end, (name, names) in ends.items()
    }
    metadata = {"name": "spleen", "version": "0.1", "network_data_format": described}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    content = weights_file(state_of_unet(len(outputs)) if state is None else state)
    (folder / "models" / "model.pt").write_bytes(content)
    return folder
