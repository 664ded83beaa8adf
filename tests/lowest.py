"""The lowest version of each package that pyproject.toml allows, as constraints for pip.

`python -m tests.lowest train cpu` prints those of the package itself and of these extras.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def requirements(extras):
    """All that the package and these extras ask for, those of extras within extras too."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    own, optional = project["name"], project["optional-dependencies"]
    waiting = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    found = []
    while waiting:
        requirement = Requirement(waiting.pop(0))
        if requirement.name == own:
            waiting += [line for extra in requirement.extras for line in optional[extra]]
        else:
            found.append(requirement)
    return found


def lower_bound(requirement):
    """The version behind its >=; None where there is none."""
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    return Version(bounds[0]) if len(bounds) == 1 else None


def lowest(extras):
    """The lowest version by package; of several bounds the highest."""
    found = {}
    for requirement in requirements(extras):
        name = canonicalize_name(requirement.name)
        found[name] = max(lower_bound(requirement), found.get(name, Version("0")))
    return found


if __name__ == "__main__":
    for name, version in lowest(sys.argv[1:]).items():
        print(f"{name}=={version}")  # noqa: T201
