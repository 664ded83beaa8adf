"""The wheel: whole, and with one top-level name."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build.env")  # a folder of that name may stand here

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {"src/vol3dseg": "vol3dseg", "cli": "vol3dseg/cli", "export": "vol3dseg/export"}
MAPPED |= {"configs": "vol3dseg/configs"}


def test_the_wheel_holds_every_file_under_one_name(tmp_path):
    # From a copy: setuptools leaves a build folder behind, and its old files get into the wheel.
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "cli", "export", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"vol3dseg"}
    expected = {
        f"{target}/{path.relative_to(ROOT / source)}"
        for source, target in MAPPED.items()
        for pattern in ("*.py", "*.yaml", "*.css", "*.js", "*.html", "*.txt", "py.typed")
        for path in (ROOT / source).rglob(pattern)
    }
    assert {name for name in names if name.startswith("vol3dseg/")} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)
