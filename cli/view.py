"""`vol3dseg view`."""

from collections.abc import Sequence
from pathlib import Path

import click

from vol3dseg.cli.options import PathType, command, config_option


@command(short_help="Look at scans and segmentations in the browser.")
@click.argument("images", type=PathType, nargs=-1, required=True, metavar="IMAGE...")
@click.option("--seg", type=PathType, help="The segmentation, or a folder of predictions by case.")
@click.option(
    "--reference",
    type=PathType,
    help="The reference, or a data set of references.  [default: that of the data set IMAGE]",
)
@click.option(
    "--report",
    type=PathType,
    help="What evaluate -o has written: scores come from there.  [default: computed]",
)
@config_option(
    "Where label names come from.  [default: predictions.json beside --seg, dataset.json of a data "
    "set, else values]"
)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=0,
    show_default="any that is free",
    help="Where the page is served, on 127.0.0.1.",
)
@click.option("--no-browser", is_flag=True, help="Print the address of the page, no more.")
def view(
    images: tuple[Path, ...],
    seg: Path | None,
    reference: Path | None,
    report: Path | None,
    config: str | None,
    port: int,
    no_browser: bool,
) -> None:
    """Show IMAGEs with segmentation and reference on a local page, until Ctrl-C.

    IMAGEs are the modalities of one case: NIfTI, NRRD, MetaImage, or a folder with a DICOM series.
    Or one IMAGE is a dataset folder in a known layout or a dataset table; then --seg and
    --reference may be folders, and the page goes from case to case. The page is reached from this
    machine alone, at the address that is printed, and loads nothing from anywhere else. Needs no
    extra; DICOM needs [dicom].
    """
    from vol3dseg.viewing.viewer import view as show_page

    show_page(images, seg, reference, report, config, port, not no_browser, _say)


def _say(url: str, notes: Sequence[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(f"page -> {url}  (Ctrl-C ends)")
