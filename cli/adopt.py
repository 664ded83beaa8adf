"""`vol3dseg adopt`: models that other programs have trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vol3dseg.cli.options import PathType, command, config_option, output_option
from vol3dseg.cli.signing_options import report_signature, sign_option, signer_of
from vol3dseg.inference import DEVICES

if TYPE_CHECKING:
    from vol3dseg.model.manifest import Manifest
    from vol3dseg.model.signing_keys import Signer


class FoldsType(click.ParamType[tuple[str, ...]]):
    """Folds by number, as 0,1,2; or all, the one trained on all cases."""

    name = "folds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the folds, each once."""
        if isinstance(value, tuple):
            return value
        folds = tuple(each.strip() for each in str(value).split(","))
        if any(not fold.isdecimal() and fold != "all" for fold in folds):
            self.fail(f"{value!r} are no folds; expected numbers as 0,1,2 or all", param, ctx)
        folds = tuple(fold if fold == "all" else str(int(fold)) for fold in folds)
        if len(set(folds)) < len(folds):
            self.fail(f"{value!r} names a fold twice", param, ctx)
        return folds


_keep_case = click.option(
    "--keep-case/--no-keep-case",
    default=True,
    show_default=True,
    help="Keep a small part of such a scan in the file, for info --replay.",
)
_device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="What the comparison runs on, as in predict.",
)


@click.group(short_help="Turn a model that another program has trained into model.onnx.")
def adopt() -> None:
    """Turn a model that another program has trained into one self-describing ONNX file.

    It then runs as any model does: info, predict, evaluate.
    """


@command("nnunet", short_help="A model of nnU-Net v2; needs no torch.")
@click.argument("model_folder", type=PathType)
@output_option("the ONNX file")
@click.option(
    "--folds",
    type=FoldsType(),
    default=(),
    metavar="0,1,..",
    help="Whose logits are averaged, or all for fold_all.  [default: all that are numbered]",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["final", "best"]),
    default="final",
    show_default=True,
    help="checkpoint_final.pth or checkpoint_best.pth.",
)
@click.option(
    "--configuration",
    help="Which of the plans it is, where neither checkpoint nor folder says.",
)
@click.option(
    "--mirror/--no-mirror",
    default=True,
    show_default=True,
    help="Whether predict averages mirrored views by itself, as nnU-Net does.",
)
@click.option(
    "--verify",
    "verify",
    type=PathType,
    multiple=True,
    metavar="CASE",
    help="Run nnU-Net's own predictor and this model on CASE, as predict takes it; may be given "
    "again. Needs [nnunet].",
)
@click.option(
    "--against",
    type=PathType,
    metavar="FOLDER",
    help="Compare with label maps that nnU-Net has written, of --cases; needs no torch.",
)
@click.option(
    "--cases",
    type=PathType,
    multiple=True,
    metavar="CASE",
    help="The scans that --against is of, as predict takes them; may be given again.",
)
@_keep_case
@click.option(
    "--training-scan",
    type=PathType,
    metavar="FILE",
    help="One of its training scans: predict then warns of scans stored in other axes.",
)
@_device
@sign_option()
def nnunet(
    model_folder: Path,
    output: Path,
    verify: tuple[Path, ...],
    against: Path | None,
    cases: tuple[Path, ...],
    key: Path | None,
    **chosen: Any,
) -> None:
    """Turn MODEL_FOLDER, a model trained by nnU-Net v2, into one ONNX file.

    MODEL_FOLDER is TRAINER__PLANS__CONFIGURATION, with plans.json, dataset.json and fold_0, fold_1,
    ... Everything that nnU-Net does to a scan comes from there: see docs/adopt.md. Checkpoints are
    read by a closed list of types; nothing in them is run.

    With --verify or --against the labels are compared with nnU-Net's own, voxel by voxel. If more
    than 10 in a million differ, nothing is written.
    """
    if verify and (against or cases):
        raise click.UsageError("give --verify, or --against with --cases, not both")
    if bool(against) != bool(cases):
        raise click.UsageError("--against and --cases go together")

    from vol3dseg.export.nnunet.adopting import adopt_nnunet

    signer = signer_of(key)
    manifest = adopt_nnunet(
        model_folder,
        output,
        cases=verify or cases,
        against=against,
        sign=signer,
        progress=click.echo,
        **chosen,
    )
    _report(output, manifest, signer)


@command("keras", short_help="A Keras model that was trained elsewhere.")
@click.argument("model", type=PathType, metavar="MODEL.keras")
@config_option("What the model is: its recipe, labels and targets.", required=True)
@output_option("the ONNX file")
@click.option(
    "--patches",
    type=PathType,
    required=True,
    metavar="PREPARED",
    help="A folder of vol3dseg preprocess; equality is measured on its patches.",
)
@sign_option()
def keras(model: Path, config: str, output: Path, patches: Path, key: Path | None) -> None:
    """Turn a Keras model that was trained elsewhere into one ONNX file.

    It takes (n, i, j, k, modality) arrays of any size and gives logits or probabilities, in the
    order of the classes, or regions, of --config. Needs the extras [train] and [cpu]. If Keras and
    ONNX differ by more than 1e-4 in probability on real patches, nothing is written.
    """
    from vol3dseg.config import load_config
    from vol3dseg.export.keras_file import adopt_keras

    signer = signer_of(key)
    manifest = adopt_keras(model, output, load_config(config), patches, signer, click.echo)
    _report(output, manifest, signer)


@command("monai", short_help="A bundle of MONAI; needs neither MONAI nor torch.")
@click.argument("bundle", type=PathType)
@output_option("the ONNX file")
@click.option(
    "--paint",
    metavar="NAME,NAME,..",
    help="Of independent channels: the order in which they become one label map, widest first; "
    "each must lie within those before it.",
)
@click.option(
    "--verify",
    "cases",
    type=PathType,
    multiple=True,
    metavar="CASE",
    help="Run MONAI and this model on CASE, as predict takes it; may be given again. Needs "
    "[monai].",
)
@_keep_case
@_device
@sign_option()
def monai(bundle: Path, output: Path, paint: str | None, key: Path | None, **chosen: Any) -> None:
    """Turn BUNDLE, a folder with configs and models/model.pt, into one ONNX file.

    Its transforms, network and inferer must be on a closed list: see docs/adopt.md. Expressions in
    its configs are never evaluated, and of its weights nothing is run.

    With --verify the labels are compared with MONAI's own, voxel by voxel. If more than 10 in a
    million differ, nothing is written.
    """
    from vol3dseg.export.monai.adopting_monai import adopt_monai

    order = [name.strip() for name in paint.split(",")] if paint else []
    signer = signer_of(key)
    manifest = adopt_monai(bundle, output, paint=order, sign=signer, progress=click.echo, **chosen)
    _report(output, manifest, signer)


def _report(file: Path, manifest: "Manifest", signer: "Signer | None") -> None:
    from vol3dseg.model.adopted_notes import unproven

    members, size = len(manifest.members), file.stat().st_size / 1e6
    average = f", the average of {members} networks" * (members > 1)
    click.echo(f"{file}: {size:.1f} MB, manifest inside{average}")
    if parity := manifest.parity:
        click.echo(
            f"equals the Keras model: largest difference {parity.max_abs_difference:.1e}, labels "
            f"agree on {parity.label_agreement:.4%} of voxels of {parity.patches} patches"
        )
    if proof := manifest.proof:
        click.echo(f"agrees with {proof.framework}: {proof.in_words}")
    for note in unproven(manifest):
        click.echo(f"note: {note}")
    report_signature(file, signer)


adopt.add_command(nnunet)
adopt.add_command(keras)
adopt.add_command(monai)
