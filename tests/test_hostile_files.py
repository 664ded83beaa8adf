"""What files of others say is never run, followed or made a path; and docs/security.md says so."""

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import Vol3dSegError
from vol3dseg.inference.record import load_record
from vol3dseg.preprocessing.index import load_index

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for folder in ("src", "cli", "export") for p in (ROOT / folder).rglob("*.py"))


# ---------------------------------------------------------------- JSON

HARMED = [
    pytest.param(b"[" * 10**6, "nested too deep", id="a million brackets"),
    pytest.param(b'{"a":' * 10**6, "nested too deep", id="a million braces"),
    pytest.param(b'{"version": ' + b"1" * 10**7 + b"}", "a number of 10000000 digits", id="digits"),
    pytest.param(b'{"version": 1, "version": 1}', "'version' is there twice", id="twice"),
    pytest.param(b'{"version": NaN}', "version", id="NaN"),
    pytest.param(b'{"version": 1e400}', "version", id="infinity"),
    pytest.param(b'{"\xff": 1}', "no text in UTF-8", id="no text"),
    pytest.param(b'{"\\ud800": 1}', "expected text, found", id="half a character"),
    pytest.param(b'{"__class__": "os.system"}', "unknown key '__class__'", id="a class"),
]
READERS = {
    "index.json": lambda path: load_index(path.parent),
    "predictions.json": lambda path: load_record(path.parent),
    "split.json": read_split,
}


@pytest.mark.hostile
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("content", "message"), HARMED)
def test_hostile_json_is_refused(content, message, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Vol3dSegError) as caught:
        READERS[name](path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert message in told
    assert told.isprintable()
    assert len(told) < 1500


# ---------------------------------------------------------------- DICOM


@pytest.mark.hostile
def test_no_value_of_a_header_becomes_a_path(tmp_path, dicom_series, model_path, vol3dseg):
    """Each text that might name a file or a folder names one above."""
    evil = "../../evil"
    array = np.arange(24 * 20 * 18, dtype=np.int16).reshape(24, 20, 18)
    tags = ("PatientID", "StudyID", "AccessionNumber", "StationName", "ProtocolName")
    for name in ("flair", "t1"):
        folder = tmp_path / "scans" / "Case_001" / name
        folder.mkdir(parents=True)
        series = dicom_series(
            array, SeriesDescription=f"{evil}_{name}", **dict.fromkeys(tags, evil),
            PatientName=evil, SeriesInstanceUID=f"1.2.{len(name)}",
        )  # fmt: skip
        for number, each in enumerate(series):
            each.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "a" / "b" / "out"
    done = vol3dseg("predict", model_path, tmp_path / "scans", "-o", out)
    assert done.returncode == 0, done.stderr
    made = set(tmp_path.rglob("*")) - before
    assert made
    assert all(out in (path, *path.parents) or path in out.parents for path in made)
    assert not [path for path in made if "evil" in path.name]


# ---------------------------------------------------------------- our own code

MODULES = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "imp"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    *("extractall", "extract", "unpack_archive", "register_custom_ops_library"),
    *("enable_unsafe_deserialization", "unsafe_load", "full_load", "load_external_data_for_model"),
}
SAFE = {"allow_pickle": False, "safe_mode": True, "weights_only": True, "shell": False}


def unsafe(tree):
    """What would run code, or unpack what a file holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from {alias.name.split(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            yield from {(node.module or "").split(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            yield from {getattr(node.func, "id", "")} & BUILTINS
            yield from {getattr(node.func, "attr", "")} & METHODS
            said = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
            yield from (name for name in SAFE.keys() & said if said[name] is not SAFE[name])


@pytest.mark.hostile
def test_nothing_here_runs_what_a_file_says():
    found = {
        path.name: set(unsafe(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES
    }
    assert {name: said for name, said in found.items() if said} == {}


# ---------------------------------------------------------------- the table


def marked():
    """All tests that are marked as attacks."""
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        whole = "pytestmark" in ast.dump(tree) and any(
            "mark.hostile" in ast.unparse(node)
            for node in tree.body
            if isinstance(node, ast.Assign)
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                single = any("mark.hostile" in ast.unparse(each) for each in node.decorator_list)
                if whole or single:
                    yield path.name, node.name, single


def test_the_page_names_every_attack():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = page.partition("## Attacks that are made")[2].partition("\n# ")[0]
    named, file = set(), ""
    for cell in re.findall(r"`(test_\w+\.py|)::(test_\w+)`", table):
        file = cell[0] or file
        named.add((file, cell[1]))
    every = {(file, test) for file, test, _ in marked()}
    assert named <= every, "named, and no test that is marked as hostile"
    alone = {(file, test) for file, test, single in marked() if single or "hostile" in file}
    assert alone <= named, "marked as hostile, and not in the table"
    for row in table.splitlines():
        if row.startswith("| ") and not row.startswith("| attack"):
            assert "::" in row, row


def test_mutants_that_change_nothing_stand_in_their_modules():
    """And so do the tests by which others die."""
    known = tomllib.loads((ROOT / "benchmarks" / "equivalent_mutants.toml").read_text("utf-8"))
    tried = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["vol3dseg"]
    for each in known["equivalent"]:
        lines = (ROOT / "src" / "vol3dseg" / each["module"]).read_text("utf-8").splitlines()
        assert each["line"] in map(str.strip, lines), each
        assert each["why"]
    for module, tests in tried["mutants"]["modules"].items():
        assert (ROOT / "src" / "vol3dseg" / module).is_file()
        for test in tests:
            assert test == "--noconftest" or (ROOT / test.partition("::")[0]).is_file(), test
