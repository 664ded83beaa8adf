"""The manifest: everything that a deployed model must know about itself.

One JSON document: `RUN/manifest.json` beside the weights, then `metadata_props` of
the ONNX file under the key `vol3dseg.manifest`. Its schema is this module; `version` counts its
changes.
"""

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from vol3dseg import __version__
from vol3dseg.errors import ModelError
from vol3dseg.model.quantisation import Quantisation
from vol3dseg.preprocessing.recipe import Recipe
from vol3dseg.quality.training_data import TrainingData
from vol3dseg.schema import Frozen
from vol3dseg.space.labels import LabelSet

METADATA_KEY = "vol3dseg.manifest"


class Network(Frozen):
    """What inference must know of the network.

    Attributes
    ----------
    architecture : mapping
        The `model` section of the config.
    divisor : int
        What every side of an input must be a multiple of [voxels].
    receptive_field : int
        How far an output can depend on the input, each way, at most [voxels].
    local : bool
        Whether outputs depend on their receptive field alone (batch norm), so that tiles of any
        size agree; if not (instance norm), tiles should be of the training patch's size.
    """

    architecture: dict[str, Any]
    divisor: int
    receptive_field: int
    local: bool


class TrainingFacts(Frozen):
    """Where the weights come from.

    Attributes
    ----------
    data_fingerprint : str
        SHA-256 over names and contents of the prepared training cases.
    cases : mapping from part to number of cases
    checkpoint : "best" or "last"
        The epoch of the lowest `val_loss`, or the last one (no ModelCheckpoint in the config).
    epoch : int
        Of the checkpoint, counted from 1.
    epochs : int
        That were trained.
    val_loss : float or None
        Of the checkpoint, on the fixed list of validation patches.
    seed : int
    loss, optimizer : str
    batch_size : int
        Patches between two updates of the weights.
    micro_batch : int
        Patches that went through the network at once, whose gradients were added up.
    """

    data_fingerprint: str
    cases: dict[str, int]
    checkpoint: Literal["best", "last"]
    epoch: int
    epochs: int
    val_loss: float | None
    seed: int
    loss: str
    optimizer: str
    batch_size: int
    micro_batch: int


class ValidationScores(Frozen):
    """Whole-volume scores on the validation part, through the predictor that is deployed.

    Attributes
    ----------
    cases : int
    dice : mapping from class or region to mean Dice, None where no case has it
    mean_dice : float or None
        Mean over foreground classes.
    """

    cases: int
    dice: dict[str, float | None]
    mean_dice: float | None


class Parity(Frozen):
    """The proof that the ONNX graph equals the Keras model, on real prepared patches.

    Attributes
    ----------
    patches : int
    max_abs_difference : float
        Of probabilities.
    label_agreement : float
        Share of voxels with the same most probable class.
    tolerance : float
        Largest difference that would have been accepted.
    norms_spelled_out : int
        Instance norms that are written as arithmetic, since onnxruntime's kernel was imprecise.
    """

    patches: int
    max_abs_difference: float
    label_agreement: float
    tolerance: float
    norms_spelled_out: int


class Provenance(Frozen):
    """Who made it, with what, when."""

    created: str
    versions: dict[str, str]
    git_revision: str | None


class Manifest(Frozen):
    """Everything that a deployed model must know about itself.

    Attributes
    ----------
    recipe : Recipe
        Of this model: only its modalities.
    labels : LabelSet
    network : Network
    overlap : float
        Share by which neighbouring tiles overlap, 0 to below 1.
    training : TrainingFacts
    training_data : TrainingData or None
        What scans are compared with; None where the weights come from no data.
    validation : ValidationScores or None
        None where there was no validation part.
    parity : Parity or None
        None in a run; always there in an ONNX file. Of the float32 graph, if this one is quantised.
    quantisation : Quantisation or None
        None where all is float32.
    provenance : Provenance
    """

    format: Literal["vol3dseg.manifest"] = "vol3dseg.manifest"
    version: Literal[3] = 3
    recipe: Recipe
    fingerprint: str
    labels: LabelSet
    network: Network
    overlap: float
    training: TrainingFacts
    training_data: TrainingData | None = None
    validation: ValidationScores | None = None
    parity: Parity | None = None
    quantisation: Quantisation | None = None
    provenance: Provenance


def parse_manifest(text: str | bytes, source: str) -> Manifest:
    """Read a manifest from JSON.

    Parameters
    ----------
    text : str or bytes
    source : str
        The file it comes from, for the message.

    Raises
    ------
    ModelError
        It is damaged, of another version, or its fingerprint is not its recipe's.
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise ModelError(
            f"{source}: damaged manifest, or one of another version of vol3dseg ({place}: "
            f"{first['msg']}); with vol3dseg {__version__}, a model's is written anew by "
            "vol3dseg export-onnx, a finished run's by vol3dseg train --resume"
        ) from error
    if manifest.fingerprint != manifest.recipe.fingerprint:
        raise ModelError(
            f"{source}: the manifest's recipe does not match its fingerprint; export it again"
        )
    return manifest


def provenance(*packages: str) -> Provenance:
    """Return the versions of these packages that are installed, the date and the revision."""
    versions = {"vol3dseg": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions,
        git_revision=_git_revision(),
    )


def _git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from, if it runs from one."""
    here = Path(__file__)
    try:
        # An environment may lie inside a checkout of something else: does git know this file?
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "rev-parse", "HEAD").strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
