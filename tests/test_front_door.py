"""The front door: what stands in it, what it costs, and that the page of docs lists it."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vol3dseg as package

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in package.__all__ if name != "__version__"]
TRAINED = {"train", "export_onnx"}  # whose modules import TensorFlow
REPORTING = {"check"}  # which returns what is wrong and raises nothing


def found(name):
    if name in TRAINED:
        pytest.importorskip("tensorflow")
    return getattr(package, name)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_there_and_says_what_it_is(name):
    thing = found(name)
    assert thing.__name__ == name
    text = inspect.getdoc(thing)
    assert text
    if inspect.isfunction(thing):
        assert "Parameters\n----------" in text
        assert ("Raises\n------" in text) == (name not in REPORTING)
        for argument in inspect.signature(thing).parameters:
            assert re.search(rf"^{argument}\b|\b{argument}\b.* : ", text, re.MULTILINE), argument


@pytest.mark.parametrize("name", NAMES)
def test_the_page_lists_it(name):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert f"`{name}" in page


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = package.segment_everything


def test_types_and_names_agree():
    """What type checkers see is what is there."""
    source = (ROOT / "src" / "vol3dseg" / "__init__.py").read_text(encoding="utf-8")
    checked = re.findall(r"^    from (\S+) import (\w+) as \2$", source, re.MULTILINE)
    assert {name: home for home, name in checked} == package._HOMES


def test_a_name_brings_no_more_than_it_needs():
    code = "import vol3dseg, sys; vol3dseg.find_cases; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
