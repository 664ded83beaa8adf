"""Train on the Decathlon hippocampus cases and test on a part that training never saw.

python -m benchmarks.trial_hippocampus HIPPOCAMPUS_FOLDER [OUTPUT]
"""

import shutil
import sys
from pathlib import Path

from benchmarks.straight_line import changed_config, judge, learn


def main(dataset: Path, folder: Path) -> None:
    """Run the trial and print its table."""
    shutil.rmtree(folder, ignore_errors=True)
    config = folder / "config.yaml"
    changed_config("hippocampus", {"split": {"validation": 0.05, "test": 0.15}}, config)
    seconds = learn(dataset, config, folder)
    judge(folder, dataset, "test", "--split", folder / "run" / "split.json", "--part", "test")
    table = (folder / "report-test" / "summary.md").read_text(encoding="utf-8")
    times = ", ".join(f"{step} {s:.0f} s" for step, s in seconds.items())
    sys.stdout.write(f"\n{table}\n{times}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "trials/hippocampus"))
