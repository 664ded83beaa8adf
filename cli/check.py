"""`vol3dseg check`."""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import (
    PathType,
    about_case,
    command,
    config_option,
    progress_bar,
    repair_option,
    workers_option,
)
from vol3dseg.errors import some_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.datasets.case import Case
    from vol3dseg.datasets.checks import Finding

_NUMBER = re.compile(r"((?<![\w.-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
_FEW = 3  # different numbers that are listed


@command(short_help="Check every file of a data set before anything is done with it.")
@click.argument("dataset", type=PathType)
@config_option("Where modalities and label values come from.  [default: what the cases have]")
@click.option(
    "--table",
    type=PathType,
    help="Write the cases as a dataset table (.csv, .json) there, to be edited by hand.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found for programs.")
@workers_option("vol3dseg.datasets.checks")
@repair_option()
def check(
    dataset: Path,
    config: str | None,
    table: Path | None,
    as_json: bool,
    workers: "int | Executor | None",
    repair: bool,
) -> None:
    """Check all files of DATASET, header by header and voxel by voxel.

    DATASET is a folder in BraTS, Medical Segmentation Decathlon, nnU-Net raw, BIDS or DICOM
    layout, a folder of images, one with images/ and labels/, or a dataset table (.csv, .json).
    Says which layout it has and lists all that is wrong, the most severe first: errors, for which
    a case is refused; warnings; notes on what was corrected. The exit code is 1 if there are
    errors.
    """
    from vol3dseg.config import load_config
    from vol3dseg.datasets import checks
    from vol3dseg.datasets.case import allow_repairs
    from vol3dseg.datasets.layouts import find_cases, layout_of
    from vol3dseg.datasets.layouts.table import write_table
    from vol3dseg.datasets.over_cases import worker_processes

    settings = load_config(config) if config else None
    if settings is not None:
        settings.recipe.require_extras()
    modalities, labels = (settings.recipe.modalities, settings.labels) if settings else (None, None)
    cases = allow_repairs(find_cases(dataset, modalities or ()), repair)
    if table is not None:
        write_table(cases, table)
    with worker_processes(workers, len(cases)) as executor, progress_bar() as bar:
        task = bar.add_task("checking", total=len(cases))
        found = checks.check(
            cases, modalities, labels, executor, lambda: bar.advance(task),
            settings.optional if settings else (),
        )  # fmt: skip
    layout = layout_of(dataset)
    name = layout.name if layout else ""
    if as_json:
        content = {
            "format": "vol3dseg.check",
            "version": 3,
            "dataset": str(dataset),
            "layout": name,
            "cases": len(cases),
            "findings": [asdict(finding) for finding in found],
        }
        click.echo(json.dumps(content, indent=1))
    else:
        _list_findings(found, len(cases), dataset)
        click.echo(f"{dataset}: {name} layout, {_summary(found, cases)}")
        if table is not None:
            click.echo(f"table -> {table}")
    if any(finding.severity == "error" for finding in found):
        sys.exit(1)


def _summary(found: "Sequence[Finding]", cases: "Sequence[Case]") -> str:
    labelled = sum(case.label is not None for case in cases)
    noun = "case" if len(cases) == 1 else "cases"
    refused = {finding.case for finding in found if finding.severity == "error"}
    counts = Counter(finding.severity for finding in found)
    return (
        f"{len(cases)} {noun}, {labelled} with a label map: {len(refused)} refused "
        f"({counts['error']} errors, {counts['warning']} warnings, {counts['note']} notes)"
    )


def _list_findings(found: "Sequence[Finding]", cases: int, dataset: Path) -> None:
    """Print findings; those that differ in names of cases and in numbers alone are one line."""
    together: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        cause = _NUMBER.sub("#", _of_any_case(finding.message, finding))
        together.setdefault((finding.severity, cause), []).append(finding)
    root = f"{dataset if dataset.is_dir() else dataset.parent}/"
    for (severity, _), findings in together.items():
        ids = list(dict.fromkeys(finding.case for finding in findings))
        files = [f.where for f in findings if f.where != f"case {f.case}"]
        messages = [finding.message for finding in findings]
        if len(ids) > 1:
            files = [_of_any_case(f.where, f) for f in findings if f.where in files]
            files = [file.removeprefix(root) for file in dict.fromkeys(files)]
            messages = [_of_any_case(finding.message, finding) for finding in findings]
        said = ": ".join(filter(None, [some_of(files), _with_all_numbers(messages)]))
        if len(ids) > 1:
            click.echo(f"{severity}: {len(ids)} of {cases} cases ({some_of(ids)}): {said}")
        else:
            click.echo(f"{severity}: {about_case(ids[0], said)}")


def _of_any_case(text: str, finding: "Finding") -> str:
    """Return text with <id> for the case in names of files."""
    case = re.compile(rf"(?<![^\W_]){re.escape(finding.case)}(?![^\W_])")
    return re.sub(r"\S*/\S+", lambda path: case.sub("<id>", path[0]), text)


def _with_all_numbers(messages: Sequence[str]) -> str:
    """Return the one message that several are but for their numbers, with what these are."""
    columns = zip(*map(_NUMBER.split, messages), strict=True)
    return "".join(_one_or_range(list(dict.fromkeys(column))) for column in columns)


def _one_or_range(values: list[str]) -> str:
    if len(values) <= _FEW:
        return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))
    ordered = sorted(values, key=float)
    return f"{ordered[0]} to {ordered[-1]}"
