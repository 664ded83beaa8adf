"""Ours against what else segments a volume on a CPU: speed, memory, agreement.

python -m benchmarks.predict [DATASET] [--json FILE] [--only SECTION]... [--rounds N]

Needs the environments of `make bench`; rows of those that are missing are left out, by name. What
each row is stands in docs/bench.md.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.table import Section
    from vol3dseg.datasets.case import Case

_ROOT = Path(__file__).resolve().parent.parent
_SECTIONS = ("network", "files", "limited", "ct", "preprocess")


def main(words: argparse.Namespace) -> None:
    """Run the sections, print them, write them."""
    from benchmarks.bench import make_reference
    from benchmarks.ct import ct
    from benchmarks.machine import describe_machine
    from benchmarks.preparing import preparing
    from benchmarks.sections import files, limited, network
    from benchmarks.table import markdown, stages, write_json

    _write_weights(words.weights)
    bench, machine = _bench(words), describe_machine()
    sys.stdout.write(f"{_line(machine)}; {words.threads} threads, {words.rounds} rounds\n")
    make_reference(bench)
    done: dict[str, Section] = {}
    for name, compare in zip(_SECTIONS, (network, files, limited, ct, preparing), strict=True):
        if words.only and name not in words.only:
            continue
        for section in compare(bench, done):
            done[section.title] = section
            sys.stdout.write(f"\n{markdown(section)}\n{stages(section)}")
            sys.stdout.flush()
        if words.json:  # as far as it has come: the rest may fail
            facts = {"machine": machine, "case": bench.referee.case.id, "threads": words.threads}
            write_json(words.json, {**facts, "versions": bench.versions}, list(done.values()))
    for environment, versions in bench.versions.items():
        sys.stdout.write(f"- {environment}: {_line(versions)}\n")
    if any(row.failed for section in done.values() for row in section.rows):
        raise SystemExit("some contestants failed; see above")


def _bench(words: argparse.Namespace) -> "Bench":
    from benchmarks.bench import Bench
    from benchmarks.measuring import Host
    from benchmarks.referee import prepare_case
    from benchmarks.rows import Given
    from vol3dseg.datasets.layouts import find_cases
    from vol3dseg.model.model_file import read_model

    manifest = read_model(words.weights / "model.onnx").manifest
    cases = find_cases(words.dataset)
    case = cases[0] if words.case is None else _named(cases, words.case)
    modalities, work = manifest.recipe.modalities, words.work.resolve()
    given = Given(
        weights=words.weights.resolve(),
        work=work,
        images={name: str(case.images[name].path.resolve()) for name in modalities},
        patch_size=list(manifest.recipe.patch_size),
        divisor=manifest.network.divisor,
        threads=words.threads,
    )
    referee = prepare_case(case, manifest, work)
    return Bench(given, referee, cases, words.rounds, Host(words.threads, work / "logs"), {})


def _named(cases: "Sequence[Case]", name: str) -> "Case":
    found = next((case for case in cases if case.id == name), None)
    if found is None:
        raise SystemExit(f"--case {name}: there are {', '.join(case.id for case in cases)}")
    return found


def _write_weights(folder: Path) -> None:
    from vol3dseg.errors import ModelError
    from vol3dseg.model.model_file import read_model

    if all((folder / name).exists() for name in ("model.onnx", "model.npz", "ct.onnx")):
        with suppress(ModelError):  # of an older manifest: made anew
            read_model(folder / "model.onnx")
            return
    python = _ROOT / ".venv" / "bin" / "python"
    command = [str(python), "-m", "benchmarks.weights", str(folder)]
    if not python.exists():
        raise SystemExit(f"{folder}: no weights, and no .venv to make them; run: make setup")
    subprocess.run(command, check=True, cwd=_ROOT)


def _line(facts: Mapping[str, Any]) -> str:
    told = {k: " ".join(v) if isinstance(v, list) else v for k, v in facts.items()}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _arguments() -> argparse.Namespace:
    from benchmarks.machine import usable_cores

    parser = argparse.ArgumentParser(prog="benchmarks.predict", description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?", default=_ROOT.parent / "shared/data/brats")
    parser.add_argument("--case", help="which case of it is segmented; the first unless given")
    parser.add_argument("--json", type=Path, help="write the same to this file")
    parser.add_argument("--only", choices=_SECTIONS, action="append", help="may be given again")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--weights", type=Path, default=_ROOT / ".bench/weights")
    parser.add_argument("--work", type=Path, default=_ROOT / ".bench/work")
    return parser.parse_args()


if __name__ == "__main__":
    home = _ROOT / ".venv" / "bin" / "python"
    if importlib.util.find_spec("vol3dseg") is None and home.exists():
        # Any Python will do to start with.
        os.execv(str(home), [str(home), "-m", "benchmarks.predict", *sys.argv[1:]])
    main(_arguments())
