"""`vol3dseg corrections`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, command, output_option, repair_option, show_table
from vol3dseg.errors import some_of


@command(short_help="Make a data set of predictions that a person has edited.")
@click.argument("predictions", type=PathType)
@click.argument("edited", type=PathType)
@click.option(
    "--scans",
    type=PathType,
    required=True,
    metavar="DATASET",
    help="The data set, or the table, of the scans that were segmented.",
)
@output_option("the data set")
@click.option(
    "--unchanged",
    is_flag=True,
    help="Take cases too whose edited label map is equal: looked at, and found right.",
)
@repair_option()
def corrections(
    predictions: Path, edited: Path, scans: Path, output: Path, unchanged: bool, repair: bool
) -> None:
    """Compare label maps of EDITED with PREDICTIONS, and make a data set of those that differ.

    PREDICTIONS is a folder as vol3dseg predict wrote it. EDITED holds label maps of the same names
    that were mended in a viewer, in any format that is read; a copy of the folder will do. The data
    set is a table with the images where they lie, the mended maps, and corrections.json, which says
    what was changed and what it came from. Go on with preprocess, and train --from MODEL -c
    fine-tune.
    """
    from vol3dseg.reporting.edited_predictions import TABLE, collect_corrections, correction_rows

    found = collect_corrections(predictions, edited, scans, output, unchanged, repair)
    rows = correction_rows(found)
    if rows:
        title = f"Corrected: {len(rows)} of {len(rows) + len(found.unchanged)} edited cases"
        show_table(title, ["case", "changed [ml]", "voxels"], rows, words=["voxels"])
    if found.unchanged:
        kept = "part of the data set" if unchanged else "left out; --unchanged takes them"
        click.echo(f"note: equal to the prediction, and {kept}: {some_of(found.unchanged)}")
    if found.not_edited:
        click.echo(f"note: without an edited label map: {some_of(found.not_edited)}")
    click.echo(f"data set -> {output / TABLE}")
