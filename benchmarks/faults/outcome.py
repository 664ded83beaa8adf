"""What came of faults, as a table and as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_SHOWN = 400  # letters of what was lost; JSON has all of it
_COLUMNS = ("fault", "command", "injected", "survived", "lost")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one kind of fault in one command.

    Parameters
    ----------
    fault : str
    command : str
    injected : int
        How many times it struck.
    lost : tuple of str
        For each time that was not survived, which it was and what went wrong.
    note : str
        What else is to be said, such as what was left out and why.
    """

    fault: str
    command: str
    injected: int
    lost: tuple[str, ...] = ()
    note: str = ""

    @property
    def survived(self) -> int:
        """How many times nothing was lost."""
        return self.injected - len(self.lost)


def table(outcomes: Iterable[Outcome]) -> str:
    """Return a Markdown table with its totals, then what was lost and what is noted."""
    outcomes = list(outcomes)
    total = Outcome(
        "all", "", sum(o.injected for o in outcomes), tuple(why for o in outcomes for why in o.lost)
    )
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---|---|---:|---:|---:|"]
    for each in [*outcomes, total]:
        figures = f"{each.injected} | {each.survived} | {len(each.lost)}"
        lines.append(f"| {each.fault} | {each.command} | {figures} |")
    lines += [""] * bool(total.lost)
    lines += [
        f"- lost: {o.command}, {o.fault}: {' '.join(why.split())[:_SHOWN]}"
        for o in outcomes
        for why in o.lost
    ]
    notes = dict.fromkeys(f"- {o.command}, {o.fault}: {o.note}" for o in outcomes if o.note)
    lines += ["", *notes] if notes else []
    return "\n".join(lines) + "\n"


def save(outcomes: Iterable[Outcome], path: Path) -> None:
    """Write outcomes as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Outcome]:
    """Read what `save` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Outcome(**{**each, "lost": tuple(each["lost"])}) for each in found]
