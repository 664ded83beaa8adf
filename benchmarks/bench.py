"""What the sections of the comparison share: the case, the workers' host, what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import rows
from benchmarks.measuring import Host, Measured, measure
from benchmarks.referee import Referee
from benchmarks.rows import Contestant, Given
from benchmarks.table import Row, Section
from benchmarks.workers import Worker
from vol3dseg.datasets.case import Case

Done = Mapping[str, Section]  # by title


@dataclass(frozen=True, slots=True)
class Bench:
    """What all sections need.

    Parameters
    ----------
    given : Given
    referee : Referee
    cases : sequence of Case
        Of the data set.
    rounds : int
    host : Host
    versions : dict
        By environment; filled in by the sections.
    """

    given: Given
    referee: Referee
    cases: Sequence[Case]
    rounds: int
    host: Host
    versions: dict[str, dict[str, str]]

    def measure(self, contestants: Sequence[Contestant], **options: Any) -> list[Measured]:
        """Let contestants run in turn, and remember the versions of their packages."""
        found = measure(contestants, options.pop("rounds", self.rounds), self.host, **options)
        for each in found:
            self.versions.setdefault(each.contestant.environment, {}).update(each.versions)
        return found

    def peak_mb(self, contestant: Contestant, section: Section | None) -> float | None:
        """Return the peak of a contestant [MB], from a section if it is there, else measured now.

        None where the contestant cannot run.
        """
        row = section.row(contestant.name) if section else None
        if row is not None:
            return row.peak_mb
        (found,) = self.measure([contestant], rounds=1)
        return None if found.problem else found.peak_mb


def make_reference(bench: Bench) -> None:
    """Let the twin in torch say what it finds in the image and in the patch."""
    folder = bench.given.work

    def keep(contestant: Contestant, worker: Worker) -> dict[str, Any]:
        worker.ask("answer", file=str(folder / "reference.npy"))
        patch = str(folder / "reference-patch.npy")
        worker.ask("patch", image=str(folder / "patch.npy"), file=patch)
        return {}

    bench.measure([rows.reference(bench.given)], rounds=0, finish=keep)


def kept(table: Sequence[Row], limit_mb: float) -> list[str]:
    """Return how ours kept to a limit, in words."""
    return [
        f"{row.name}: {row.peak_mb / limit_mb:.0%} of the limit at its peak"
        for row in table
        if row.peak_mb is not None and row.name.startswith("ours")
    ]
