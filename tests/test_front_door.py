"""The front door: what stands in it, what it costs, and that the page of docs lists it."""

import collections.abc
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import vol3dseg as package
from vol3dseg.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in package.__all__ if name != "__version__"]
TRAINED = {"train", "train_locator", "export_onnx"}  # whose modules import TensorFlow


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
        assert "Raises\n------" in text
        for argument in inspect.signature(thing).parameters:
            assert re.search(rf"^{argument}\b|\b{argument}\b.* : ", text, re.MULTILINE), argument


def takes(annotation):
    """The types that an annotation names, at any depth; what a callable takes is given to it."""
    if typing.get_origin(annotation) is collections.abc.Callable:
        return [annotation]
    inner = annotation if isinstance(annotation, list) else typing.get_args(annotation)
    return [annotation, *(each for part in inner for each in takes(part))]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_may_be_text(name):
    """Of what is public, and of the methods of what that hands out."""
    thing = found(name)
    handed = takes(typing.get_type_hints(thing).get("return")) if inspect.isfunction(thing) else ()
    ours = [each for each in (thing, *handed) if "vol3dseg" in getattr(each, "__module__", "")]
    methods = [m for each in ours if inspect.isclass(each) for m in vars(each).values()]
    for function in filter(inspect.isfunction, [*ours, *methods]):
        if function.__name__.startswith("_"):
            continue
        for argument, annotation in typing.get_type_hints(function).items():
            if argument != "return" and Path in takes(annotation):
                assert str in takes(annotation), f"{function.__qualname__}: {argument}"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_a_function(name):
    """One call a step, whatever the step."""
    names = {
        "compare": "compare_folders", "corrections": "collect_corrections", "info": "describe",
        "show": "draw_files",
        "split": "write_split", "demo": "train", "adopt": "adopt_nnunet",
    }  # fmt: skip
    assert inspect.isfunction(found(names.get(name, name.replace("-", "_"))))


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
