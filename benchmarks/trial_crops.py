"""Train on the BraTS 2020 crops with four modalities; test on their test part and on whole cases.

python -m benchmarks.trial_crops CROPS_FOLDER WHOLE_CASES_FOLDER [OUTPUT]
"""

import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.straight_line import changed_config, judge, learn


def main(crops: Path, whole: Path, folder: Path) -> None:
    """Run the trial, print its tables, check geometry and label values of the whole cases."""
    shutil.rmtree(folder, ignore_errors=True)
    config = folder / "config.yaml"
    changed_config("crops32", {}, config)
    seconds = learn(crops, config, folder)
    test = ("--split", folder / "run" / "split.json", "--part", "test")
    judge(folder, crops, "test", *test)
    judge(folder, crops, "test-mirrored", *test, "--mirror")
    judge(folder, whole, "whole", "--picture")
    for path in sorted((folder / "predictions-whole").glob("*.nii.gz")):
        _check(path, next(whole.rglob(path.name.replace(".nii.gz", "_t1.nii.gz"))))
    for name in ("test", "test-mirrored", "whole"):
        table = (folder / f"report-{name}" / "summary.md").read_text(encoding="utf-8")
        sys.stdout.write(f"\n{name}:\n{table}\n")
    sys.stdout.write(", ".join(f"{step} {s:.0f} s" for step, s in seconds.items()) + "\n")


def _check(prediction: Path, image: Path) -> None:
    ours, source = nib.load(prediction), nib.load(image)
    values = np.unique(np.asarray(ours.dataobj)).tolist()
    same = ours.shape == source.shape and np.array_equal(ours.affine, source.affine)
    if not same or not set(values) <= {0, 1, 2, 4}:
        raise SystemExit(f"{prediction}: geometry kept: {same}, label values {values}")
    sys.stdout.write(f"{prediction.name}: geometry of the source, label values {values}\n")


if __name__ == "__main__":
    output = Path(sys.argv[3] if len(sys.argv) > 3 else "trials/crops")
    main(Path(sys.argv[1]), Path(sys.argv[2]), output)
