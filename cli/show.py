"""`vol3dseg show`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, config_option, output_option


@click.command(short_help="Draw a segmentation over its image.")
@click.argument("image", type=PathType)
@click.argument("seg", type=PathType)
@click.argument("reference", type=PathType, required=False)
@output_option("the picture (.png)")
@config_option(
    "Where label names come from.  [default: predictions.json beside SEG, dataset.json of its data "
    "set, else values]"
)
@click.option(
    "--series", help="Which DICOM series of the folder IMAGE: UID, number or description (T1*)."
)
@click.option("--channel", type=click.IntRange(min=0), help="Which volume of a 4-D IMAGE, from 0.")
def show(
    image: Path,
    seg: Path,
    reference: Path | None,
    output: Path,
    config: str | None,
    series: str | None,
    channel: int | None,
) -> None:
    """Draw IMAGE, REFERENCE and SEG side by side, then each class by itself.

    All are NIfTI, NRRD, MetaImage or DICOM (a folder with series, DICOM-SEG) on one grid. The slice
    is the axial one with most of the reference, in radiological view. Needs the [report] extra;
    DICOM needs [dicom].
    """
    from vol3dseg.reporting.overlay import draw_files

    draw_files(image, seg, output, reference, config, series, channel)
    click.echo(f"picture -> {output}")
