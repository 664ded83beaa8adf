"""The networks that contestants run: batch-norm U-Nets with random weights, or those of a run.

python -m benchmarks.weights [FOLDER] [--run RUN]
python -m benchmarks.weights FOLDER --small

Writes into FOLDER (`.bench/weights` unless given)

- `model.onnx`, which `vol3dseg predict` takes: recipe and labels of `brats2020`, four modalities,
  four classes, base 16, depth 4; with --run the checkpoint of a run that has batch norm;
- `model.npz`, its weights by their names in Keras, for the twin in `benchmarks.torch_unet`;
- `model-int8.onnx`, the same in 8-bit integers, unless that loses too much; with random weights the
  ranges are those for noise, so it tells the speed of int8 and not what int8 costs;
- `ct.onnx`: one modality, five classes, resampled to 1.5 mm, for a volume of the size of a CT;

or, with --small, `brats-batch`, `brats-instance`, `ct-batch` and `ct-instance`, folders with a
`model.onnx` and a `model-int8.onnx` of base 8 and depth 3.

Needs TensorFlow; whoever uses what is written needs none.
"""

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.config import ModelConfig, load_config
from vol3dseg.errors import ModelError, Vol3dSegError
from vol3dseg.export.graph import convert
from vol3dseg.export.quantise import quantise
from vol3dseg.export.to_onnx import export_onnx
from vol3dseg.files import atomic_path, write_bytes
from vol3dseg.model.manifest import Manifest, Network
from vol3dseg.model.model_file import read_model, with_manifest
from vol3dseg.model.outputs import Softmax
from vol3dseg.model.provenance import provenance
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.model.training_facts import TrainingFacts
from vol3dseg.recipe import Recipe
from vol3dseg.space.labels import Label, LabelSet
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.networks.receptive_field import receptive_field_radius
from vol3dseg.training.networks.unet import build_unet
from vol3dseg.training.results import checkpoint_of

FOLDER = Path(".bench/weights")
_NETWORK = ModelConfig(width=16, depth=4, norm="batch")
_SMALL = {norm: ModelConfig(width=8, depth=3, norm=norm) for norm in ("batch", "instance")}
_SMALL_PATCH = (64, 64, 64)
_OVERLAP = 0.5
_SEED = 0
# What comes up from coarser levels weighs less than in fresh weights, as it does in trained ones;
# otherwise each tile of a sliding window would see another picture than the whole volume shows.
_FROM_BELOW = 0.1
_SIDE, _BLOB = 48, 8  # of the image that weights are balanced on, and of what is in it [voxels]
_SPREAD = 3.0  # standard deviation of logits, which leaves few voxels undecided


def main(folder: Path, run: Path | None) -> None:
    """Write the networks."""
    if run is None:
        config = load_config("brats2020")
        model = random_unet(_NETWORK, len(config.recipe.modalities), len(config.labels.classes))
        write_model(folder / "model.onnx", model, config.recipe, config.labels, _NETWORK)
        write_int8(folder / "model-int8.onnx", folder / "model.onnx")
    else:
        model = _trained(run)
        export_onnx(run, folder / "model.onnx")
        _export_int8(run, folder / "model-int8.onnx")
    write_weights(folder / "model.npz", model)
    recipe, labels = _ct_recipe(), _ct_labels()
    model = random_unet(_NETWORK, 1, len(labels.classes))
    write_model(folder / "ct.onnx", model, recipe, labels, _NETWORK)
    sys.stdout.write(f"model.onnx, model.npz, ct.onnx -> {folder}\n")


def write_small(folder: Path) -> None:
    """Write networks that take little time, of both norms."""
    brats = load_config("brats2020")
    kinds = {"brats": (brats.recipe, brats.labels), "ct": (_ct_recipe(), _ct_labels())}
    for (name, (recipe, labels)), (norm, network) in product(kinds.items(), _SMALL.items()):
        recipe = recipe.model_copy(update={"patch_size": _SMALL_PATCH})
        model = random_unet(network, len(recipe.modalities), len(labels.classes))
        path = folder / f"{name}-{norm}" / "model.onnx"
        write_model(path, model, recipe, labels, network)
        write_int8(path.with_name("model-int8.onnx"), path)


def random_unet(config: ModelConfig, channels: int, classes: int) -> Any:
    """Build a U-Net whose norms do something: with moments and scales other than 0 and 1.

    Parameters
    ----------
    config : ModelConfig
    channels, classes : int
    """
    keras.utils.set_random_seed(_SEED)
    model = build_unet(config, channels, classes)
    rng = np.random.default_rng(_SEED)
    draw = {
        "gamma": lambda shape: rng.uniform(0.7, 1.3, shape),
        "beta": lambda shape: rng.normal(0, 0.2, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.2, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 1.5, shape),
    }
    for weight in model.weights:
        if weight.name in draw:
            weight.assign(draw[weight.name](weight.shape))
        elif weight.path.startswith("up_"):
            weight.assign(_FROM_BELOW * weight.numpy())
    _balance(model, rng)
    return model


def _balance(model: Any, rng: np.random.Generator) -> None:
    """Shift and scale the logits, so that every class is found somewhere.

    In noise, half of the voxels are given logits above 0, for each class.
    """
    image, head = _noise(model.input_shape[-1], rng), model.get_layer("head")
    logits = keras.Model(model.input, head.output).predict(image, verbose=0)
    spread, middle = logits.std(axis=(0, 1, 2, 3)), np.median(logits, axis=(0, 1, 2, 3))
    kernel, _ = head.get_weights()
    head.set_weights([kernel * _SPREAD / spread, -middle * _SPREAD / spread])


def _noise(channels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an (1, i, j, k, c) image of blobs with noise on them."""
    blobs = rng.normal(0, 1, (1, *[_SIDE // _BLOB] * 3, channels))
    for axis in (1, 2, 3):
        blobs = blobs.repeat(_BLOB, axis=axis)
    return (blobs + rng.normal(0, 0.2, blobs.shape)).astype(np.float32)


def write_model(
    path: Path, model: Any, recipe: Recipe, labels: LabelSet, network: ModelConfig
) -> None:
    """Write a network with the manifest that `vol3dseg predict` asks for."""
    manifest = Manifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        labels=labels,
        network=Network(
            architecture=network.model_dump(mode="json"),
            divisor=network.divisor,
            receptive_field=receptive_field_radius(network),
            local=network.local,
        ),
        outputs=Softmax(classes=labels.names),
        tiling=Tiling.of(recipe.patch_size, _OVERLAP),
        members=(_untrained(),),
        provenance=provenance("tensorflow", "keras", "tf2onnx", "onnx", "numpy"),
    )
    write_bytes(path, with_manifest(convert(model, recipe.patch_size), manifest))


def write_int8(path: Path, float32: Path) -> None:
    """Write a network in 8-bit integers, with ranges that noise has in it."""
    model = read_model(float32)
    patches = _noise(len(model.manifest.recipe.modalities), np.random.default_rng(_SEED))
    graph = quantise(onnx.load_model_from_string(model.content), patches)
    write_bytes(path, with_manifest(graph, model.manifest))


def write_weights(path: Path, model: Any) -> None:
    """Write the weights of a Keras model by their names, such as `encoder_0_1_conv/kernel`."""
    weights = {weight.path: weight.numpy() for weight in model.weights}
    with atomic_path(path) as temporary:
        np.savez(temporary, **weights)


def _export_int8(run: Path, path: Path) -> None:
    path.unlink(missing_ok=True)  # of other weights
    try:
        export_onnx(run, path, int8=True)
    except Vol3dSegError as error:
        sys.stdout.write(f"no int8: {error}\n")


def _trained(run: Path) -> Any:
    config = load_config(run / "config.yaml")
    if config.model.norm != "batch":
        raise ModelError(f"{run}: has {config.model.norm} norm; the twin needs a run with batch")
    return load_checkpoint(checkpoint_of(run, config)[0])


def _untrained() -> TrainingFacts:
    return TrainingFacts(
        data_fingerprint="0" * 64,
        cases={"train": 0, "validation": 0, "test": 0},
        checkpoint="last",
        epoch=1,
        epochs=1,
        val_loss=None,
        seed=_SEED,
        loss="none: random weights",
        optimizer="none: random weights",
        batch_size=1,
        micro_batch=1,
    )


def _ct_recipe() -> Recipe:
    return Recipe(
        modalities=("CT",),
        crop="none",
        spacing_mm=(1.5, 1.5, 1.5),
        normalisation={"CT": {"method": "window", "low": -200.0, "high": 300.0}},
        patch_size=(96, 96, 96),
    )


def _ct_labels() -> LabelSet:
    names = ("background", "liver", "spleen", "left kidney", "right kidney")
    classes = (Label(name=name, read=(value,), write=value) for value, name in enumerate(names))
    return LabelSet(classes=tuple(classes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the networks that are compared.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--run", type=Path, help="a finished run of vol3dseg train")
    parser.add_argument("--small", action="store_true", help="those of benchmarks.limits")
    words = parser.parse_args()
    if words.small:
        write_small(words.folder)
    else:
        main(words.folder, words.run)
