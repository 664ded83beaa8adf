"""Distances of the three regions of a whole case: ours, MONAI's and surface-distance's, in turn.

python -m benchmarks.metrics CASE [--rounds N]

CASE is the folder of a BraTS case. Its reference is held against a copy that is moved and specked.
Each computes HD95, ASSD and surface Dice, with the threads that it takes by itself; others get the
masks, ours the label maps. The best of all rounds counts. It fails where ours, with the surface
that they have, is less than 5 times as fast as MONAI or twice as fast as surface-distance, or where
scores differ.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.measuring import Host, Measured, measure
from benchmarks.rows import Contestant
from benchmarks.workers import OURS
from vol3dseg.config import load_config
from vol3dseg.evaluation.scoring import structures_of
from vol3dseg.formats.opening import read_labels
from vol3dseg.machine import usable_cores
from vol3dseg.model.components import looked_up

TOLERANCE_MM = 1.0
_AREA, _VOXELS = "ours, by area", "ours, by voxels"
# Who, beside whom, and how many times as fast.
ASKED = (("surface-distance", _AREA, 2.0), ("MONAI", _VOXELS, 5.0))


def contestants(file: Path, regions: Mapping[str, Sequence[int]]) -> list[Contestant]:
    """Return all four."""
    known = {"file": str(file), "tolerance": TOLERANCE_MM}
    ours = {
        name: known | {"surface": surface, "regions": regions}
        for name, surface in ((_AREA, "area"), (_VOXELS, "voxels"))
    }
    found = [Contestant(name, OURS, "ours_metrics", settings) for name, settings in ours.items()]
    for name in ("surface-distance", "MONAI"):
        found.append(Contestant(name, "oracle", "metrics_of_others", known | {"by": name}))
    return found


def prepare(case: Path, file: Path) -> dict[str, list[int]]:
    """Write label maps and the masks of the regions to a file; return the classes of each."""
    labels = load_config("brats2020").labels
    (path,) = case.glob("*seg.nii*")
    reference = read_labels(path, labels)
    prediction = _perturbed(reference.array)
    regions = {n: [*m] for n, m in structures_of(labels).items() if n in labels.regions}
    masks = {}
    for name, members in regions.items():
        table = np.isin(np.arange(256), members)
        masks[f"reference {name}"] = looked_up(table, reference.array)
        masks[f"prediction {name}"] = looked_up(table, prediction)
    np.savez(
        file,
        spacing_mm=reference.geometry.spacing_mm,
        **{"labels reference": reference.array, "labels prediction": prediction},
        **masks,
    )
    return regions


def _perturbed(array: np.ndarray) -> np.ndarray:
    """Return a label map two voxels off, with one in a thousand voxels near it of another class."""
    rng = np.random.default_rng(0)
    moved = np.roll(array, (2, -1, 1), axis=(0, 1, 2))
    near = tuple(slice(max(0, n.min() - 4), n.max() + 5) for n in np.nonzero(array))
    part = moved[near]
    specks = rng.random(part.shape) < 1e-3
    part[specks] = rng.integers(0, 4, int(specks.sum()), dtype=np.uint8)
    return moved


def report(measured: Sequence[Measured]) -> tuple[str, list[str]]:
    """Return the table, and what is not as it should be."""
    found = {entry.contestant.name: entry for entry in measured}
    problems = [f"{name}: {entry.problem}" for name, entry in found.items() if entry.problem]
    best = {
        name: min(reply.seconds for reply in entry.replies)
        for name, entry in found.items()
        if entry.replies
    }
    lines = ["| who | best [s] | ours is so many times as fast | asked |", "|---|---|---|---|"]
    for name, seconds in best.items():
        beside = next((row for row in ASKED if row[0] == name), None)
        times, asked = "", ""
        if beside and beside[1] in best:
            ratio = seconds / best[beside[1]]
            times, asked = f"{ratio:.1f} ({beside[1]})", f"{beside[2]:g}"
            if ratio < beside[2]:
                problems.append(f"{beside[1]} is {ratio:.1f} times as fast as {name}, not {asked}")
            problems += _differing(found[name], found[beside[1]])
        lines.append(f"| {name} | {seconds:.2f} | {times} | {asked} |")
    return "\n".join(lines), problems


def _differing(theirs: Measured, ours: Measured) -> list[str]:
    """Say where two do not compute the same."""
    said, mine = theirs.replies[-1].facts, ours.replies[-1].facts
    return [
        f"{name}: {theirs.contestant.name} has {values}, {ours.contestant.name} {mine[name]}"
        for name, values in said.items()
        if not np.allclose(values, mine[name], rtol=1e-5)
    ]


def main() -> None:
    """Measure, print, and fail where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("case", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "masks.npz"
        regions = prepare(given.case, file)
        host = Host(usable_cores(), Path(folder) / "logs")
        table, problems = report(measure(contestants(file, regions), given.rounds, host))
    machine = describe_machine()
    sys.stdout.write(f"{machine['processor']}, {machine['cores']} cores\n\n{table}\n")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
