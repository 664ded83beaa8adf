"""The wheel: whole, and with one top-level name."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {"src/vol3dseg": "vol3dseg", "cli": "vol3dseg/cli", "export": "vol3dseg/export"}
MAPPED |= {"configs": "vol3dseg/configs"}


def test_the_wheel_holds_every_file_under_one_name(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
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
        for pattern in ("*.py", "*.yaml", "py.typed")
        for path in (ROOT / source).rglob(pattern)
    }
    assert expected <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
