"""`vol3dseg export-onnx`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, command, output_option
from vol3dseg.cli.signing_options import report_signature, sign_option, signer_of

if TYPE_CHECKING:
    from vol3dseg.model.locating import Nothing
    from vol3dseg.model.manifest import Manifest


@command("export-onnx", short_help="Turn a run into one self-describing ONNX file.")
@click.argument("run", type=PathType)
@output_option("the ONNX file, or with --each the folder of one for every fold,")
@click.option(
    "--prepared",
    type=PathType,
    help="The prepared folder, if it has moved since training; parity is measured on its patches.",
)
@click.option(
    "--standalone",
    is_flag=True,
    help="One graph from raw intensities to labels, for C#, C++, Java or JavaScript.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Convolutions in 8-bit integers, for OpenVINO; refused if mean Dice drops by over 0.002.",
)
@click.option(
    "--locator",
    type=PathType,
    metavar="RUN",
    help="A run of train --locate: one file of both, of which the first finds where to look.",
)
@click.option(
    "--nothing",
    type=click.Choice(["whole", "empty"]),
    default="whole",
    show_default=True,
    help="With --locator, where it finds nothing: segment the whole scan, or none of it.",
)
@click.option(
    "--each",
    is_flag=True,
    help="Of a cross-validation, every fold by itself: fold-1.onnx, fold-2.onnx, ...",
)
@sign_option()
def export_onnx(
    run: Path,
    output: Path,
    prepared: Path | None = None,
    standalone: bool = False,
    int8: bool = False,
    each: bool = False,
    locator: Path | None = None,
    nothing: "Nothing" = "whole",
    key: Path | None = None,
) -> None:
    """Turn the checkpoint of RUN into one ONNX file that carries its manifest.

    RUN may be a folder of vol3dseg cross-validate as well: then the file averages all folds, or
    with --each there is one for every fold.

    Needs the extras [train] and [cpu]. The graph is compared with the Keras model on real patches
    first; if they differ by more than 1e-4 in probability, nothing is written. With --standalone
    the file does all that vol3dseg predict does to a scan, but reading it: see docs/standalone.md.
    With --int8 it is quantised on training cases and judged on the validation part: see
    docs/precision.md. With --locator it is a pair: see docs/training.md. With --sign
    whoever has the public key can tell that it comes from you: see docs/security.md.
    """
    from vol3dseg.export.each_fold import export_folds
    from vol3dseg.export.to_onnx import export_onnx as export

    if locator is not None and (each or standalone or int8):
        raise click.UsageError("--locator does not go with --each, --standalone or --int8")
    signer = signer_of(key)
    if each:
        made = export_folds(
            run, output, prepared=prepared, standalone=standalone, int8=int8, signer=signer,
            progress=click.echo,
        )  # fmt: skip
    else:
        manifest = export(
            run, output, patches=prepared, standalone=standalone, int8=int8,
            locator=locator, nothing=nothing, sign=signer, progress=click.echo,
        )  # fmt: skip
        made = {output: manifest}
    for file, manifest in made.items():
        _report(file, manifest, standalone)
        report_signature(file, signer)


def _report(file: Path, manifest: "Manifest", standalone: bool) -> None:
    from vol3dseg.recipe.graph_values import OPSET

    parity, cost, members = manifest.parity, manifest.quantisation, len(manifest.members)
    size, kind = file.stat().st_size / 1e6, ", standalone" * standalone + ", int8" * bool(cost)
    kind += f", the average of {members} networks" * (members > 1)
    click.echo(f"{file}: {size:.1f} MB, opset {OPSET}, manifest inside{kind}")
    if parity:
        what = "its float32 graph equals" if cost else "equals"
        models = "the mean of the trained models" if members > 1 else "the trained model"
        click.echo(
            f"{what} {models}: largest difference {parity.max_abs_difference:.1e}, "
            f"labels agree on {parity.label_agreement:.4%} of voxels of {parity.patches} patches"
        )
    if cost:
        click.echo(
            f"int8: mean Dice {cost.mean_dice:.4f} on {cost.cases} validation cases, "
            f"{-cost.dice_drop:+.4f} against float32; labels agree on {cost.label_agreement:.2%} "
            f"of voxels ({cost.provider})"
        )
