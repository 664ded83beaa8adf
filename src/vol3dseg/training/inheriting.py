"""Start a network from another: what fits is taken, what does not is said layer by layer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import Config
from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.training_facts import Parent
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.schema import differences
from vol3dseg.training.backend import keras
from vol3dseg.training.parents import parent_sha256, read_parent
from vol3dseg.training.sampling import validation_boxes
from vol3dseg.training.training_state import LAST, read_origin

_PATCHES = 8  # that statistics are taken of
_IN, _OUT = -2, -1  # axes of a kernel
_OWN = {"modalities", "patch_size"}  # of a recipe, that a parent may well have otherwise


@dataclass(frozen=True, slots=True)
class _Entries:
    """What the entries along one axis of a layer's weights are, here and in the parent."""

    kind: str
    axis: int
    ours: tuple[str, ...]
    theirs: tuple[str, ...]

    @property
    def places(self) -> tuple[list[int], list[int]]:
        """Where here, and where there, that is which both have by name."""
        both = [name for name in self.ours if name in self.theirs]
        return [self.ours.index(name) for name in both], [self.theirs.index(n) for n in both]

    @property
    def new(self) -> list[str]:
        """Names that the parent does not have."""
        return [name for name in self.ours if name not in self.theirs]


def start_from(
    path: Path,
    model: Any,
    config: Config,
    cases: Sequence[StoredCase],
    progress: Callable[[str], None] = lambda line: None,
) -> Parent:
    """Give a new network the weights of a model where they fit; return what is recorded of it.

    Layers take weights by name: the first convolution those of the modalities that both have, the
    head those of the classes or regions. A layer of another size begins anew; `progress` is told of
    all that does. Batch norms whose statistics an ONNX file does not tell get those of patches of
    `cases`, and go on computing what they did.

    Raises
    ------
    ModelError, RunError
        It is no such model, or nothing of it fits.
    """
    parent = read_parent(path)
    theirs = {layer.name: layer for layer in parent.network.layers}
    entries, anew = _entries(model, parent.manifest, config), {}
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers:
        if why := _take(layer, theirs.get(layer.name), entries.get(layer.name)):
            anew[layer.name] = why
    if len(anew) == len(layers):
        raise ModelError(
            f"no layer of it fits: {next(iter(anew.values()))}",
            where=path,
            expected=f"the network of the config, {config.model.model_dump(mode='json')}",
            remedy="give the config the `model` section of the model; vol3dseg info shows it",
        )
    if parent.folded:
        settle_norms(model, _patches(cases, config))
    progress(f"starts from {path}: {len(layers) - len(anew)} of {len(layers)} layers")
    for line in _in_words(parent.manifest, config, entries, anew):
        progress(f"note: {line}")
    facts = parent.manifest.trained
    return Parent(
        name=parent.name,
        sha256=parent.sha256,
        data_fingerprint=facts[0].data_fingerprint if facts else None,
        anew=tuple(anew),
    )


def require_same_parent(run: Path, path: str | Path | None) -> None:
    """Refuse to go on with a run from another model than it began with; None takes its own."""
    if path is None:
        return
    before = read_origin(run / LAST).parent
    if before is None or before.sha256 != parent_sha256(Path(path)):
        raise RunError(
            f"began with {before.name if before else 'random weights'}, not with {path}",
            where=run,
            remedy="resume it without --from, or train in another folder",
        )


def settle_norms(model: Any, patches: Sequence[NDArray[np.float32]]) -> None:
    """Give batch norms the statistics of (i, j, k, c) patches, and let them compute what they did.

    While training a norm takes the statistics of its batch, so one whose moving statistics are not
    those of its inputs would compute something else from the first step on.
    """
    norms = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    if not norms:
        return
    inputs = keras.Model(model.inputs[0], [norm.input for norm in norms])
    sums = [np.zeros((2, norm.gamma.shape[0])) for norm in norms]
    voxels = np.zeros(len(norms))
    for patch in patches:
        for number, each in enumerate(inputs(patch[None], training=False)):
            values = keras.ops.convert_to_numpy(keras.ops.cast(each, "float32"))
            flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
            sums[number] += flat.sum(axis=0), np.square(flat).sum(axis=0)
            voxels[number] += len(flat)
    for norm, (total, squares), count in zip(norms, sums, voxels, strict=True):
        mean, variance = total / count, squares / count - np.square(total / count)
        scale, shift, before, spread = norm.get_weights()
        slope = scale / np.sqrt(spread + norm.epsilon)
        norm.set_weights(
            [
                slope * np.sqrt(variance + norm.epsilon),
                shift + slope * (mean - before),
                mean,
                variance,
            ]
        )


def _entries(model: Any, parent: Manifest, config: Config) -> dict[str, _Entries]:
    """Return, by its name, of each layer that sees modalities or makes targets what these are."""
    image = model.inputs[0]
    modalities = _Entries(
        "modalities", _IN, config.model_recipe.modalities, parent.recipe.modalities
    )
    targets = _Entries("outputs", _OUT, config.targets, parent.outputs.channels)
    first = (
        layer.name
        for layer in model.layers
        if layer.weights and any(t is image for t in layer._inbound_nodes[0].input_tensors)
    )
    heads = (output._keras_history.operation.name for output in model.outputs)
    return dict.fromkeys(first, modalities) | dict.fromkeys(heads, targets)


def _take(layer: Any, theirs: Any, entries: _Entries | None) -> str:
    """Give a layer what fits of its parent's weights; return why nothing does, or nothing."""
    if theirs is None or len(theirs.weights) != len(layer.weights):
        return "the model has no such layer"
    found = []
    for own, given in zip(layer.get_weights(), theirs.get_weights(), strict=True):
        if entries is None or own.ndim < -entries.axis or given.ndim != own.ndim:
            if own.shape != given.shape:
                return f"{_size(own)} here, {_size(given)} there"
            found.append(given)
            continue
        here, there = entries.places
        ours, of_parent = (np.moveaxis(each, entries.axis, 0) for each in (own, given))
        if ours.shape[1:] != of_parent.shape[1:]:
            return f"{_size(own)} here, {_size(given)} there"
        ours[here] = of_parent[there]
        found.append(own)
    layer.set_weights(found)
    return ""


def _size(weights: NDArray[np.float32]) -> str:
    return " x ".join(map(str, weights.shape))


def _in_words(
    parent: Manifest, config: Config, entries: dict[str, _Entries], anew: dict[str, str]
) -> Iterator[str]:
    """Say what of a network does not come from its parent, and what may not suit it."""
    ours, theirs = (
        recipe.model_dump(mode="json", exclude=_OWN)
        for recipe in (config.model_recipe, parent.recipe)
    )
    if otherwise := differences(theirs, ours):
        yield f"it learned from scans that were prepared otherwise, there and here: {otherwise}"
    for name, each in entries.items():
        if each.new and name not in anew:
            yield f"{name}: the {each.kind} {', '.join(each.new)} begin anew"
    for name, why in anew.items():
        yield f"{name} begins anew: {why}"


def _patches(cases: Sequence[StoredCase], config: Config) -> list[NDArray[np.float32]]:
    """Return patches spread over the cases, half of them with foreground."""
    chosen = cases[:: max(1, -(-2 * len(cases) // _PATCHES))]
    boxes = validation_boxes(chosen, config.recipe.patch_size, 2, seed=0)
    return [chosen[number].read(box)[0] for pair in boxes for number, box in pair]
