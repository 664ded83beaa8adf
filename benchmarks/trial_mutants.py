"""Take each check away once, in a copy of the sources, and see whether a test notices.

python -m benchmarks.trial_mutants [MODULE ...] [--survivors] [--output FOLDER]

Modules and the tests that are to notice stand in pyproject.toml, [tool.vol3dseg.mutants], and what
changes nothing in equivalent_mutants.toml. A mutant is tried in a process forked from one that has
imported everything, with those tests that run through its lines, the quickest first. It is killed
when one of them fails, or takes far longer than all do without it.
"""

import argparse
import ast
import io
import json
import os
import shutil
import signal
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from benchmarks.mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[1]
_OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--assert=plain")
_KILLED, _SURVIVED, _SLOW = "killed", "survived", "took too long"
_FIRST_SECONDS = 900.0  # that all tests of a module may take without a mutant
_NEVER = ("tests", "conftest", "_pytest", "pytest", "tensorflow", "keras", "__main__")


@dataclass(frozen=True, slots=True)
class Ran:
    """A test that passed without a mutant."""

    name: str
    seconds: float
    lines: list[int]  # of the module that it ran through


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a mutant."""

    operator: str
    number: int  # of the line
    line: str
    mutant: str  # what stands there in its place
    came: str


class Watcher:
    """Pytest's plugin that notes through which lines of a file each test runs."""

    def __init__(self, file: Path) -> None:
        self.file, self.ran, self._lines = str(file), list[Ran](), set[int]()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> None:
        """Begin a test, with its fixtures."""
        self._lines, self._name = set(), item.nodeid
        self._started = time.perf_counter()
        sys.settrace(self._called)

    def pytest_runtest_logfinish(self) -> None:
        """End a test."""
        sys.settrace(None)
        seconds = time.perf_counter() - self._started
        self.ran.append(Ran(self._name, seconds, sorted(self._lines)))

    def _called(self, frame: FrameType, event: str, value: object) -> Any:
        del event, value
        return self._line if frame.f_code.co_filename == self.file else None

    def _line(self, frame: FrameType, event: str, value: object) -> Any:
        del event, value
        self._lines.add(frame.f_lineno)
        return self._line


def main(words: list[str]) -> int:
    """Try all mutants of the modules that are named, or of all, and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--output", type=Path, default=ROOT / "trials" / "mutants")
    parser.add_argument("--survivors", action="store_true", help="try only those of the last run")
    asked = parser.parse_args(words)
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["vol3dseg"]["mutants"]
    known = tomllib.loads((ROOT / "benchmarks" / "equivalent_mutants.toml").read_text())
    tree = _copy(asked.output)
    for name in asked.modules or config["modules"]:
        report = asked.output / f"{Path(name).stem}.json"
        last = [Tried(**each) for each in json.loads(report.read_text())] if asked.survivors else []
        tried = try_module(tree, name, config["modules"][name], report, last)
        report.write_text(json.dumps([asdict(each) for each in tried], indent=1))
        equal = {(e["line"], e["mutant"]) for e in known["equivalent"] if e["module"] == name}
        _print(name, tried, equal)
    return 0


def _copy(output: Path) -> Path:
    """Return a folder with sources and tests, in which the package lies as it is installed."""
    tree = (output / f"tree-{os.getpid()}").absolute()
    tree.mkdir(parents=True)
    skipped = shutil.ignore_patterns("__pycache__")
    places = {"src/vol3dseg": "vol3dseg", "cli": "vol3dseg/cli", "export": "vol3dseg/export"}
    places |= {"configs": "vol3dseg/configs", "tests": "tests", "docs": "docs"}
    for source, target in places.items():
        shutil.copytree(ROOT / source, tree / target, ignore=skipped, dirs_exist_ok=True)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, tree / name)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    return tree


def try_module(
    tree: Path, name: str, tests: list[str], report: Path, last: list[Tried]
) -> list[Tried]:
    """Return what came of each mutant of a module; with `last`, of those that then survived."""
    place = tree / "vol3dseg" / name
    source, ran = place.read_text(), _without_mutants(place, tests)
    options = [each for each in tests if each.startswith("-")]
    for cache in (place.parent / "__pycache__").glob(f"{place.stem}.*"):
        cache.unlink()  # which would be taken for the mutant
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    again, tried = {_key(each) for each in last if each.came != _KILLED}, list[Tried]()
    for mutant in mutants_of(source):
        said = Tried(mutant.operator, mutant.place[0][0], *_changed(mutant, source), came=_KILLED)
        if last and _key(said) not in again:
            continue
        place.write_text(mutant.code)
        chosen = _through(ran, mutant)
        code = _forked(
            [*options, *(each.name for each in chosen)],
            10 + 4 * sum(each.seconds for each in chosen),
            lambda mutant=mutant: _put_in(name, source, mutant),
        )
        came = {0: _SURVIVED, None: _SLOW}.get(code, _KILLED)
        tried.append(Tried(said.operator, said.number, said.line, said.mutant, came))
        if came != _KILLED:
            sys.stdout.write(f"{name}:{said.number} {came}: {said.line}  ->  {said.mutant}\n")
            sys.stdout.flush()
    place.write_text(source)
    os.environ.pop("PYTHONDONTWRITEBYTECODE")
    sys.dont_write_bytecode = False
    return tried


def _key(tried: Tried) -> tuple[str, str, str]:
    return tried.operator, tried.line, tried.mutant


def _without_mutants(place: Path, tests: list[str]) -> list[Ran]:
    """Run the tests of a module once, and import here what they import."""
    said, watcher = Path(f"{place}.ran"), Watcher(place)

    def note() -> None:
        ran, modules = [asdict(each) for each in watcher.ran], list(sys.modules)
        said.write_text(json.dumps({"ran": ran, "modules": modules}))

    code = _forked(tests, _FIRST_SECONDS, done=note, watcher=watcher)
    if code != 0:
        raise SystemExit(f"{place}: its tests fail without a mutant, or take too long ({code})")
    found = json.loads(said.read_text())
    for module in found["modules"]:
        if not module.startswith(_NEVER):
            with suppress(Exception):
                import_module(module)
    return [Ran(**each) for each in found["ran"]]


def _changed(mutant: Mutant, source: str) -> tuple[str, str]:
    """Return the first line of a module that a mutant changes, and what it becomes."""
    pairs = zip(source.splitlines(), [*mutant.code.splitlines(), ""], strict=False)
    return next((a.strip(), b.strip()) for a, b in pairs if a != b)


def _through(ran: Iterable[Ran], mutant: Mutant) -> list[Ran]:
    """Return the tests that run through a mutant; all, where none is seen to."""
    quick = sorted(ran, key=lambda each: each.seconds)
    (first, _), (last, _) = mutant.place
    return [each for each in quick if {*each.lines} & {*range(first, last + 1)}] or quick


def _forked(
    tests: list[str],
    most: float,
    begin: Callable[[], None] | None = None,
    done: Callable[[], None] | None = None,
    watcher: Watcher | None = None,
) -> int | None:
    """Return with what pytest ends in a process of its own; None if it takes more than `most` s."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            os.setsid()
            if watcher is None:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.dup2(nowhere, 2)
                sys.stdout = sys.stderr = io.StringIO()
            if begin:
                begin()
            plugins = [watcher] if watcher else []
            code = pytest.main([*_OPTIONS, "-m", "not slow and not train", *tests], plugins)
            if done:
                done()
        except BaseException:  # noqa: BLE001 - of a mutant, of which nothing may come back here
            traceback.print_exc()
        os._exit(code)
    until = time.monotonic() + most
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _put_in(name: str, source: str, mutant: Mutant) -> None:
    """Make what is imported a mutant: in place where it is in a function, else from its file."""
    module = f"vol3dseg.{name.removesuffix('.py').replace('/', '.')}"
    if not _in_a_function(ast.parse(source), mutant):
        for other in [each for each in sys.modules if each.split(".")[0] == "vol3dseg"]:
            del sys.modules[other]
        return
    old, new = sys.modules[module], ModuleType(module)
    new.__file__ = old.__file__
    sys.modules[module] = new  # for dataclasses, which look for it
    exec(compile(mutant.code, str(old.__file__), "exec"), new.__dict__)
    sys.modules[module] = old
    functions = dict(_functions(new))
    for place, function in _functions(old):
        function.__code__ = functions[place].__code__
        function.__defaults__ = functions[place].__defaults__
        function.__kwdefaults__ = functions[place].__kwdefaults__


def _in_a_function(tree: ast.Module, mutant: Mutant) -> bool:
    """Return whether a mutant is in a function that others may have, and can be changed there."""
    plain = {"contextmanager", "property", "classmethod", "staticmethod"}
    first, last = mutant.place[0][0], mutant.place[1][0]
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    for node in [n for owner in [tree, *classes] for n in owner.body]:
        if isinstance(node, ast.FunctionDef) and node.lineno < first and last <= node.end_lineno:
            return all(isinstance(d, ast.Name) and d.id in plain for d in node.decorator_list)
    return False


def _functions(owner: Any, above: str = "") -> Iterator[tuple[str, FunctionType]]:
    """Give the functions of a module or class, also those behind decorators, with their place."""
    for name, value in list(vars(owner).items()):
        module = owner.__module__ if isinstance(owner, type) else owner.__name__
        for inner in (value, *(getattr(value, part, None) for part in ("fget", "__func__"))):
            found = getattr(inner, "__wrapped__", inner)
            if isinstance(found, FunctionType) and found.__module__ == module:
                yield f"{above}{name}", found
        if isinstance(value, type) and value.__module__ == module and not above:
            yield from _functions(value, f"{name}.")


def _print(name: str, tried: list[Tried], equal: set[tuple[str, str]]) -> None:
    left = [each for each in tried if each.came == _SURVIVED]
    same = [each for each in left if (each.line, each.mutant) in equal]
    killed, judged = len(tried) - len(left), len(tried) - len(same)
    sys.stdout.write(
        f"{name}: {len(tried)} mutants, {killed} killed, {len(same)} equivalent, "
        f"{len(left) - len(same)} survived: {killed / max(judged, 1):.1%}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
