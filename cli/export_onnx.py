"""`vol3dseg export-onnx`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, command, output_option


@command("export-onnx", short_help="Turn a run into one self-describing ONNX file.")
@click.argument("run", type=PathType)
@output_option("the ONNX file")
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
def export_onnx(
    run: Path,
    output: Path,
    prepared: Path | None = None,
    standalone: bool = False,
    int8: bool = False,
) -> None:
    """Turn the checkpoint of RUN into one ONNX file that carries its manifest.

    Needs the extras [train] and [cpu]. The graph is compared with the Keras model on real patches
    first; if they differ by more than 1e-4 in probability, nothing is written. With --standalone
    the file does all that vol3dseg predict does to a scan, but reading it: see docs/standalone.md.
    With --int8 it is quantised on training cases and judged on the validation part: see
    docs/precision.md.
    """
    from vol3dseg.export.to_onnx import export_onnx as export
    from vol3dseg.recipe.graph_values import OPSET

    manifest = export(
        run, output, patches=prepared, standalone=standalone, int8=int8, progress=click.echo
    )
    size, kind = output.stat().st_size / 1e6, ", standalone" * standalone + ", int8" * int8
    click.echo(f"{output}: {size:.1f} MB, opset {OPSET}, manifest inside{kind}")
    parity, cost = manifest.parity, manifest.quantisation
    if parity:
        what = "its float32 graph equals" if cost else "equals"
        click.echo(
            f"{what} the trained model: largest difference {parity.max_abs_difference:.1e}, "
            f"labels agree on {parity.label_agreement:.4%} of voxels of {parity.patches} patches"
        )
    if cost:
        click.echo(
            f"int8: mean Dice {cost.mean_dice:.4f} on {cost.cases} validation cases, "
            f"{-cost.dice_drop:+.4f} against float32; labels agree on {cost.label_agreement:.2%} "
            f"of voxels ({cost.provider})"
        )
