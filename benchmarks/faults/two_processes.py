"""Two processes at work on one output folder, and the same again under the same number."""

import random
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.faults.children import Child
from benchmarks.faults.ending import begin, finish, unclear
from benchmarks.faults.kills import duration
from benchmarks.faults.line import Line
from benchmarks.faults.outcome import Outcome

REFUSED = "is being written by another process of vol3dseg"
# Of each command, whether a second process is refused at once; else both come out right.
REFUSES: Mapping[tuple[str, str], bool] = {
    ("preprocess", ""): True,
    ("preprocess", "--workers 2"): True,
    ("train", ""): True,
    ("export-onnx", ""): False,
    ("predict", ""): True,
    ("predict", "--workers 2"): True,
    ("evaluate", ""): True,
    ("cross-validate", ""): True,
}
_TIMES = 5


def two_processes(
    line: Line, plan: Mapping[tuple[str, str], bool] = REFUSES, times: int = _TIMES
) -> Iterator[Outcome]:
    """Give the outcome of each command of a plan, begun twice so many times."""
    for (command, more), refuses in plan.items():
        yield begun_twice(line, command, more.split(), refuses, times)


def begun_twice(
    line: Line, command: str, more: Sequence[str], refuses: bool, times: int
) -> Outcome:
    """Begin a command, and again while it runs: at once, and at random moments."""
    chance = random.Random(f"{command} {' '.join(more)}")
    lasts_s = duration(line, command, more, line.fresh(f"two-{command}"))
    lost, refused = [], 0
    for number in range(times):
        folder = line.fresh(f"two-{command}")
        other = line.fresh(f"two-{command}-other")
        (other / "out").symlink_to(folder / "out")  # so that both print elsewhere
        moment_s = chance.uniform(0, 0.7 * lasts_s) if number else 0.0
        first = begin(line, command, more, folder)
        first.wait(moment_s)
        second = begin(line, command, more, other)
        codes = first.wait(), second.wait()
        refused += sum(code != 0 for code in codes)
        said = _wrong(codes, (first, second), refuses)
        if said := said or finish(line, command, more, folder)[1]:
            lost.append(f"{moment_s:.3f} s after the first: {said}")
    kept = "the second is refused at once" if refuses else "both come out right"
    fault = " ".join(["two at once", *(f"with {word}" for word in [" ".join(more)] if word)])
    return Outcome(fault, command, times, tuple(lost), f"{kept}; {refused} were refused")


def _wrong(
    codes: tuple[int | None, int | None], children: tuple[Child, Child], refuses: bool
) -> str:
    for child, code in zip(children, codes, strict=True):
        if code is None:
            child.kill()
            child.wait()
            return "hangs"
        if code == 0:
            continue
        if not refuses:
            return f"exit code {code}: {child.words}"
        if said := unclear(code, child.said.read_text("utf-8", "replace"), (REFUSED, "already")):
            return said
    return "" if 0 in codes else f"neither is done: {children[0].words}; {children[1].words}"
