"""Every requirement has a lower bound, and beside it why it is not lower."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.lowest import PYPROJECT, lower_bound, lowest, requirements

TEXT = PYPROJECT.read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
REQUIRED = [line for line in LINES if Requirement(line).name != PROJECT["name"]]


@pytest.mark.parametrize("line", dict.fromkeys(REQUIRED))
def test_each_has_a_bound_and_a_reason(line):
    assert lower_bound(Requirement(line)) is not None
    beside = re.findall(rf'^    "{re.escape(line)}",(.*)$', TEXT, re.MULTILINE)
    assert len(beside) == REQUIRED.count(line)
    assert all(re.fullmatch(r"  # \S.{6,}", comment) for comment in beside)


def test_the_newest_are_within_the_bounds():
    """Those that the tests have passed with."""
    text = (PYPROJECT.parent / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", text, re.MULTILINE))
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    known = {name: v for name, v in lowest(EXTRAS).items() if name in pinned}
    assert len(known) > 30
    assert {n: v for n, v in known.items() if Version(pinned[n]) < v} == {}


def test_extras_within_extras_are_followed_and_the_highest_bound_counts():
    names = {requirement.name for requirement in requirements(["train"])}
    assert {"click", "tensorflow", "matplotlib", "edt"} <= names
    assert PROJECT["name"] not in names
    assert lowest(["torch", "monai"])["torch"] == Version("2.13.0")
    assert lowest([])["click"] == Version("8.4.0")  # below, no command can be imported
