"""Each call of a kind fails once, in turn, in each of six commands."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults.control import FAULTS, Fault, Kind, Mode, build_shim
from benchmarks.faults.judging import broken, complaint, is_postponed, unfinished
from benchmarks.faults.line import COMMANDS, OUT, Line
from benchmarks.faults.outcome import Outcome
from benchmarks.faults.server import Ended, Server

_RANDOM = re.compile(r"(\.vol3dseg-tmp-|/tmp/tmp|generated_file)[0-9a-z_]+")
# What is drawn from results that are written already; they are worth no failure.
PAGES = ("report.html", "training.html", "strip.json")
# These start TensorFlow, some ten seconds for each try: of calls that are alike, the first alone,
# and of those every so many-th. What they write, they write by the same code as the others.
_SLOW = {"train": 3, "export-onnx": 3, "cross-validate": 12}


def inject(
    line: Line,
    commands: Sequence[str] = tuple(COMMANDS),
    faults: Sequence[Fault] = FAULTS,
    every: int = 1,
) -> Iterator[Outcome]:
    """Let calls fail, and give what came of each kind of fault in each command.

    Parameters
    ----------
    line : Line
    commands, faults : sequence
        Which.
    every : int
        Of the calls that would be chosen, every so many-th.
    """
    place = line.folder.parent / "servers"
    shim = build_shim(place)
    for command in commands:
        with Server(command, line.folder, shim, place / command) as server:
            tries = _Tries(line, server, command)
            for fault in faults:
                yield tries.outcome(fault, every)


class _Tries:
    """One command, tried again and again."""

    def __init__(self, line: Line, server: Server, command: str) -> None:
        self._line, self._server, self._command = line, server, command
        self._logs: dict[Kind, list[str]] = {}

    def outcome(self, fault: Fault, every: int) -> Outcome:
        """Let one call after the other fail."""
        calls = self._calls(fault.kinds)
        slow = _SLOW.get(self._command, 0)
        chosen = _chosen(calls, first_only=bool(slow))[:: every * (slow or 1)]
        struck, lost = 0, []
        for nth in chosen:
            folder = self._line.fresh(f"{self._command}-{re.sub('[^a-z]+', '-', fault.name)}-{nth}")
            ended = self._run(folder, fault, nth)
            struck += bool(ended.hit)
            reasons = list(self._lost(folder, fault, ended)) if ended.hit else []
            if reasons:  # the folder stays, to be looked at
                where = ended.hit.replace(f"{self._line.folder}/", "")
                lost.append(f"{nth} ({where}): {'; '.join(reasons)}")
            else:
                shutil.rmtree(folder)
        note = "" if len(chosen) == len(calls) else f"{len(chosen)} of {len(calls)} calls"
        return Outcome(fault.name, self._command, struck, tuple(lost), note)

    def _calls(self, kinds: Kind) -> list[str]:
        """Return the calls of these kinds in an undisturbed run, in order."""
        if kinds not in self._logs:
            folder = self._line.fresh(f"{self._command}-counted")
            log = self._line.folder.parent / f"calls-{self._command}"
            log.unlink(missing_ok=True)
            ended = self._run(folder, Fault("none", kinds), 0, log)
            different = self._line.differences(self._command, folder)
            if ended.code or different:
                raise RuntimeError(f"{self._command} undisturbed: {different} {ended.said}")
            text = log.read_text(encoding="utf-8") if log.exists() else ""
            self._logs[kinds] = [_RANDOM.sub(r"\1", call) for call in text.splitlines()]
            shutil.rmtree(folder)
        return self._logs[kinds]

    def _run(
        self, folder: Path, fault: Fault | None = None, nth: int = 0, log: Path | None = None
    ) -> Ended:
        words = self._line.words(self._command, folder)
        return self._server.run(words, folder, fault, nth, log)

    def _harmless(self, folder: Path, fault: Fault, said: str) -> bool:
        """Tell whether a command was right to go on: only pages lack something, and it says so."""
        found = {*self._line.differences(self._command, folder)}
        told = fault.cause in said
        return not found or (told and found <= {f"{page} is another" for page in PAGES})

    def _lost(self, folder: Path, fault: Fault, ended: Ended) -> Iterator[str]:
        """Give what is wrong after a fault, and after the same command again."""
        out, killed = folder / OUT, fault.mode == Mode.KILL
        if not killed and not (ended.code == 0 and self._harmless(folder, fault, ended.said)):
            yield from complaint(ended.code, ended.said, fault.cause)
        if not killed:
            yield from unfinished(folder)
        yield from broken(out)
        again = self._run(folder)
        if killed and again.code == 1 and is_postponed(again.said):
            again = self._run(folder)
        if again.code != 0:
            yield f"again: exit code {again.code}: {' '.join(again.said.split())[-500:]}"
        else:
            yield from (f"again: {what}" for what in unfinished(folder))
            for what in self._line.differences(self._command, folder):
                yield f"again: {what}"


def _chosen(calls: Sequence[str], first_only: bool) -> list[int]:
    """Return which calls are to fail, counted from 1.

    Of calls in a row that are the same on the same file, such as reads of its parts, the first and
    the last; or, of all that are the same wherever they stand, the first alone.
    """
    if first_only:
        return [n for n, call in enumerate(calls, 1) if call not in calls[: n - 1]]
    around = zip(["", *calls], calls, [*calls[1:], ""], strict=False)
    return [n for n, (a, b, c) in enumerate(around, 1) if b != a or b != c]
