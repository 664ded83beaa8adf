"""nnU-Net's predictor against ours with the adopted model, files to file: speed, memory, labels.

python -m benchmarks.adopted [OUT] [--json FILE] [--only SETUP]... [--rounds N] [--small]

Makes the scans and the models; see docs/bench.md. Needs .venv and `make bench-environments`; rows
of an environment that is missing are left out, by name, but without .bench/torch there is no model.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adopted_rows import BASELINES, BY_CLASS, NNUNET, Place, contestants
from benchmarks.adopted_setups import FULL, SMALL, Setup
from benchmarks.bench import kept
from benchmarks.machine import describe_machine, usable_cores
from benchmarks.measuring import Host, Measured, measure
from benchmarks.rows import Contestant
from benchmarks.table import Row, Section, markdown, write_json
from benchmarks.workers import Worker, WorkerError, python_of
from vol3dseg.export.nnunet.adopting import adopt_nnunet
from vol3dseg.formats import open_volume
from vol3dseg.machine import available_mb

_MODEL = Path("Dataset001_Benchmark/nnUNetTrainer__nnUNetPlans__3d_fullres")
_LEFT_FREE = 0.9  # share of what is available that nnU-Net may allocate
# What numpy, torch and the system say; -9 is the system's own end of a process.
_NO_MEMORY = re.compile(
    r"MemoryError|allocate memory|not enough memory|bad_alloc|ended with code -9"
)


def main(words: argparse.Namespace) -> None:
    """Compare on each setup, print its tables, write everything."""
    machine, done = describe_machine(), []
    versions: dict[str, dict[str, str]] = {}
    sys.stdout.write(f"{machine}; {words.threads} threads\n")
    for setup in SMALL if words.small else FULL:
        if words.only and setup.name not in words.only:
            continue
        folder = words.out.resolve() / ("small" if words.small else "full") / setup.name
        host = Host(words.threads, folder / "logs")
        place = make_place(setup, folder, host)
        for mirror in setup.mirrored:
            found = run(setup, place, mirror, words.rounds, host)
            for each in found:
                versions.setdefault(each.contestant.environment, {}).update(each.versions)
            done.append(section(setup, mirror, found))
            sys.stdout.write(f"\n{markdown(done[-1])}")
            sys.stdout.flush()
            if words.json:  # as far as it has come: the rest may fail
                facts = {"machine": machine, "threads": words.threads, "versions": versions}
                write_json(words.json, facts, done)
    if any(row.failed for each in done for row in each.rows):
        raise SystemExit("some contestants failed; see above")


def make_place(setup: Setup, folder: Path, host: Host) -> Place:
    """Write the scan, let nnU-Net write a model, and adopt that.

    Raises
    ------
    SystemExit
        There is no environment with nnU-Net, or it fails.
    """
    images = setup.write_images(folder / "scan")
    place = Place(folder, folder / _MODEL, folder / "adopted.onnx", images)
    python = python_of("torch")
    if python is None:
        raise SystemExit("there is no .bench/torch to make models; run: make bench-environments")
    settings = {
        "folder": str(place.model),
        "images": {name: str(path) for name, path in images.items()},
        "patch_size": list(setup.patch_size),
        "widths": list(setup.widths),
        "classes": setup.classes,
        "spacing_mm": [setup.spacing_mm] * 3,
        "ct": setup.ct,
    }
    module = "benchmarks.contestants.nnunet_model"
    try:
        worker = Worker(python, module, settings, host.logs / "model.log", host.threads)
        weights = worker.ask("write").facts["parameters"]
        worker.close()
    except WorkerError as error:
        raise SystemExit(f"{setup.name}: {error}") from error
    adopt_nnunet(place.model, place.adopted)
    sys.stderr.write(f"{setup.name}: {weights / 1e6:.1f} million weights\n")
    return place


def run(setup: Setup, place: Place, mirror: bool, rounds: int, host: Host) -> list[Measured]:
    """Let contestants run in turn; where a setup has one round, each by itself and cold."""
    most_mb = _LEFT_FREE * (available_mb() or np.inf)
    everyone = contestants(setup, place, mirror, host.threads, most_mb)
    if setup.rounds > 1:
        return measure(everyone, min(rounds, setup.rounds), host)
    return [measure([each], 1, host, warming={"idle": True})[0] for each in everyone]


def section(setup: Setup, mirror: bool, found: Sequence[Measured]) -> Section:
    """Return rows with the share of labels that are the reference's, and how memory compares."""
    files = {m.contestant.name: Path(m.replies[-1].facts["file"]) for m in found if not m.problem}
    reference = next((name for name in (NNUNET, BY_CLASS, *files) if name in files), "")
    table = [_row(each, files, reference) for each in found]
    notes = [f"agreement is with the labels of {reference}"] if reference else []
    views = "mirroring on, 8 views" if mirror else "mirroring off"
    made = Section(f"{setup.title}, {views}", table, BASELINES, notes)
    limits = kept(table, setup.limit_mb) if setup.limit_mb else []
    return replace(made, notes=[*notes, *_memory(made), *limits])


def compared(file: Path, reference: Path) -> tuple[float, int, int]:
    """Return the share of equal labels, how many differ, and how many are not background."""
    found, expected = (open_volume(path).labels()[0] for path in (file, reference))
    differing = int(np.count_nonzero(found != expected))
    return 1 - differing / expected.size, differing, int(np.count_nonzero(expected))


def _row(each: Measured, files: dict[str, Path], reference: str) -> Row:
    who = each.contestant
    if each.problem:
        row = each.row()
        if row.failed and _NO_MEMORY.search(each.problem):
            return replace(row, problem="", failed=False, outcome=_out_of_memory(who))
        return row
    agreement, differing, foreground = compared(files[who.name], files[reference])
    told = str(each.replies[-1].facts.get("how") or who.how)
    share = differing / max(foreground, 1)
    labels = f"{differing} labels differ, {share:.4%} of those of foreground"
    how = "; ".join(filter(None, [told, "" if who.name == reference else labels]))
    return each.row(agreement, how=how)


def _out_of_memory(who: Contestant) -> str:
    most: float = who.settings.get("most_mb") or who.settings.get("max_memory_mb") or np.inf
    return f"out of memory: needs more than {most:.0f} MB"


def _memory(made: Section) -> list[str]:
    """Return the peaks of ours as shares of that of nnU-Net, in words."""
    base = made.row(NNUNET) or made.row(BY_CLASS)
    if base is None or not base.peak_mb:
        return []
    ours = [row for row in made.rows if row.name.startswith("ours") and row.peak_mb]
    shares = [f"{row.name} {(row.peak_mb or 0) / base.peak_mb:.0%}" for row in ours]
    asked = "asked: at most 50%"
    return [f"peak as a share of that of {base.name} ({asked}): {', '.join(shares)}"] * bool(ours)


def _arguments(argv: Sequence[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path(".bench/adopted"))
    parser.add_argument("--json", type=Path, help="write the same to this file")
    names = [setup.name for setup in FULL]
    parser.add_argument("--only", choices=names, action="append", help="may be given again")
    parser.add_argument("--rounds", type=int, default=5, help="at most; large scans take fewer")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--small", action="store_true", help="tiny scans, in about a minute")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(_arguments())
