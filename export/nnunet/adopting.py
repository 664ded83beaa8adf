"""Adopt a trained model of nnU-Net: read it, assemble its manifest, prove it, write one file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import onnx

from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.architecture import architecture_of
from vol3dseg.export.nnunet.checkpoint import Checkpoint, read_checkpoint
from vol3dseg.export.nnunet.model_folder import ModelFolder, Which, find_model
from vol3dseg.export.nnunet.network import write_network
from vol3dseg.export.nnunet.nnunet_labels import read_description
from vol3dseg.export.nnunet.own_run import require_nnunet
from vol3dseg.export.nnunet.plans import Plans, read_plans
from vol3dseg.export.nnunet.plans_recipe import recipe_of
from vol3dseg.export.nnunet.proof import FRAMEWORK, Evidence, prove
from vol3dseg.files import require_writable
from vol3dseg.formats.opening import open_volume
from vol3dseg.inference import Device
from vol3dseg.inference.loading import predictor_of
from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.ensemble import side_by_side
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import ModelFile, with_manifest
from vol3dseg.model.network_check import require_sound_network
from vol3dseg.model.provenance import provenance
from vol3dseg.model.signing_keys import Signer, signer_of, write_model, written_for
from vol3dseg.model.tiling_rule import Axis, Tiling
from vol3dseg.recipe import NnunetRecipe

Tell = Callable[[str], None]
_AXES: tuple[Axis, Axis, Axis] = ("i", "j", "k")
_FOREIGN = (
    "{} is no trainer of nnU-Net's own; where it changes what weights do not show, such as "
    "activations, this is another network: --verify or --against tells"
)
_PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino")


def adopt_nnunet(
    folder: str | Path,
    output: str | Path,
    *,
    folds: Sequence[str | int] = (),
    checkpoint: Which = "final",
    configuration: str | None = None,
    mirror: bool = True,
    cases: Sequence[str | Path] = (),
    against: str | Path | None = None,
    keep_case: bool = True,
    training_scan: str | Path | None = None,
    device: Device = "auto",
    sign: str | Path | Signer | None = None,
    progress: Tell = lambda line: None,
) -> Manifest:
    """Turn a trained model of nnU-Net v2 into one self-describing ONNX file; needs no torch.

    Parameters
    ----------
    folder : str or Path
        TRAINER__PLANS__CONFIGURATION, with plans.json, dataset.json and fold_0; or a folder with
        nothing else of the kind in it.
    output : str or Path
    folds : sequence of str or int
        Whose logits are averaged, once each is blended; none takes all that are numbered, as
        nnU-Net does.
    checkpoint : "final" or "best"
    configuration : str or None
        Where neither the checkpoint nor the folder's name says which of the plans' it is.
    mirror : bool
        Average over mirrored views unless told otherwise when predicting, as nnU-Net does.
    cases : sequence of str or Path
        Scans on which it must give nnU-Net's labels, as `predict` takes them. Without any, nothing
        is proven, and the model says so.
    against : str or Path or None
        Label maps that nnU-Net has written of these cases. None runs nnU-Net on them, which the
        extra [nnunet] brings.
    keep_case : bool
        Keep a small part of one of them in the file, for `vol3dseg info --replay`.
    training_scan : str or Path or None
        One of its training scans, whose axes `predict` then compares others with.
    device : "auto", "cpu", "cuda", "tensorrt" or "openvino"
        What the proof runs on.
    sign : str, Path, Signer or None
        A private key in PEM: its signature is written beside the file, as in `export_onnx`.
    progress : callable
        Called with a line of text now and then.

    Returns
    -------
    Manifest
        As it stands in the file.

    Raises
    ------
    ModelError
        It is no such model, or one that cannot be carried: the message says what of it.
    FileFormatError
        A checkpoint is damaged, or holds what is not on the closed list.
    ParityError
        More labels differ from nnU-Net's than rounding explains. Nothing is written then.
    TrustError
        The model is to be signed by what is no such key, or is locked.
    MissingExtraError
        nnU-Net is to be run and is not installed; or a package that signs is not.

    Examples
    --------
    >>> adopt_nnunet("nnUNetTrainer__nnUNetPlans__3d_fullres", "model.onnx")  # doctest: +SKIP
    """
    output, signer = Path(output), signer_of(sign)
    require_writable(output.parent, [path.name for path in written_for(output, signer)])
    if cases and against is None:
        require_nnunet()
    if against is not None and not cases:
        raise ModelError(
            "label maps are given, and no scans that they are of",
            where=against,
            remedy="give the scans with --cases",
        )
    model = find_model(Path(folder), [str(fold) for fold in folds], checkpoint)
    graph, manifest, plans = _assembled(model, configuration, mirror, progress)
    if training_scan is not None:
        axes = open_volume(Path(training_scan)).geometry(None).axis_codes
        manifest = manifest.model_copy(update={"training_axes": axes})
    require_sound_network(graph, manifest, output)
    replay = None
    if cases:
        predictor = predictor_of(ModelFile.of(with_manifest(graph, manifest), manifest), device)
        given = Evidence(
            [Path(each) for each in cases], None if against is None else Path(against), keep_case
        )
        proof, replay = prove(predictor, given, model, plans, progress)
        manifest = manifest.model_copy(update={"proof": proof})
    write_model(output, with_manifest(graph, manifest, replay), signer)
    return manifest


def _assembled(
    model: ModelFolder, asked: str | None, mirror: bool, tell: Tell
) -> tuple[onnx.ModelProto, Manifest, Plans]:
    """Return the network of all folds, what the file says of itself, and the plans."""
    description = read_description(model.dataset)
    folds = _folds(model, asked)
    first = next(folds)
    opening = first.checkpoint
    plans = read_plans(model.plans, first.configuration, len(description.modalities))
    recipe = recipe_of(plans, description.modalities)
    architecture = architecture_of(plans.network, model.plans).as_trained(opening.state)
    ends = len(description.modalities), len(description.outputs.channels)
    graphs, members = [], []
    for fold in chain([first], folds):
        state, path = fold.checkpoint.state, fold.path
        graphs.append(write_network(architecture, state, *ends, plans.file_axes, path))
        members.append(fold.facts(plans))
        tell(f"fold {fold.name}: {fold.checkpoint.trainer}, {path.name}, epoch {members[-1].epoch}")
    notes = [] if opening.own_trainer else [_FOREIGN.format(opening.trainer)]
    for note in [*notes, *description.notes]:
        tell(f"note: {note}")
    manifest = Manifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        labels=description.labels,
        network=architecture.facts(plans.file_axes),
        outputs=description.outputs,
        tiling=_tiling(plans, recipe, opening.mirror_axes or (), len(graphs), mirror),
        members=tuple(members),
        provenance=provenance(*_PACKAGES),
    )
    graph = side_by_side(graphs) if len(graphs) > 1 else graphs[0]
    return graph, manifest, plans


def _tiling(
    plans: Plans, recipe: NnunetRecipe, mirrored: Sequence[int], folds: int, mirror: bool
) -> Tiling:
    """Return how tiles are laid, where training mirrored these axes of the network."""
    i, j, k = (_AXES[n] for n in plans.file_axes)
    order = i, j, k
    views = tuple(order[axis] for axis in mirrored)
    tiling = Tiling.of_nnunet(recipe.patch_size, mirrorable=views, order=order, members_apart=folds)
    return tiling if mirror else tiling.model_copy(update={"mirror": ()})


@dataclass(frozen=True, slots=True)
class _Fold:
    """One of the networks of a model."""

    name: str
    path: Path
    checkpoint: Checkpoint
    configuration: str

    def facts(self, plans: Plans) -> AdoptedFacts:
        """Return what a manifest says of it."""
        return AdoptedFacts(
            framework=FRAMEWORK,
            dataset=plans.dataset,
            plans=plans.name,
            configuration=plans.configuration,
            trainer=self.checkpoint.trainer,
            fold=self.name,
            checkpoint=self.path.name,
            epoch=self.checkpoint.epoch,
            sha256=self.checkpoint.sha256,
        )


def _folds(model: ModelFolder, asked: str | None) -> Iterator[_Fold]:
    """Read one fold after the other, all of the same configuration."""
    chosen = ""
    for name, path in model.checkpoints.items():
        found = read_checkpoint(path)
        own = _configuration(found, model, asked, path)
        if chosen and own != chosen:
            raise ModelError(
                "is of another configuration than the first fold", where=path, expected=chosen
            )
        chosen = own
        yield _Fold(name, path, found, chosen)


def _configuration(found: Checkpoint, model: ModelFolder, asked: str | None, path: Path) -> str:
    """Return which configuration a checkpoint is of, as it says itself, the folder or the user."""
    said = found.init_args.get("configuration") or model.configuration
    if asked and said and asked != said:
        raise ModelError(
            f"is of the configuration {said}",
            where=path,
            expected=f"{asked}, as asked for",
            remedy="leave out --configuration",
        )
    if not (chosen := str(asked or said or "")):
        raise ModelError(
            "does not say of which configuration it is",
            where=path,
            expected="TRAINER__PLANS__CONFIGURATION as the name of its folder",
            remedy="say it with --configuration",
        )
    return chosen
