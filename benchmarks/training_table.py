"""Training loops as a table: seconds, samples, arithmetic against matrices, starvation."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import Measured
from benchmarks.table import Row, ratio

_HEAD = (
    "training step", "s", "samples/s", "x nnU-Net", "x MONAI", "GFLOP/s", "of the peak",
    "starvation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loop:
    """What one training loop did, by rounds.

    Parameters
    ----------
    name : str
    batch : int
        Patches of a step.
    precision : str
    rounds : sequence of mappings
        step_s, gflop (of a patch), gflops (of matrices, by precision); fed_s where there are data.
    problem : str
        Why there is nothing; empty where there is.
    """

    name: str
    batch: int
    precision: str
    rounds: Sequence[Mapping[str, Any]]
    problem: str = ""

    @classmethod
    def of(cls, entry: Measured, batch: int) -> "Loop":
        """Return what was measured of a contestant."""
        facts = [reply.facts for reply in entry.replies]
        asked = str(entry.contestant.settings["precision"])
        chosen = str(facts[0].get("precision", asked)) if facts else asked  # of ours, "auto"
        return cls(entry.contestant.name, batch, chosen, facts, entry.problem)

    @property
    def row(self) -> Row:
        """Its steps, for ratios [s]."""
        return Row(self.name, "", tuple(found["step_s"] for found in self.rounds))

    @property
    def gflops(self) -> float:
        """What its convolutions compute [GFLOP/s]."""
        return self._median(lambda found: self.batch * found["gflop"] / found["step_s"])

    @property
    def of_peak(self) -> float:
        """The same over the multiplication of matrices in the same process and precision."""
        return self._median(
            lambda found: (
                self.batch * found["gflop"] / found["step_s"] / found["gflops"][self.precision]
            )
        )

    @property
    def starvation(self) -> float | None:
        """A step with real data over one with a constant batch; None where there are no data."""
        if "fed_s" not in self.rounds[0]:
            return None
        return self._median(lambda found: found["fed_s"] / found["step_s"])

    def _median(self, figure: Any) -> float:
        return float(statistics.median(figure(found) for found in self.rounds))


def training_table(title: str, loops: Sequence[Loop], baselines: Sequence[str]) -> str:
    """Return loops as a Markdown table; `baselines` are names, in the order of its columns."""
    able = {loop.name: loop for loop in loops if not loop.problem}
    lines = [_line(_HEAD), _line(["---", *["---:"] * (len(_HEAD) - 1)])]
    for loop in able.values():
        times = [f"{ratio(able[n].row, loop.row):.2f}" if n in able else "-" for n in baselines]
        hunger = "-" if loop.starvation is None else f"{loop.starvation:.2f}"
        step_s = loop.row.median
        figures = [f"{step_s:.3f}", f"{loop.batch / step_s:.2f}", *times]
        figures += [f"{loop.gflops:.0f}", f"{loop.of_peak:.0%}", hunger]
        lines.append(_line([loop.name, *figures]))
    missing = [f"- left out: {loop.name}: {loop.problem}" for loop in loops if loop.problem]
    return "\n".join([f"## {title}", "", *lines, *([""] * bool(missing)), *missing]) + "\n"


def peaks(loops: Sequence[Loop]) -> str:
    """Return the speed of matrices that each kind of loop found, medians of its rounds."""
    found: dict[str, list[float]] = {}
    for loop in loops:
        for facts in loop.rounds:
            for precision, gflops in facts["gflops"].items():
                found.setdefault(f"{loop.name.split(',')[0]} {precision}", []).append(gflops)
    said = ", ".join(f"{name} {statistics.median(every):.0f}" for name, every in found.items())
    return f"- multiplication of matrices [GFLOP/s]: {said}\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
