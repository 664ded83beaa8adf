"""What was measured, as Markdown and as JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vol3dseg.files import write_text


@dataclass(frozen=True, slots=True)
class Row:
    """What one contestant did.

    Parameters
    ----------
    name : str
    environment : str
        Of `.bench/` that it ran in.
    seconds : tuple of float
        One for each round, warm [s].
    first : float or None
        The first run in a new process [s].
    peak_mb : float or None
        Largest of all rounds [MB].
    agreement : float or None
        Share of voxels with the label of the reference; None where it is not known.
    asked : mapping from baseline to float
        How many times as fast as a baseline this row should be.
    facts : mapping
        What else is known of it: the plan, stages, largest difference of the network's output.
    problem : str
        Why there is nothing; empty where there is.
    failed : bool
        Whether that is a failure, and not only an environment that nobody has made.
    outcome : str
        What stands in place of figures, where not coming to an end is what was found out.
    """

    name: str
    environment: str
    seconds: tuple[float, ...] = ()
    first: float | None = None
    peak_mb: float | None = None
    agreement: float | None = None
    asked: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    failed: bool = False
    outcome: str = ""

    @property
    def median(self) -> float:
        """Median of all rounds [s]."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that were measured in turn, and what they are compared with.

    Parameters
    ----------
    title : str
    rows : sequence of Row
    baselines : sequence of str
        Names of rows.
    notes : sequence of str
        Lines below the table.
    """

    title: str
    rows: Sequence[Row]
    baselines: Sequence[str] = ()
    notes: Sequence[str] = ()

    def row(self, name: str) -> Row | None:
        """Return a row that has figures, by name."""
        return next((row for row in self.rows if row.name == name and row.seconds), None)


def ratio(baseline: Row, row: Row) -> float:
    """Return how many times as fast a row is as a baseline.

    The median over rounds of the ratio within a round: what slows the machine down for a while
    slows both.
    """
    pairs = zip(baseline.seconds, row.seconds, strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def markdown(section: Section) -> str:
    """Return a section as a Markdown table with a title and notes."""
    against = [name for name in section.baselines if section.row(name)]
    head = ["contestant", "median [s]", "least [s]", *(f"x {name}" for name in against)]
    head += ["asked", "peak [MB]", "agreement", "how"]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 2), "---"])]
    for row in section.rows:
        if row.seconds:
            lines.append(_line(_cells(row, section, against)))
        elif row.outcome:
            lines.append(_line([row.name, *["-"] * (len(head) - 2), row.outcome]))
    missing = [f"- left out: {row.name}: {row.problem}" for row in section.rows if row.problem]
    notes = [f"- {note}" for note in section.notes]
    blocks = [f"## {section.title}", "\n".join(lines), "\n".join([*notes, *missing])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def stages(section: Section) -> str:
    """Return the stages of every row that tells them, as a Markdown table; empty if none does."""
    rows = [row for row in section.rows if row.facts.get("stages")]
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row.facts["stages"]))
    lines = [_line(["median [s]", *names, "other", "all but infer"])]
    lines.append(_line(["---", *["---:"] * (len(names) + 2)]))
    for row in rows:
        found = row.facts["stages"]
        other = row.median - sum(found.values())
        beside = 1 - found.get("infer", 0) / row.median
        cells = [f"{found.get(name, 0):.3f}" for name in names]
        lines.append(_line([row.name, *cells, f"{other:.3f}", f"{beside:.0%}"]))
    return "\n".join(lines) + "\n"


def _cells(row: Row, section: Section, against: Sequence[str]) -> list[str]:
    ratios = {name: ratio(base, row) for name in against if (base := section.row(name))}
    asked = [
        f"{times:g} x {name}: {'reached' if ratios[name] >= times else 'missed'}"
        for name, times in row.asked.items()
        if name in ratios
    ]
    peak = "-" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    agreement = "-" if row.agreement is None else f"{100 * row.agreement:.4f} %"
    times = [f"{ratios[name]:.2f}" for name in against]
    figures = [f"{row.median:.3f}", f"{min(row.seconds):.3f}", *times]
    how = row.facts.get("how", "")
    return [row.name, *figures, "; ".join(asked) or "-", peak, agreement, how]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_json(path: Path, facts: Mapping[str, Any], sections: Sequence[Section]) -> None:
    """Write sections with the seconds of every round, medians and ratios, and what else is known.

    Parameters
    ----------
    path : Path
    facts : mapping
        Of the machine, versions and whatever holds for all sections.
    sections : sequence of Section
    """
    found = []
    for section in sections:
        data = asdict(section)
        for row, told in zip(section.rows, data["rows"], strict=True):
            bases = {name: section.row(name) for name in section.baselines if row.seconds}
            told["median"] = row.median if row.seconds else None
            told["ratios"] = {name: ratio(base, row) for name, base in bases.items() if base}
        found.append(data)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_text(path, json.dumps({"made": now, **facts, "sections": found}, indent=1) + "\n")
