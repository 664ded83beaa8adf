"""`vol3dseg show`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import PathType, config_option, output_option

if TYPE_CHECKING:
    from vol3dseg.space.labels import LabelSet


@click.command(short_help="Draw a segmentation over its image.")
@click.argument("image", type=PathType)
@click.argument("seg", type=PathType)
@click.argument("reference", type=PathType, required=False)
@output_option("the picture (.png)")
@config_option("Where label names come from.  [default: predictions.json beside SEG]")
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
    from vol3dseg.datasets.case import ImageSource
    from vol3dseg.datasets.reading import ImageReader
    from vol3dseg.errors import OutputError
    from vol3dseg.formats import label_stem, read_labels
    from vol3dseg.reporting.panel import save_panel
    from vol3dseg.space.volume import Volume

    if output.suffix.lower() != ".png":
        raise OutputError(f"{output}: pictures are written as PNG; choose a name that ends in .png")
    labels = _labels(seg, config)
    read = ImageReader().read(ImageSource(image, channel, series=series))
    volume = Volume.stack({series or label_stem(image) or image.name: read})
    prediction = read_labels(seg, labels, volume.geometry)
    judged = read_labels(reference, labels, volume.geometry) if reference is not None else None
    save_panel(output, volume, prediction, judged, label_stem(seg) or seg.name)
    click.echo(f"picture -> {output}")


def _labels(seg: Path, config: str | None) -> "LabelSet":
    from vol3dseg.config import load_config
    from vol3dseg.inference.record import load_record

    return load_config(config).labels if config else load_record(seg.parent).labels
