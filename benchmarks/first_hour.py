"""Type what docs/own-data.md says, on Decathlon cases renamed as one's own, and time it.

python -m benchmarks.first_hour HIPPOCAMPUS_FOLDER [OUTPUT]
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"
_BLOCK = re.compile(r"^```(yaml|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CASES, _NEW = 40, 5


def main(dataset: Path, folder: Path) -> None:
    """Make the data, do what the page says, and print how long each command took."""
    shutil.rmtree(folder, ignore_errors=True)
    make_own_data(dataset, folder)
    spent = {}
    for kind, block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "yaml":
            (folder / "own.yaml").write_text(block, encoding="utf-8")
            continue
        for line in block.splitlines():
            sys.stdout.write(f"\n$ {line}\n")
            sys.stdout.flush()
            started = time.perf_counter()
            subprocess.run(line, shell=True, check=True, cwd=folder, env=_environment())
            spent[line.removeprefix("vol3dseg ").partition(" -")[0]] = time.perf_counter() - started
    sys.stdout.write("\n" + "".join(f"{s:6.0f} s  {command}\n" for command, s in spent.items()))
    sys.stdout.write(f"{sum(spent.values()):6.0f} s  from files to a judged segmentation\n")


def make_own_data(dataset: Path, folder: Path) -> None:
    """Copy cases under other names into images/ and labels/, and images of others beside them."""
    images = sorted((dataset / "imagesTr").glob("[!.]*.nii.gz"))[: _CASES + _NEW]
    for number, image in enumerate(images):
        name = f"patient{number:02}_visit1.nii.gz"
        label = dataset / "labelsTr" / image.name
        own = {folder / "own_data" / "images": image, folder / "own_data" / "labels": label}
        for place, source in (own if number < _CASES else {folder / "new_scans": image}).items():
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place / name)


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": path}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "trials/first-hour"))
