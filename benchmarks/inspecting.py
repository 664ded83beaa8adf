"""What `inspect` costs: seconds, memory, size of the page.

python -m benchmarks.inspecting [DATASET ...]

Without a data set it makes 3,000 phantoms of 16 x 18 x 14 voxels with four modalities first.
"""

import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.straight_line import run
from vol3dseg.datasets.phantom import make_phantoms

_PHANTOMS = 3000
_SHAPE = (16, 18, 14)


def main(datasets: list[Path]) -> None:
    """Inspect each data set as a user does, and print a line for each."""
    with tempfile.TemporaryDirectory() as temporary:
        if not datasets:
            datasets = [Path(temporary) / "phantoms"]
            make_phantoms(datasets[0], _PHANTOMS, seed=0, shape=_SHAPE)
        for number, dataset in enumerate(datasets):
            output = Path(temporary) / f"out-{number}"
            seconds = run("inspect", dataset, "-o", output)
            page_mb = (output / "index.html").stat().st_size / 1e6
            # The largest of all processes so far; put the data set that matters first.
            peak_mb = getrusage(RUSAGE_CHILDREN).ru_maxrss / 1024
            sys.stdout.write(
                f"{dataset.name}: {seconds:.0f} s, page {page_mb:.1f} MB, "
                f"largest process {peak_mb:.0f} MB\n"
            )


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
