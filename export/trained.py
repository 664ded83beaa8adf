"""What is exported: a trained run, or a network of one's own, with the cases it is proven on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.config import Config
from vol3dseg.datasets.splits import Split, make_split
from vol3dseg.errors import ModelError
from vol3dseg.export.graph import convert
from vol3dseg.export.standalone import require_standalone
from vol3dseg.model.ensemble import average
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.recipe import ModelRecipe, own_recipe
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.data import foreground_ml, labelled_subjects
from vol3dseg.training.finished_run import read_finished
from vol3dseg.training.networks.building import probabilities, require_network
from vol3dseg.training.results import describe_model
from vol3dseg.training.sampling import validation_boxes
from vol3dseg.training.training_state import MANIFEST

Patches = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network, or several that are averaged, and the cases it is proven on.

    Without a folder patches are given. int8 is judged on `judged`, cases not learned from.
    """

    models: tuple[Any, ...]
    manifest: Manifest
    prepared: Path | None
    split: Split
    judged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # on those cases

    def open(self, names: Sequence[str]) -> Mapping[str, StoredCase]:
        """Open cases of the prepared folder; none if there is no such folder."""
        if self.prepared is None:
            return {}
        index = load_index(self.prepared)
        recipe = own_recipe(self.manifest.recipe, "opening prepared cases")
        recipe.require_equal(
            index.recipe.select(recipe.modalities), "the model", str(self.prepared)
        )
        return open_cases(self.prepared, index, names, recipe.modalities)

    def patches(self, names: Sequence[str], limit: int) -> Patches:
        """Return at most `limit` patches as an (n, i, j, k, c) array, spread over the cases."""
        names = names[:: max(1, -(-len(names) // limit))]
        cases, size = list(self.open(names).values()), self.manifest.recipe.patch_size
        pairs = validation_boxes(cases, size, -(-limit // len(cases)), seed=0)
        boxes = [box for turn in (0, 1) for pair in pairs for box in pair[turn : turn + 1]]
        return np.stack([cases[number].read(box)[0] for number, box in boxes[:limit]])

    def graph(self) -> onnx.ModelProto:
        """Return what the network is in ONNX, instance norms as single nodes."""
        size, head = self.manifest.recipe.patch_size, self.manifest.outputs.kind
        graphs = [convert(model, size, head) for model in self.models]
        return graphs[0] if len(graphs) == 1 else average(graphs)

    def network(self) -> Callable[[Any], Any]:
        """Return the function from images to probabilities, as Keras computes it."""
        runs = [probabilities(model, self.manifest.outputs.kind) for model in self.models]
        return lambda image: sum(run(image) for run in runs) / len(runs)


def of_run(run: Path, prepared: Path | None, standalone: bool) -> Trained:
    """Load the network of a finished run, unless it cannot be what is asked for."""
    if standalone and (run / MANIFEST).is_file():  # before checkpoints are looked at
        require_standalone(read_run_manifest(run), str(run))
    found = read_finished(run)
    manifest = found.manifest
    folder, split = found.prepared_in(prepared), found.origin.split
    changed = found.changed_in(folder)
    if changed and prepared is None:
        raise changed
    notes = (changed.found,) if changed else ()
    models = (load_checkpoint(found.checkpoint),)
    return Trained(models, manifest, folder, split, split.validation, notes)


def of_model(
    model: Any, description: Manifest | Config | None, prepared: Path | None, has_patches: bool
) -> Trained:
    """Take a network as it is described; without a config all labelled cases are training cases."""
    if description is None:
        raise ModelError(
            "a model of your own says nothing of its recipe and labels",
            remedy="give the config or manifest that describes it",
        )
    if isinstance(description, Config):
        recipe: ModelRecipe = description.model_recipe
        outputs = len(description.targets)
    else:
        recipe, outputs = description.recipe, len(description.outputs.channels)
    require_network(model, len(recipe.modalities), outputs, recipe.patch_size)
    split, manifest = Split(train=()), description
    if isinstance(manifest, Config):
        manifest = describe_model(manifest, model)
    if prepared is None and not has_patches:
        raise ModelError(
            "there are no patches to prove it on",
            remedy="give prepared voxels or a prepared folder as `patches`",
        )
    if prepared is not None:
        index = load_index(prepared)
        subjects = labelled_subjects(prepared, index)
        split = Split(train=tuple(subjects))
        if isinstance(description, Config):
            split = make_split(subjects, description.split, foreground_ml(index))
    return Trained((model,), manifest, prepared, split, split.validation)


def require_judged(trained: Trained, output: Path) -> None:
    """Refuse int8 of an average: each case is one that some member has learned from."""
    if len(trained.models) > 1:
        raise ModelError(
            f"not written: int8 is judged on cases that were not learned from, and all cases were "
            f"by one of the {len(trained.models)} folds or another",
            where=output,
            remedy="export the average without --int8, or every fold by itself with --each --int8",
        )
