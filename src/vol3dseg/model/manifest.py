"""The manifest: everything that a deployed model must know about itself.

One JSON document: `RUN/manifest.json` beside the weights, then `metadata_props` of
the ONNX file under the key `vol3dseg.manifest`. Its schema is this module; `version` counts its
changes.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from vol3dseg import __version__
from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.adopted import AdoptedFacts, AxisCodes, Proof
from vol3dseg.model.locating import Locating
from vol3dseg.model.outputs import Outputs
from vol3dseg.model.postprocessing import Steps, step_problems
from vol3dseg.model.provenance import Provenance
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.model.training_facts import TrainingFacts
from vol3dseg.model.validation_scores import ScoresWithout, ValidationScores
from vol3dseg.quality.training_data import TrainingData
from vol3dseg.recipe import ModelRecipe
from vol3dseg.schema import (
    Count,
    Frozen,
    Real,
    Share,
    Side,
    parse_json,
    read_json,
)
from vol3dseg.space.labels import LabelSet

METADATA_KEY = "vol3dseg.manifest"

Step = Annotated[Side, Field(le=4096)]
Reach = Annotated[Count, Field(le=2**20)]


class Network(Frozen):
    """What inference must know of the network.

    Attributes
    ----------
    architecture : mapping
        The `model` section of the config.
    divisor : (3,) tuple of int
        What the sides of an input must be multiples of [voxels].
    receptive_field : (3,) tuple of int
        How far an output can depend on the input along each axis, each way, at most [voxels].
    local : bool
        Whether outputs depend on their receptive field alone (batch norm), so that tiles of any
        size agree; if not (instance norm), tiles should be of the training patch's size.
    """

    architecture: dict[str, Any]
    divisor: tuple[Step, Step, Step]
    receptive_field: tuple[Reach, Reach, Reach]
    local: bool


def _where_from(facts: Any) -> str:
    """Return which kind of facts these are; only those of a foreign framework name one."""
    named = "framework" in facts if isinstance(facts, Mapping) else hasattr(facts, "framework")
    return "adopted" if named else "trained"


Member: TypeAlias = Annotated[
    Annotated[TrainingFacts, Tag("trained")] | Annotated[AdoptedFacts, Tag("adopted")],
    Discriminator(_where_from),
]


class Parity(Frozen):
    """The proof that the ONNX graph equals the Keras model, on real prepared patches.

    Attributes
    ----------
    patches : int
    max_abs_difference : float
        Of probabilities.
    label_agreement : float
        Share of voxels with the same label.
    tolerance : float
        Largest difference that would have been accepted.
    norms_spelled_out : int
        Instance norms that are written as arithmetic, since onnxruntime's kernel was imprecise.
    notes : tuple of str
        What is to be known of the cases that the patches are of.
    """

    patches: Count
    max_abs_difference: Share
    label_agreement: Share
    tolerance: Share
    norms_spelled_out: Count
    notes: tuple[str, ...] = ()


class Quantisation(Frozen):
    """How a graph computes in integers, and what that cost against the float32 graph it came from.

    Attributes
    ----------
    precision : "int8"
    patches : int
        Of training cases, on which the ranges of activations were found.
    provider : str
        Runtime and device on which both graphs were judged.
    cases : int
        Whole prepared volumes of the validation part, through the predictor that is deployed.
    mean_dice : float
        Of the quantised graph on them.
    dice_drop : float
        By how much that is below the float32 graph's; negative if it is above.
    tolerance : float
        Largest drop that would have been accepted.
    label_agreement : float
        Share of voxels with the same label from both graphs.
    """

    precision: Literal["int8"]
    patches: Count
    provider: str
    cases: Count
    mean_dice: Share
    dice_drop: Real
    tolerance: Real
    label_agreement: Share


class Manifest(Frozen):
    """Everything that a deployed model must know about itself.

    Attributes
    ----------
    recipe : Recipe, NnunetRecipe or MonaiRecipe
        Of this model: only its modalities.
    fingerprint : str
        Of the recipe.
    labels : LabelSet
    network : Network
    outputs : Softmax or Sigmoid
        What the network's channels are, and how they become labels.
    tiling : Tiling
    postprocessing : tuple of KeepLargest, RemoveSmall or FillHoles
        What is done to labels on the grid of the scan, in this order.
    members : tuple of TrainingFacts or AdoptedFacts
        One for each network whose outputs are averaged. None of a Keras model trained elsewhere.
    locating : Locating or None
        What the first network of a pair is, which finds where to look; None of a single network.
    training_axes : str or None
        In which its training scans are stored ("LPS"), where the recipe keeps a scan's own axes.
    training_data : TrainingData or None
        What scans are compared with; None where the weights come from no data.
    optional : tuple of str
        Modalities that a scan may lack, since training showed patches without them.
    validation : ValidationScores or None
        None where there was no validation part.
    without : tuple of ScoresWithout
        The same without each choice of the optional modalities, and with none missing; empty where
        there are none, or no validation case lacks nothing.
    parity : Parity or None
        None in a run and in an adopted model. Of the float32 graph, if this one is quantised.
    proof : Proof or None
        That an adopted model agrees with the framework it comes from; None where nobody has looked.
    quantisation : Quantisation or None
        None where all is float32.
    provenance : Provenance
    """

    format: Literal["vol3dseg.manifest"] = "vol3dseg.manifest"
    version: Literal[6] = 6
    recipe: ModelRecipe
    fingerprint: str
    labels: LabelSet
    network: Network
    outputs: Outputs
    tiling: Tiling
    postprocessing: Steps = ()
    members: tuple[Member, ...]
    locating: Locating | None = None
    training_axes: AxisCodes | None = None
    training_data: TrainingData | None = None
    optional: tuple[str, ...] = ()
    validation: ValidationScores | None = None
    without: tuple[ScoresWithout, ...] = ()
    parity: Parity | None = None
    proof: Proof | None = None
    quantisation: Quantisation | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        labels, step, patch = self.labels, self.tiling.step, self.recipe.patch_size
        problems = self.outputs.problems(labels) + step_problems(self.postprocessing, labels)
        if not all(a <= b <= 10 * a for a, b in zip(step, patch, strict=True)):
            problems.append(f"tiles of {patch} cannot be {step} apart: a tenth of them to all")
        problems += self.tiling.member_problems(len(self.members))
        if self.fingerprint != self.recipe.fingerprint:
            problems.append("the recipe does not match its fingerprint")
        if strange := sorted({*self.optional} - {*self.recipe.modalities}):
            problems.append(f"optional modalities {strange} are none of {self.recipe.modalities}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def lacking(self, present: Collection[str]) -> tuple[str, ...]:
        """Return the modalities of the model that a scan with these ones lacks."""
        return tuple(name for name in self.recipe.modalities if name not in present)

    @property
    def trained(self) -> tuple[TrainingFacts, ...]:
        """The members that were trained here."""
        return tuple(facts for facts in self.members if isinstance(facts, TrainingFacts))


def parse_manifest(text: str | bytes, source: str | Path) -> Manifest:
    """Read a manifest from JSON; `source` is the file that a ModelError names."""
    return parse_json(
        Manifest,
        text,
        source,
        ModelError,
        expected=f"a manifest of vol3dseg {__version__}",
        remedy="write it anew with vol3dseg export-onnx",
    )


def read_run_manifest(run: Path) -> Manifest:
    """Read manifest.json of a finished run; a RunError says what is wrong with it."""
    path = run / "manifest.json"
    wanted = f"what vol3dseg train {__version__} writes when it is done"
    remedy = "write it anew with vol3dseg train --resume"
    manifest = read_json(Manifest, path, RunError, expected=wanted, remedy=remedy)
    if not manifest.trained:
        raise RunError("names no network", where=path, expected=wanted, remedy=remedy)
    return manifest
