"""Preparing a data set: cases a minute against nnU-Net and MONAI, with one process and two."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.bench import Bench, Done
from benchmarks.measuring import Measured
from benchmarks.rows import Contestant
from benchmarks.table import Row, Section
from benchmarks.workers import Worker
from vol3dseg.datasets.case import Case

_CASES = 8  # ids that the cases of the data set are linked to
_NOTE = "agreement: voxels of the prepared image within 0.001 of what `vol3dseg predict` sees"


def preparing(bench: Bench, done: Done) -> list[Section]:
    """Compare preparing a data set, with one process and with two."""
    dataset, cases = _linked(bench.cases, bench.given.work / "dataset")
    described = [_described(case, bench) for case in cases]
    answer = bench.given.work / "answer.npy"

    def finish(contestant: Contestant, worker: Worker) -> dict[str, Any]:
        worker.ask("answer", file=str(answer))
        return {"agreement": bench.referee.image_agreement(answer)}

    sections = []
    for processes in (1, 2):
        contestants = rows.preparation(bench.given, dataset, described, processes)
        # Two cases bring both processes to life.
        found = bench.measure(contestants, finish=finish, warming={"most": 2})
        table = [_row(each, len(cases)) for each in found]
        title = f"Preparing {len(cases)} cases, {'one process' if processes == 1 else 'two'}"
        sections.append(Section(title, table, [rows.NNUNET, rows.MONAI], [_NOTE]))
    return sections


def _row(each: Measured, cases: int) -> Row:
    if each.problem:
        return each.row()
    row = each.row(each.facts["agreement"])
    return each.row(row.agreement, how=f"{60 * cases / row.median:.1f} cases a minute")


def _described(case: Case, bench: Bench) -> dict[str, Any]:
    manifest = bench.referee.manifest
    return {
        "id": case.id,
        "images": {m: str(case.images[m].path) for m in manifest.recipe.modalities},
        "label": str(case.label),
        "classes": len(manifest.labels.classes),
    }


def _linked(cases: Sequence[Case], folder: Path) -> tuple[Path, list[Case]]:
    """Link the cases of a data set to more ids, in the layout that they came in."""
    shutil.rmtree(folder, ignore_errors=True)
    found = []
    for number in range(_CASES):
        case = cases[number % len(cases)]
        name = f"Case_{number:03d}"
        place = folder / name
        place.mkdir(parents=True)
        paths: dict[str, Path] = {}
        for path in case.paths:
            target = place / path.name.replace(case.id, name)
            target.symlink_to(path.resolve())
            paths[str(path)] = target
        images = {m: type(s)(paths[str(s.path)], s.channel) for m, s in case.images.items()}
        found.append(Case(name, name, images, paths[str(case.label)] if case.label else None))
    return folder, found
