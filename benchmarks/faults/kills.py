"""`kill -9` at random moments of each command; then the same command again."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.faults.ending import begin, finish
from benchmarks.faults.line import Line
from benchmarks.faults.outcome import Outcome

# Of each command, with options beside its own: how many times it is killed.
KILLS: Mapping[tuple[str, str], int] = {
    ("preprocess", ""): 36,
    ("preprocess", "--workers 2"): 24,
    ("train", ""): 24,
    ("export-onnx", ""): 20,
    ("predict", ""): 36,
    ("predict", "--workers 2"): 24,
    ("evaluate", ""): 24,
    ("cross-validate", ""): 12,
}


def kills(line: Line, plan: Mapping[tuple[str, str], int] = KILLS) -> Iterator[Outcome]:
    """Give the outcome of each command of a plan."""
    for (command, more), times in plan.items():
        yield killed(line, command, more.split(), times)


def killed(line: Line, command: str, more: Sequence[str], times: int) -> Outcome:
    """Kill a command so many times while it runs, each time from the beginning.

    Every second time its workers live on, and may still be writing when it is given again.
    """
    chance = random.Random(f"{command} {' '.join(more)}")
    lasts_s = duration(line, command, more, line.fresh(f"kill-{command}"))
    lost, struck, runs = [], 0, 0
    while struck < times:
        folder = line.fresh(f"kill-{command}")
        child, moment_s = begin(line, command, more, folder), chance.uniform(0, lasts_s)
        if child.wait(moment_s) is not None:
            lasts_s *= 0.9  # it had ended before
            continue
        child.kill(group=struck % 2 == 0)
        child.wait()
        struck += 1
        again, said = finish(line, command, more, folder)
        runs += again
        if said:
            lost.append(f"kill {struck}, {moment_s:.3f} s after it began: {said}")
    fault = " ".join(["kill -9", *(f"with {word}" for word in [" ".join(more)] if word)])
    often = f"done after {runs / times:.2f} more runs on average"
    return Outcome(fault, command, times, tuple(lost), often)


def duration(line: Line, command: str, more: Sequence[str], folder: Path) -> float:
    """Return how long a command takes that nothing disturbs [s]."""
    started = time.monotonic()
    child = begin(line, command, more, folder)
    if child.wait() != 0:
        raise RuntimeError(f"{command} fails undisturbed: {child.words}")
    if said := line.differences(command, folder):
        raise RuntimeError(f"{command} differs undisturbed: {said}")
    return time.monotonic() - started
