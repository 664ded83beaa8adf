"""Rules of the house that a machine can hold: sizes, names, errors in parts, light imports."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vol3dseg import errors

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "cli", "export")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MODULES = [path for path in FILES if path.name != "__init__.py"]
OURS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.Vol3dSegError)
}


def length(path):
    return len(path.read_text().splitlines())


def test_no_file_is_longer_than_one_idea():
    long = {str(path.relative_to(ROOT)): length(path) for path in FILES if length(path) > 300}
    assert not long


def test_few_files_are_fragments():
    short = [str(path.relative_to(ROOT)) for path in MODULES if length(path) < 40]
    assert len(short) <= 15, short


def test_no_module_name_stands_twice():
    names = Counter(path.stem for path in MODULES)
    assert not [name for name, count in names.items() if count > 1]


def joined(path):
    """Lines with an error of ours that is given whole, though it has several parts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in OURS and node.args:
            texts = (n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant))
            text = "".join(filter(lambda value: isinstance(value, str), texts))
            if not node.keywords and ("; " in text or "expected" in text):
                yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_are_given_in_parts(path):
    assert not list(joined(path)), "say where=, expected= and remedy="


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        pytest.param("import vol3dseg", ("numpy", "pydantic", "onnx", "click"), id="the package"),
        pytest.param(
            "from vol3dseg.cli.main import cli",
            ("numpy", "pydantic", "onnx", "nibabel", "h5py"),
            id="the command line",
        ),
    ],
)
def test_what_an_import_does_not_bring(statement, absent):
    code = f"{statement}; import sys; print(*[m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
