"""Export a run: convert its checkpoint, prove that both agree, write one file."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.splits import Split, read_split
from vol3dseg.errors import ModelError, ParityError, RunError
from vol3dseg.export.graph import convert
from vol3dseg.export.parity import check_other_sizes, measure_parity
from vol3dseg.export.precision import spell_out_imprecise_norms
from vol3dseg.export.quantise_check import quantise_proven
from vol3dseg.export.standalone import make_standalone, require_standalone
from vol3dseg.export.standalone_check import check_standalone
from vol3dseg.files import write_bytes
from vol3dseg.model.manifest import Manifest, Parity, parse_manifest
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.provenance import provenance
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.results import checkpoint_of
from vol3dseg.training.sampling import validation_boxes

TOLERANCE = 1e-4
_PATCHES = 4
_INT8_PATCHES = 32


def export_onnx(
    run: Path,
    output: Path,
    prepared: Path | None = None,
    standalone: bool = False,
    int8: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Turn the checkpoint of a run into one self-describing ONNX file.

    Parameters
    ----------
    run : Path
        A finished run of `vol3dseg train`.
    output : Path
    prepared : Path or None
        The folder that the run learned from, if it has moved since; parity is measured on its
        patches.
    standalone : bool
        Write one graph from raw intensities to labels instead (`vol3dseg.export.standalone`).
    int8 : bool
        Write a graph that computes in 8-bit integers instead (`vol3dseg.export.quantise`).
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
        The converted graph is not what it should be, or the model cannot be standalone.
    ParityError
        Probabilities of the two differ by more than 1e-4, the standalone graph gives other
        labels, or int8 lowers mean Dice by more than 0.002. Nothing is written then.
    """
    if standalone and int8:
        raise ModelError(
            "a standalone graph is for runtimes that are no faster in int8; leave --standalone or "
            "--int8 away"
        )
    config, manifest = _read_run(run)
    if standalone:
        require_standalone(manifest, str(run))
    model = load_checkpoint(_checkpoint(run, config, manifest))
    open_cases = partial(_open_cases, run, config, prepared)
    # Of training cases if there are no others.
    cases = open_cases(lambda split: (split.validation or split.train)[:_PATCHES])
    patches = _real_patches(cases, config, _PATCHES)
    plain = convert(model, manifest.recipe.patch_size)
    graph, complete = _proven(model, plain, manifest, patches, output)
    content = graph.SerializeToString()
    if int8:
        training = open_cases(lambda split: _spread(split.train, _INT8_PATCHES))
        seen = _real_patches(training, config, _INT8_PATCHES)
        judged = open_cases(lambda split: split.validation)
        graph, complete = quantise_proven(
            plain, content, complete, seen, judged, str(output), progress
        )
    file = with_manifest(graph, complete)
    if standalone:
        file = make_standalone(graph, complete).SerializeToString()
        check_standalone(file, content, complete, patches)
    write_bytes(output, file)
    return complete


def _checkpoint(run: Path, config: Config, manifest: Manifest) -> Path:
    path, kind = checkpoint_of(run, config)
    if kind != manifest.members[0].checkpoint:
        raise RunError(
            f"{run}: manifest.json speaks of {manifest.members[0].checkpoint}.keras, found "
            f"{path.name}; train again"
        )
    return path


def _proven(
    model: Any,
    plain: onnx.ModelProto,
    manifest: Manifest,
    patches: NDArray[np.float32],
    output: Path,
) -> tuple[onnx.ModelProto, Manifest]:
    """Return the graph that is proven to equal the model, and the manifest with that proof."""
    graph = onnx.ModelProto()
    graph.CopyFrom(plain)
    spelled_out = spell_out_imprecise_norms(graph, patches)
    content = graph.SerializeToString()
    check_other_sizes(content, manifest)
    agreement = measure_parity(model, content, patches, manifest)
    if not agreement.max_abs_difference <= TOLERANCE:
        raise ParityError(
            f"{output}: not written: ONNX and Keras differ by "
            f"{agreement.max_abs_difference:.2g} in probability on {agreement.patches} "
            f"patches, expected at most {TOLERANCE:.0e}; please report this with config.yaml"
        )
    parity = Parity(
        patches=agreement.patches,
        max_abs_difference=agreement.max_abs_difference,
        label_agreement=agreement.label_agreement,
        tolerance=TOLERANCE,
        norms_spelled_out=spelled_out,
    )
    packages = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "openvino", "numpy")
    facts = {"parity": parity, "provenance": provenance(*packages)}
    return graph, manifest.model_copy(update=facts)


def _read_run(run: Path) -> tuple[Config, Manifest]:
    path = run / "manifest.json"
    if not path.is_file():
        found = "an unfinished run; finish it with vol3dseg train --resume"
        missing = "no run; expected a folder made by vol3dseg train"
        raise RunError(f"{run}: {found if (run / 'training.log').exists() else missing}")
    try:
        return load_config(run / "config.yaml"), parse_manifest(path.read_bytes(), str(path))
    except ModelError as error:
        raise RunError(str(error)) from error


def _open_cases(
    run: Path, config: Config, prepared: Path | None, choose: Callable[[Split], Sequence[str]]
) -> Mapping[str, StoredCase]:
    """Open some cases of the prepared folder that the run learned from."""
    if prepared is None:
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        prepared = Path(environment["prepared"])
    if not prepared.is_dir():
        raise RunError(
            f"{run}: its prepared folder {prepared} is gone; parity is measured on real patches, "
            "so name where it is now with --prepared"
        )
    split, index = read_split(run / "split.json"), load_index(prepared)
    config.recipe.require_equal(index.recipe, str(run), str(prepared))
    modalities = config.model_recipe.modalities
    return open_cases(prepared, index, choose(split), modalities)


def _real_patches(
    cases: Mapping[str, StoredCase], config: Config, limit: int
) -> NDArray[np.float32]:
    """Return at most `limit` patches as an (n, i, j, k, c) array, spread over the cases."""
    opened = list(cases.values())
    boxes = validation_boxes(opened, config.recipe.patch_size, limit, config.training.seed)
    return np.stack([opened[number].read(box)[0] for number, box in boxes])


def _spread(names: Sequence[str], limit: int) -> Sequence[str]:
    """Return at most `limit` of the names, from all over the list."""
    return names[:: max(1, -(-len(names) // limit))]
