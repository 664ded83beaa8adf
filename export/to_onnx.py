"""Export a trained network: convert it, prove that both agree, write one file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.config import Config
from vol3dseg.datasets.splits import Split, make_split
from vol3dseg.errors import ModelError, ParityError, RunError, some_of
from vol3dseg.export.graph import EXPORTERS, convert
from vol3dseg.export.instance_norm import spell_out_imprecise_norms
from vol3dseg.export.parity import check_other_sizes, measure_parity
from vol3dseg.export.quantise import quantise_proven
from vol3dseg.export.standalone import LEFT_TO_THE_USER, make_standalone, require_standalone
from vol3dseg.export.standalone_check import check_standalone
from vol3dseg.files import require_writable, write_bytes
from vol3dseg.model.manifest import Manifest, Parity, read_run_manifest
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.network_check import require_known_steps, require_sound_network
from vol3dseg.model.provenance import provenance
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.data import foreground_ml, labelled_subjects
from vol3dseg.training.networks.building import probabilities, require_network
from vol3dseg.training.results import describe_model
from vol3dseg.training.sampling import validation_boxes
from vol3dseg.training.training_state import read_origin, read_state

TOLERANCE = 1e-4
_PATCHES = 4
_INT8_PATCHES = 32

Patches = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Trained:
    """A trained network, and the cases it is proven on; without a folder patches are given."""

    model: Any
    manifest: Manifest
    prepared: Path | None
    split: Split
    notes: tuple[str, ...] = ()  # on those cases

    def open(self, names: Sequence[str]) -> Mapping[str, StoredCase]:
        """Open cases of the prepared folder; none if there is no such folder."""
        if self.prepared is None:
            return {}
        index, recipe = load_index(self.prepared), self.manifest.recipe
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


def export_onnx(
    source: Any,
    output: str | Path,
    description: Manifest | Config | None = None,
    *,
    patches: str | Path | Patches | None = None,
    standalone: bool = False,
    int8: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Turn a run, or a network that was trained elsewhere, into one self-describing ONNX file.

    Parameters
    ----------
    source : str, Path or keras.Model
        A finished run of `vol3dseg train`; or a model, (n, i, j, k, c) in, (n, i, j, k, output)
        logits or probabilities out, for any size.
    output : str or Path
    description : Manifest, Config or None
        What a model of your own is: its recipe, labels and outputs. None for a run, which knows.
    patches : str, Path, (n, i, j, k, c) array of float32, or None
        What the proof is done on: the prepared folder that the network learned from, or prepared
        voxels. None takes the folder of the run.
    standalone : bool
        Write one graph from raw intensities to labels instead (`vol3dseg.export.standalone`).
    int8 : bool
        Write a graph that computes in 8-bit integers instead (`vol3dseg.export.quantise`). It needs
        a prepared folder.
    progress : callable
        Called with a line of text now and then.

    Returns
    -------
    Manifest
        As it stands in the file, parity included: always that of the float32 graph to Keras.

    Raises
    ------
    RunError
        The run is not finished or has no checkpoint, or its prepared folder is gone; or it has no
        validation part to judge int8 on.
    ModelError
        The model is not what it is described as, its graph is not what it should be, or it cannot
        be standalone.
    ParityError
        Probabilities of the two differ by more than 1e-4, the standalone graph gives other
        labels, or int8 lowers mean Dice by more than 0.002. Nothing is written then.
    """
    if standalone and int8:
        raise ModelError(
            "a standalone graph is for runtimes that are no faster in int8",
            remedy="leave out --standalone or --int8",
        )
    output = Path(output)
    require_writable(output.parent, [output.name])
    folder = None if patches is None or isinstance(patches, np.ndarray) else Path(patches)
    if isinstance(source, str | Path):
        trained = _of_run(Path(source), folder, standalone)
    else:
        trained = _of_model(source, description, folder, patches is not None)
        if standalone:
            require_standalone(trained.manifest, str(output))
    left = [LEFT_TO_THE_USER] if standalone and trained.manifest.postprocessing else []
    for note in (*trained.notes, *left):
        progress(f"note: {note}")
    split = trained.split
    if not isinstance(patches, np.ndarray):
        # Of training cases if there are no others.
        patches = trained.patches((split.validation or split.train)[:_PATCHES], _PATCHES)
    plain = convert(
        trained.model, trained.manifest.recipe.patch_size, trained.manifest.outputs.kind
    )
    graph, complete = _proven(trained, plain, patches, output)
    content = graph.SerializeToString()
    if int8:
        seen = trained.patches(split.train, _INT8_PATCHES)
        graph, complete = quantise_proven(
            plain, content, complete, seen, trained.open(split.validation), str(output), progress
        )
    file = with_manifest(graph, complete)
    require_sound_network(graph, complete, output)
    if standalone:
        whole = make_standalone(graph, complete)
        require_known_steps(whole, output)
        file = whole.SerializeToString()
        check_standalone(file, content, complete, patches)
    write_bytes(output, file)
    return complete


def _of_run(run: Path, prepared: Path | None, standalone: bool) -> _Trained:
    """Load the network of a finished run, unless it cannot be what is asked for."""
    path = run / "manifest.json"
    if not path.is_file():
        begun = (run / "training.log").exists()
        raise RunError(
            "an unfinished run" if begun else "no run",
            where=run,
            expected="a folder of vol3dseg train with a manifest.json",
            remedy="finish it with vol3dseg train --resume" if begun else "train one first",
        )
    manifest = read_run_manifest(run)
    if standalone:
        require_standalone(manifest, str(run))
    facts = manifest.members[0]
    checkpoint = run / f"{facts.checkpoint}.keras"
    state, origin = read_state(checkpoint), read_origin(checkpoint)
    if state.epochs != facts.epoch:
        raise RunError(
            f"holds epoch {state.epochs}",
            where=checkpoint,
            expected=f"epoch {facts.epoch}, as manifest.json says",
            remedy="write manifest.json anew with vol3dseg train --resume",
        )
    folder = prepared or origin.prepared
    if not folder.is_dir():
        raise RunError(
            f"its prepared folder {folder} is gone",
            where=run,
            expected="the real patches that parity is measured on",
            remedy="name where it is now with --prepared",
        )
    changed = origin.changed(load_index(folder))
    said = f"{folder} does not hold what the run learned from: {some_of(changed)}"
    if changed and prepared is None:
        raise RunError(
            said,
            where=run,
            expected="the same images and labels of the same cases",
            remedy=f"name a folder that holds them, or this one, with --prepared {folder}",
        )
    model = load_checkpoint(checkpoint)
    return _Trained(model, manifest, folder, origin.split, (said,) if changed else ())


def _of_model(
    model: Any, description: Manifest | Config | None, prepared: Path | None, has_patches: bool
) -> _Trained:
    """Take a network as it is described; without a config all labelled cases are training cases."""
    if description is None:
        raise ModelError(
            "a model of your own says nothing of its recipe and labels",
            remedy="give the config or manifest that describes it",
        )
    if isinstance(description, Config):
        recipe, outputs = description.model_recipe, len(description.targets)
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
    return _Trained(model, manifest, prepared, split)


def _proven(
    trained: _Trained, plain: onnx.ModelProto, patches: Patches, output: Path
) -> tuple[onnx.ModelProto, Manifest]:
    """Return the graph that is proven to equal the model, and the manifest with that proof."""
    graph, manifest = onnx.ModelProto(), trained.manifest
    graph.CopyFrom(plain)
    spelled_out = spell_out_imprecise_norms(graph, patches)
    content = graph.SerializeToString()
    check_other_sizes(content, manifest)
    network = probabilities(trained.model, manifest.outputs.kind)
    agreement = measure_parity(network, content, patches, manifest)
    if not agreement.max_abs_difference <= TOLERANCE:
        raise ParityError(
            f"not written: ONNX and Keras differ by {agreement.max_abs_difference:.2g} in "
            f"probability on {agreement.patches} patches",
            where=output,
            expected=f"at most {TOLERANCE:.0e}",
            remedy="please report this with config.yaml",
        )
    parity = Parity(
        tolerance=TOLERANCE,
        norms_spelled_out=spelled_out,
        notes=trained.notes,
        **asdict(agreement),
    )
    packages = ("keras", *EXPORTERS, "onnx", "onnxruntime", "openvino", "numpy")
    facts = {"parity": parity, "provenance": provenance(*packages)}
    return graph, manifest.model_copy(update=facts)
