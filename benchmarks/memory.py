"""Peak memory of three training steps beside what was estimated before the first.

python -m benchmarks.memory OUTPUT [--quick]

The report's batches of 16 and 32 at the patch size of `brats2020`, on phantoms; with --quick one
small network instead.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.straight_line import run
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.files import write_text

_STEPS: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 3}
_BATCHES = {
    "batch-16": {"extends": "report/iteration-3", "training": _STEPS},
    "batch-32": {"extends": "report/iteration-2", "training": _STEPS},
    "batch-16-batch-norm": {
        "extends": "report/iteration-3",
        "model": {"norm": "batch"},
        "training": _STEPS,
    },
}
_TOLERANCE = 0.25
_QUICK = {
    "quick": {
        "extends": "brats2020",
        "recipe": {"patch_size": [48, 48, 48]},
        "model": {"depth": 3},
        "training": {**_STEPS, "batch_size": 4, "micro_batch": 2},
    }
}


def main(folder: Path, quick: bool) -> None:
    """Train three steps with each config and print the peaks."""
    shutil.rmtree(folder, ignore_errors=True)
    shape = (64, 72, 56) if quick else (160, 184, 152)
    make_phantoms(folder / "phantoms", cases=6, seed=0, shape=shape)
    for number, (name, config) in enumerate((_QUICK if quick else _BATCHES).items()):
        path = folder / f"{name}.yaml"
        write_text(path, yaml.safe_dump(config, sort_keys=False))
        if number == 0:  # all have one recipe
            run("preprocess", folder / "phantoms", "-o", folder / "prepared", "-c", path, "-j", 2)
        run("train", folder / "prepared", "-o", folder / name, "--config", path)
        text = (folder / name / "environment.json").read_text(encoding="utf-8")
        found = json.loads(text)["memory_mb"]
        if found["peak"] is None:
            raise SystemExit("this system does not tell the peak of a process; run it on Linux")
        ratio = found["estimated"] / found["peak"]
        sys.stdout.write(
            f"\n{name}: estimated {found['estimated']} MB, peak {found['peak']} MB, "
            f"ratio {ratio:.2f}\n"
        )
        if not 1 - _TOLERANCE <= ratio <= 1 + _TOLERANCE:
            raise SystemExit(f"{name}: the estimate is off by more than {_TOLERANCE:.0%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--quick" in sys.argv[2:])
