"""Export a run: convert its checkpoint, prove that both agree, write one file."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.config import Config, load_config
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import ModelError, ParityError, RunError
from vol3dseg.export.graph import convert
from vol3dseg.export.parity import check_other_sizes, measure_parity
from vol3dseg.export.precision import spell_out_imprecise_norms
from vol3dseg.export.standalone import make_standalone, require_standalone
from vol3dseg.export.standalone_check import check_standalone
from vol3dseg.files import write_bytes
from vol3dseg.inference.manifest import Manifest, Parity, parse_manifest, provenance
from vol3dseg.inference.model_file import with_manifest
from vol3dseg.preprocessing.index import load_index, verify
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.patches import validation_boxes
from vol3dseg.training.results import checkpoint_of

TOLERANCE = 1e-4
_PATCHES = 4


def export_onnx(
    run: Path, output: Path, prepared: Path | None = None, standalone: bool = False
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

    Returns
    -------
    Manifest
        As it stands in the file, parity included.

    Raises
    ------
    RunError
        The run is not finished or has no checkpoint, or its prepared folder is gone.
    ModelError
        The converted graph is not what it should be, or the model cannot be standalone.
    ParityError
        Probabilities of the two differ by more than 1e-4, or the standalone graph gives other
        labels. Nothing is written then.
    """
    config, manifest = _read_run(run)
    if standalone:
        require_standalone(manifest, str(run))
    path, kind = checkpoint_of(run, config)
    if kind != manifest.training.checkpoint:
        raise RunError(
            f"{run}: manifest.json speaks of {manifest.training.checkpoint}.keras, found "
            f"{path.name}; train again"
        )
    model = load_checkpoint(path)
    recipe = manifest.recipe
    graph = convert(model, recipe.patch_size)
    patches = _real_patches(run, config, prepared)
    spelled_out = spell_out_imprecise_norms(graph, patches)
    content = graph.SerializeToString()
    check_other_sizes(content, len(recipe.modalities), recipe.patch_size, manifest.network.divisor)
    agreement = measure_parity(model, content, patches)
    if not agreement.max_abs_difference <= TOLERANCE:
        raise ParityError(
            f"{output}: not written: ONNX and Keras differ by "
            f"{agreement.max_abs_difference:.2g} in probability on {agreement.patches} "
            f"patches, expected at most {TOLERANCE:.0e}; please report this with config.yaml"
        )
    complete = manifest.model_copy(
        update={
            "parity": Parity(
                patches=agreement.patches,
                max_abs_difference=agreement.max_abs_difference,
                label_agreement=agreement.label_agreement,
                tolerance=TOLERANCE,
                norms_spelled_out=spelled_out,
            ),
            "provenance": provenance(
                "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy"
            ),
        }
    )
    file = with_manifest(graph, complete)
    if standalone:
        file = make_standalone(graph, complete).SerializeToString()
        check_standalone(file, content, complete, patches)
    write_bytes(output, file)
    return complete


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


def _real_patches(run: Path, config: Config, prepared: Path | None) -> NDArray[np.float32]:
    """Return (n, i, j, k, c) patches of validation cases; of training cases if there are none."""
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
    names = (split.validation or split.train)[:_PATCHES]
    modalities = config.model_recipe.modalities
    cases = [StoredCase.open(verify(prepared, index.entry(i)), modalities) for i in names]
    size = config.recipe.patch_size
    boxes = validation_boxes(cases, size, _PATCHES, config.training.seed)
    return np.stack([cases[number].read(box)[0] for number, box in boxes])
