"""`vol3dseg preprocess`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    about_case,
    config_option,
    output_option,
    progress_bar,
    repair_option,
    workers_option,
)
from vol3dseg.errors import some_of

if TYPE_CHECKING:
    from vol3dseg.preprocessing.index import Index


@click.command(short_help="Crop and normalise scans into HDF5.")
@click.argument("dataset", type=PathType)
@output_option("the prepared folder")
@config_option("A preset or a YAML file; its recipe says what is done.", required=True)
@workers_option()
@repair_option()
def preprocess(dataset: Path, output: Path, config: str, workers: int | None, repair: bool) -> None:
    """Crop, resample and normalise the scans of DATASET into HDF5.

    DATASET is a folder in BraTS, Medical Segmentation Decathlon, nnU-Net raw, BIDS or DICOM
    layout, or a dataset table (.csv, .json). Run again, it does only what is missing or has
    changed. What headers tell is checked first, of all cases; `vol3dseg check` looks at all voxels
    as well. A case that fails is named and the others go on; the exit code is 1 then.
    """
    run_preprocess(dataset, output, config, workers, repair)


def run_preprocess(
    dataset: Path,
    output: Path,
    config_name: str,
    workers: int | None = None,
    repair: bool = False,
) -> None:
    """Prepare a data set in front of the user."""
    from vol3dseg.config import load_config
    from vol3dseg.datasets.case import allow_repairs
    from vol3dseg.datasets.layouts import find_cases
    from vol3dseg.datasets.over_cases import worker_processes
    from vol3dseg.files import require_writable
    from vol3dseg.preprocessing.prepare_cases import Outcome
    from vol3dseg.preprocessing.prepare_cases import preprocess as prepare_all

    config = load_config(config_name)
    config.recipe.require_extras()
    cases = allow_repairs(find_cases(dataset), repair)
    require_writable(output)
    with worker_processes(workers, len(cases)) as executor, progress_bar() as bar:
        task = bar.add_task("preparing", total=len(cases))

        def advance(outcome: Outcome) -> None:
            bar.advance(task)
            for error in outcome.failed.splitlines():
                line = f"failed: {about_case(outcome.case_id, error)}"
                bar.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

        index = prepare_all(
            cases,
            output,
            config.model_dump(mode="json"),
            config.recipe,
            config.labels,
            executor,
            advance,
        )
    _report(index, output)
    if index.failed:
        sys.exit(1)


def _report(index: "Index", output: Path) -> None:
    for entry in index.cases:
        for modality, count in entry.replaced.items():
            click.echo(
                f"note: case {entry.id}: {count} voxels of {modality} were NaN or infinite and "
                "were replaced"
            )
        for repair in entry.repairs:
            click.echo(f"repaired: case {entry.id}: {repair}")
        if entry.class_voxels and not any(list(entry.class_voxels.values())[1:]):
            click.echo(
                f"warning: case {entry.id}: its label map is empty; patches of it show background "
                "alone",
                err=True,
            )
        if entry.labels_outside:
            click.echo(
                f"warning: case {entry.id}: {entry.labels_outside} labelled voxels lie outside the "
                "non-zero box and are lost; check the image, or use crop: none",
                err=True,
            )
    for note, ids in _grouped(index).items():
        click.echo(f"note: {len(ids)} of {len(index.cases)} cases ({some_of(ids)}): {note}")
    for case_id, reason in index.left_out.items():
        click.echo(f"left out: case {case_id}: {reason}")
    click.echo(
        f"{len(index.cases)} cases prepared, {len(index.left_out)} left out, "
        f"{len(index.failed)} failed -> {output}"
    )


def _grouped(index: "Index") -> dict[str, list[str]]:
    """Return what was noted with the cases that it was noted of: often all of a data set."""
    found: dict[str, list[str]] = {}
    for entry in index.cases:
        for note in entry.notes:
            found.setdefault(note, []).append(entry.id)
    return found
