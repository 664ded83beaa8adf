"""`vol3dseg preprocess`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    about_case,
    command,
    config_option,
    output_option,
    progress_bar,
    repair_option,
    workers_option,
)
from vol3dseg.cli.plan import report_plan

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.preprocessing.index import Index


@command(short_help="Crop and normalise scans into HDF5.")
@click.argument("dataset", type=PathType)
@output_option("the prepared folder")
@config_option(
    "A preset or a YAML file; its recipe says what is done.  [default: the one that the prepared "
    "folder was made with, or a plan: see vol3dseg plan]"
)
@workers_option("vol3dseg.preprocessing.prepare_dataset")
@repair_option()
@click.option(
    "--remove-withdrawn",
    is_flag=True,
    help="Remove what was prepared of cases that DATASET has no more; see docs/withdrawal.md.",
)
def preprocess(
    dataset: Path,
    output: Path,
    config: str | None,
    workers: "int | Executor | None",
    repair: bool,
    remove_withdrawn: bool,
) -> None:
    """Crop, resample and normalise the scans of DATASET into HDF5.

    DATASET is a folder in BraTS, Medical Segmentation Decathlon, nnU-Net raw, BIDS or DICOM
    layout, a folder of images, one with images/ and labels/, or a dataset table (.csv, .json).
    Run again, it does only what is missing or has changed; where prepared cases are no longer in
    DATASET, it names them and stops, unless --remove-withdrawn is given. Without a config one is
    planned, and written into the prepared folder as plan.yaml. Headers are checked first, of all
    cases; `vol3dseg check` looks at all voxels as well. A case that fails is named and the others
    go on; the exit code is 1 then.
    """
    from vol3dseg.preprocessing.prepare_case import Outcome
    from vol3dseg.preprocessing.prepare_dataset import chosen_config
    from vol3dseg.preprocessing.prepare_dataset import preprocess as prepare
    from vol3dseg.preprocessing.withdrawal import strays

    with progress_bar() as bar:
        planning = bar.add_task("planning", total=None, visible=False)

        def measured(total: int) -> None:
            bar.update(planning, total=total, advance=1, visible=True)

        settings, planned = chosen_config(dataset, output, config, workers, repair, measured)
    if planned is not None:
        report_plan(planned)
    removed = []
    with progress_bar() as bar:
        task = bar.add_task("preparing", total=None)

        def show(outcome: Outcome, total: int) -> None:
            bar.update(task, total=total, advance=0 if outcome.removed else 1)
            removed.extend([outcome.case_id] if outcome.removed else [])
            for what, said in (("failed", outcome.failed), ("removed", outcome.removed)):
                for error in said.splitlines():
                    line = f"{what}: {about_case(outcome.case_id, error)}"
                    bar.console.print(
                        line, highlight=False, markup=False, emoji=False, soft_wrap=True
                    )

        index = prepare(dataset, output, settings, workers, repair, show, remove_withdrawn)
    _report(index, output)
    found = strays(output, index)
    left = found.of(removed)
    for path in found.unknown:
        if path not in left:
            click.echo(f"note: {path} is not of this prepared folder and was left alone")
    for path in left:
        click.echo(
            f"left: {path} is not as it was written and may show who has withdrawn; delete it "
            "yourself",
            err=True,
        )
    if index.failed or left:
        sys.exit(1)


def _report(index: "Index", output: Path) -> None:
    from vol3dseg.planning.patch_fit import patch_warnings
    from vol3dseg.space.intake import by_note

    for entry in index.cases:
        for modality, count in entry.replaced.items():
            click.echo(
                f"note: case {entry.id}: {count} voxels of {modality} were NaN or infinite and "
                "were replaced"
            )
        for repair in entry.repairs:
            click.echo(f"repaired: case {entry.id}: {repair}")
        for warning in entry.warnings:
            click.echo(f"warning: case {entry.id}: {warning}", err=True)
    for note in by_note({entry.id: entry.notes for entry in index.cases}, len(index.cases)):
        click.echo(f"note: {note}")
    for line in index.incomplete:
        click.echo(f"note: {line}")
    if index.unlabelled:
        click.echo(f"note: {index.unlabelled}")
    for case_id, reason in index.left_out.items():
        click.echo(f"left out: case {case_id}: {reason}")
    for warning in patch_warnings(index.config, [entry.shape for entry in index.cases]):
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{len(index.cases)} cases prepared, {len(index.left_out)} left out, "
        f"{len(index.failed)} failed -> {output}"
    )
