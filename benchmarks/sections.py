"""Speed: the network part, files in to file out, and both in the memory that MONAI takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks import rows
from benchmarks.bench import Bench, Done, kept
from benchmarks.measuring import Finish, Measured
from benchmarks.referee import TOLERANCE, gflop
from benchmarks.rows import Contestant
from benchmarks.table import Row, Section
from benchmarks.workers import Worker
from vol3dseg.model.model_file import read_model

NETWORK, FILES = "Network part", "Files in to file out"
_ASKED_OF_BOUND = 1.3


def network(bench: Bench, done: Done) -> list[Section]:
    """Compare the network part: the prepared image in memory to probabilities in memory."""
    contestants = [*rows.network(bench.given), *rows.matrices(bench.given)]
    found = bench.measure(contestants, finish=_answers(bench))
    matrices = [each for each in found if each.contestant.module == "matrix"]
    table = [_network_row(each) for each in found if each not in matrices]
    notes = [_twin_note(table), *_bound_notes(bench, table, matrices)]
    return [Section(NETWORK, table, rows.NETWORK_BASELINES, notes)]


def files(bench: Bench, done: Done) -> list[Section]:
    """Compare files in to file out."""
    found = bench.measure(rows.files(bench.given), finish=_patch_of_nnunet(bench))
    table = [_file_row(bench, each) for each in found]
    return [Section(FILES, table, rows.FILE_BASELINES, [_twin_note(table)])]


def limited(bench: Bench, done: Done) -> list[Section]:
    """Compare both again, ours held to the peak of MONAI."""
    given, sections = bench.given, []
    plain = (NETWORK, rows.network(given)[:1], "ours_network")
    for title, monai, module in (plain, (FILES, rows.pipelines(given)[:1], "ours_files")):
        limit_mb = bench.peak_mb(monai[0], done.get(title))
        full = f"{title} in MONAI's memory"
        if limit_mb is None:
            problem = "is not known, so there is no limit"
            sections.append(Section(full, [Row(monai[0].name, "torch", problem=problem)]))
            continue
        contestants = [*monai, *rows.limited(given, module, limit_mb)]
        of_network = title == NETWORK
        found = bench.measure(contestants, finish=_answers(bench) if of_network else None)
        table = [_network_row(m) if of_network else _file_row(bench, m) for m in found]
        full = f"{full}, {limit_mb:.0f} MB"
        sections.append(Section(full, table, [monai[0].name], kept(table, limit_mb)))
    return sections


def _answers(bench: Bench) -> Finish:
    answer = bench.given.work / "answer.npy"

    def finish(contestant: Contestant, worker: Worker) -> dict[str, Any]:
        if contestant.module == "matrix":
            return {}
        worker.ask("answer", file=str(answer))
        agreement = bench.referee.network_agreement(answer)
        return {"agreement": agreement, **_patch(bench, worker)}

    return finish


def _patch_of_nnunet(bench: Bench) -> Finish:
    """Return what asks nnU-Net for its network's output: it has been through files of its own."""

    def finish(contestant: Contestant, worker: Worker) -> dict[str, Any]:
        return _patch(bench, worker) if contestant.name == rows.NNUNET else {}

    return finish


def _patch(bench: Bench, worker: Worker) -> dict[str, Any]:
    given, answer = bench.given.work / "patch.npy", bench.given.work / "answer-patch.npy"
    worker.ask("patch", image=str(given), file=str(answer))
    return {"patch_difference": bench.referee.patch_difference(answer)}


def _network_row(each: Measured) -> Row:
    return each.row(each.facts.get("agreement"))


def _file_row(bench: Bench, each: Measured) -> Row:
    if each.problem:
        return each.row()
    told = [reply.facts for reply in each.replies]
    file = Path(told[-1]["file"])
    agreement = bench.referee.file_agreement(file, not each.contestant.is_ours)
    stages = _medians([facts["stages"] for facts in told]) if "stages" in told[-1] else {}
    return each.row(agreement, **({"stages": stages} if stages else {}))


def _medians(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: float(np.median([each[stage] for each in told])) for stage in told[0]}


def _twin_note(table: Sequence[Row]) -> str:
    """Return how far networks are from the twin.

    Raises
    ------
    SystemExit
        One that computes in float32 is further than runtimes may differ.
    """
    known = {row.name: row.facts.get("patch_difference") for row in table if row.seconds}
    told = {name: value for name, value in known.items() if value is not None}
    exact = {name: value for name, value in told.items() if not rows.is_coarse(name)}
    wrong = [name for name, value in exact.items() if not value <= TOLERANCE]
    if wrong:
        raise SystemExit(
            f"{', '.join(wrong)}: probabilities differ from the twin's by up to "
            f"{max(exact.values()):.2g}, expected at most {TOLERANCE:g}"
        )
    words = ", ".join(f"{name} {value:.1e}" for name, value in told.items())
    return f"largest difference from the twin in probability, on one patch: {words or 'no twin'}"


def _bound_notes(bench: Bench, table: Sequence[Row], matrices: Sequence[Measured]) -> list[str]:
    """Return what the multiplication of matrices says of float32, in words."""
    speeds: dict[str, float] = {}
    for reply in (reply for each in matrices for reply in each.replies):
        for way, gflops in reply.facts["gflops"].items():
            speeds[way] = max(gflops, speeds.get(way, 0.0))
    if not speeds:
        return []
    model = read_model(bench.given.weights / "model.onnx")
    shape = bench.referee.prepared.volume.array.shape[:3]
    work = gflop(onnx.load_model_from_string(model.content), bench.given.divisor, shape)
    listed = ", ".join(f"{way} {gflops:.0f}" for way, gflops in speeds.items())
    bound = work / max(gflops for way, gflops in speeds.items() if way.endswith("float32"))
    notes = [
        f"multiplication of matrices, best of all rounds [GFLOP/s]: {listed}",
        f"one pass is {work:.0f} GFLOP: at the best float32 speed {bound:.3f} s",
    ]
    for row in (row for row in table if row.name == rows.FLOAT32 and row.seconds):
        times = row.median / bound
        verdict = "reached" if times <= _ASKED_OF_BOUND else "missed"
        asked = f"asked: at most {_ASKED_OF_BOUND:g}: {verdict}"
        notes.append(f"{row.name} takes {times:.2f} times that bound ({asked})")
    return notes
