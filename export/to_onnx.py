"""Export a trained network: convert it, prove that both agree, write one file."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from vol3dseg.config import Config
from vol3dseg.errors import ModelError, OutputError, ParityError, RunError
from vol3dseg.export.averaged import of_folds
from vol3dseg.export.graph import EXPORTERS
from vol3dseg.export.instance_norm import spell_out_imprecise_norms
from vol3dseg.export.pair import FirstOfPair, first_of_pair
from vol3dseg.export.parity import check_other_sizes, measure_parity
from vol3dseg.export.quantise import quantise_proven
from vol3dseg.export.standalone import LEFT_TO_THE_USER, make_standalone, require_standalone
from vol3dseg.export.standalone_check import check_standalone
from vol3dseg.export.trained import Patches, Trained, of_model, of_run, require_judged
from vol3dseg.files import require_writable
from vol3dseg.model.locating import Nothing
from vol3dseg.model.manifest import Manifest, Parity
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.network_check import require_known_steps, require_sound_network
from vol3dseg.model.provenance import provenance
from vol3dseg.model.signing_keys import Signer, signer_of, write_model, written_for
from vol3dseg.training.pooled_folds import is_cross_validation
from vol3dseg.written import usable_path

TOLERANCE = 1e-4
_PATCHES = 4
_INT8_PATCHES = 32


def export_onnx(
    source: Any,
    output: str | Path,
    description: Manifest | Config | None = None,
    *,
    patches: str | Path | Patches | None = None,
    standalone: bool = False,
    int8: bool = False,
    locator: str | Path | None = None,
    nothing: Nothing = "whole",
    sign: str | Path | Signer | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Turn a run, or a network that was trained elsewhere, into one self-describing ONNX file.

    Parameters
    ----------
    source : str, Path or keras.Model
        A finished run of `vol3dseg train`; a finished cross-validation, whose folds are averaged;
        or a model, (n, i, j, k, c) in, (n, i, j, k, output) logits or probabilities out, for any
        size.
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
    locator : str, Path or None
        A run of `vol3dseg train --locate`: the file is a pair, of which the first network finds
        where to look. Not with `standalone` or `int8`.
    nothing : "whole" or "empty"
        What a pair does where it finds nothing.
    sign : str, Path, Signer or None
        A private key in PEM: its signature is written beside the file, as `model.onnx.sig`. The
        passphrase of the key is in the environment, as VOL3DSEG_SIGN_PASSPHRASE.
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
    TrustError
        The model is to be signed by what is no such key, or is locked.
    MissingExtraError
        A package that converts, runs or signs it is not installed.
    """
    require_one_kind(standalone, int8)
    if locator is not None and (standalone or int8):
        raise ModelError(
            "a pair is neither standalone nor in int8",
            remedy="leave out the locator, or the other option",
        )
    output = usable_path(output, OutputError)
    signer = signer_of(sign)
    require_writable(output.parent, [path.name for path in written_for(output, signer)])
    folder = None if patches is None or isinstance(patches, np.ndarray) else Path(patches)
    if isinstance(source, str | Path):
        origin = usable_path(source, RunError)
        load = of_folds if is_cross_validation(origin) else of_run
        trained = load(origin, folder, standalone)
    else:
        trained = of_model(source, description, folder, patches is not None)
        if standalone:
            require_standalone(trained.manifest, str(output))
    first = None
    if locator is not None:
        export = partial(export_onnx, progress=progress)
        first = first_of_pair(Path(locator), trained.manifest, nothing, export, progress)
    return write_trained(trained, output, patches, standalone, int8, progress, first, signer)


def require_one_kind(standalone: bool, int8: bool) -> None:
    """Refuse a standalone graph in int8."""
    if standalone and int8:
        raise ModelError(
            "a standalone graph is for runtimes that are no faster in int8",
            remedy="leave out --standalone or --int8",
        )


def write_trained(
    trained: Trained,
    output: Path,
    patches: str | Path | Patches | None,
    standalone: bool,
    int8: bool,
    progress: Callable[[str], None],
    first: FirstOfPair | None = None,
    signer: Signer | None = None,
) -> Manifest:
    """Write the ONNX file of what is loaded, once it is proven; see `export_onnx`."""
    if int8:
        require_judged(trained, output)
    left = [LEFT_TO_THE_USER] if standalone and trained.manifest.postprocessing else []
    for note in (*trained.notes, *left):
        progress(f"note: {note}")
    split = trained.split
    if not isinstance(patches, np.ndarray):
        # Of training cases if there are no others.
        patches = trained.patches((split.validation or split.train)[:_PATCHES], _PATCHES)
    plain = trained.graph()
    graph, complete = _proven(trained, plain, patches, output)
    content = graph.SerializeToString()
    if int8:
        seen = trained.patches(split.train, _INT8_PATCHES)
        graph, complete = quantise_proven(
            plain, content, complete, seen, trained.open(trained.judged), str(output), progress
        )
    require_sound_network(graph, complete, output)
    if first is not None:
        complete = complete.model_copy(update={"locating": first.locating})
    file = with_manifest(graph, complete, locator=first.content if first else None)
    if standalone:
        whole = make_standalone(graph, complete)
        require_known_steps(whole, output)
        file = whole.SerializeToString()
        check_standalone(file, content, complete, patches)
    write_model(output, file, signer)
    return complete


def _proven(
    trained: Trained, plain: onnx.ModelProto, patches: Patches, output: Path
) -> tuple[onnx.ModelProto, Manifest]:
    """Return the graph that is proven to equal the model, and the manifest with that proof."""
    graph, manifest = onnx.ModelProto(), trained.manifest
    graph.CopyFrom(plain)
    spelled_out = spell_out_imprecise_norms(graph, patches)
    content = graph.SerializeToString()
    check_other_sizes(content, manifest)
    agreement = measure_parity(trained.network(), content, patches, manifest)
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
