"""`vol3dseg export-onnx`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, output_option


@click.command("export-onnx", short_help="Turn a run into one self-describing ONNX file.")
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
def export_onnx(run: Path, output: Path, prepared: Path | None, standalone: bool) -> None:
    """Turn the checkpoint of RUN into one ONNX file that carries its manifest.

    Needs the [train] extra. The graph is compared with the Keras model on real patches first; if
    they differ by more than 1e-4 in probability, nothing is written. With --standalone the file
    does all that vol3dseg predict does to a scan, but reading it: see docs/standalone.md.
    """
    run_export(run, output, prepared, standalone)


def run_export(
    run: Path, output: Path, prepared: Path | None = None, standalone: bool = False
) -> None:
    """Export in front of the user."""
    from vol3dseg.errors import MissingExtraError

    try:
        from vol3dseg.export.export import export_onnx as export
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "tensorflow", "train") from error

    parity = export(run, output, prepared, standalone).parity
    size = output.stat().st_size / 1e6
    click.echo(f"{output}: {size:.1f} MB, opset 17, manifest inside{', standalone' * standalone}")
    if parity:
        click.echo(
            f"equals the trained model: largest difference {parity.max_abs_difference:.1e}, "
            f"labels agree on {parity.label_agreement:.4%} of voxels of {parity.patches} patches"
        )
