"""`vol3dseg show`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, command, config_option, output_option

if TYPE_CHECKING:
    from vol3dseg.reporting.slices import Plane


@command(short_help="Draw a segmentation over its image.")
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
@click.option(
    "--plane",
    type=click.Choice(["axial", "coronal", "sagittal"]),
    default="axial",
    show_default=True,
)
@click.option(
    "--slice",
    "slices",
    type=click.IntRange(min=1),
    multiple=True,
    help="Which slice, from 1; may be given again.  [default: the one with most foreground, and up "
    "to two more for classes that it lacks]",
)
@click.option(
    "--window",
    type=(float, float),
    metavar="LOW HIGH",
    help="What is black and what is white.  [default: the config's window; -160 240 for CT]",
)
def show(
    image: Path,
    seg: Path,
    reference: Path | None,
    output: Path,
    config: str | None,
    series: str | None,
    channel: int | None,
    plane: "Plane",
    slices: tuple[int, ...],
    window: tuple[float, float] | None,
) -> None:
    """Draw IMAGE, REFERENCE and SEG side by side, then each class by itself.

    All are NIfTI, NRRD, MetaImage or DICOM (a folder with series, DICOM-SEG) on one grid. Slices
    are in radiological view, and counted from the left, the back and below. Needs the [report]
    extra; DICOM needs [dicom].
    """
    from vol3dseg.reporting.drawing_files import draw_files

    draw_files(image, seg, output, reference, config, series, channel, plane, slices, window)
    click.echo(f"picture -> {output}")
