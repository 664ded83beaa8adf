"""What something was made with: versions of packages, the revision of this one, the date."""

import importlib.metadata
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from vol3dseg import __version__
from vol3dseg.schema import Frozen


class Provenance(Frozen):
    """What something was made with, and when."""

    created: str
    versions: dict[str, str]
    git_revision: str | None


def provenance(*packages: str) -> Provenance:
    """Return the versions of these packages, the date and the revision."""
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=installed_versions(*packages),
        git_revision=git_revision(),
    )


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of vol3dseg, of Python, and of those of `packages` that are installed."""
    versions = {"vol3dseg": __version__, "python": platform.python_version()}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from, if it runs from one."""
    here = Path(__file__)
    try:
        # An environment may lie inside a checkout of something else: does git know this file?
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "rev-parse", "HEAD").strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(  # noqa: S603 - words of ours and the folder of this file, and no shell
        command, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout
