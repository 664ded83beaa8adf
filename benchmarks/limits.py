"""What `--max-memory` promises: peaks beside limits, and labels beside those of one pass.

python -m benchmarks.limits FOLDER [--dataset BRATS] [--only SCAN]... [--runtime NAME]...
                                   [--limit SIZE]...

Segments the cases of a BraTS folder and a CT of 512 x 512 x 600 voxels, with each runtime and
precision, each in a process of its own that the kernel's account is read of while it runs. Where a
limit is refused, the one that the error names is tried in its place, and must do. Prints a
Markdown table; ends with an error where a peak is over its limit, a named limit does not do, or
labels change without a word. Networks are U-Nets of depth 3 with random weights, so agreement is of
the tiles alone. Needs TensorFlow for them.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.ct import write_ct
from vol3dseg.cli.options import SizeType
from vol3dseg.formats import open_volume

_ROOT = Path(__file__).resolve().parent.parent
_LIMITS = ("400MB", "700MB", "1GB", "2GB")
_PROGRAM = "from vol3dseg.cli.main import main; main()"
_WORDS = {
    "onnxruntime float32": ("model.onnx", ("--device", "cpu")),
    "onnxruntime int8": ("model-int8.onnx", ("--device", "cpu")),
    "openvino float32": ("model.onnx", ("--device", "openvino")),
    "openvino bfloat16": ("model.onnx", ("--device", "openvino", "--precision", "bfloat16")),
    "openvino int8": ("model-int8.onnx", ("--device", "openvino")),
}
_ROUNDING = 1e-4  # share of voxels whose best two classes may be too near for other sums
NAMED = re.compile(r"give --max-memory (\d+MB)")
_HEAD = (
    "scan",
    "norm",
    "runtime",
    "asked",
    "given",
    "peak over it",
    "plan",
    "labels differ",
    "Dice",
)


@dataclass(frozen=True)
class Done:
    """A run of `vol3dseg predict` over one scan."""

    peak_mb: float
    record: dict[str, object]
    labels: NDArray[np.uint8] | None


def main(words: argparse.Namespace) -> None:
    """Print the table row by row."""
    weights = words.folder / "weights"
    if not weights.exists():
        command = [sys.executable, "-m", "benchmarks.weights", str(weights), "--small"]
        subprocess.run(command, check=True, cwd=_ROOT)
    cases = {path.name: path for path in sorted(words.dataset.iterdir()) if path.is_dir()}
    scans = {**cases, "ct": write_ct(words.folder / "ct.nii.gz")}
    sys.stdout.write(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}\n")
    wrong: list[str] = []
    for name, scan in scans.items():
        if words.only and name not in words.only:
            continue
        for norm in ("batch", "instance"):
            models = weights / f"{'ct' if name == 'ct' else 'brats'}-{norm}"
            for runtime in words.runtime or _WORDS:
                model, options = _WORDS[runtime]
                run = [models / model, scan, *options]
                for row, fault in _rows(run, words.limit or _LIMITS):
                    line = " | ".join((name, norm, runtime, *row))
                    sys.stdout.write(f"| {line} |\n")
                    sys.stdout.flush()
                    wrong += [f"{line}: {fault}"] if fault else []
    if wrong:
        raise SystemExit("\n".join(wrong))


def _rows(run: list[object], limits: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give a row for each limit, and what is wrong with it."""
    free: Done | None = None
    tried: dict[str, Done] = {}
    for limit in limits:
        given, done = limit, segmented(run, limit)
        fault = _over(done, limit)
        if named := NAMED.search(str(done.record["error"])):
            given = named[1]
            done = tried.get(given) or segmented(run, given)
            fault = fault or _over(done, given)
        tried[given] = done
        ratio = f"{done.peak_mb / as_mb(given):.3f}"
        if done.labels is None:
            yield (limit, given, ratio, str(done.record["error"]), "", ""), fault or "refused"
            continue
        free = free or segmented(run, None)
        differ, dice = _agreement(done, free)
        notes = done.record["notes"]
        silent = "labels change without a word" if differ > _ROUNDING and not notes else ""
        plan = str(done.record["plan"]).split(";")[0]
        yield (limit, given, ratio, plan, f"{differ:.5%}", dice), fault or silent


_ROUNDING = (
    1e-4  # share of voxels whose two best classes may be too close for another order of sums
)


def _over(done: Done, limit: str) -> str:
    return f"peak of {done.peak_mb:.0f} MiB" if done.peak_mb > as_mb(limit) else ""


def as_mb(limit: str) -> float:
    """Return a limit as the kernel counts [MiB]."""
    return SizeType().convert(limit, None, None)


def _agreement(done: Done, free: Done) -> tuple[float, str]:
    """Return the share of labels that differ, and the Dice of each class beside the background."""
    if done.labels is None or free.labels is None:
        raise SystemExit(f"without a limit: {free.record['error']}")
    differ, dice = float(np.mean(done.labels != free.labels)), []
    for value in np.unique(free.labels)[1:]:
        ours, theirs = done.labels == value, free.labels == value
        dice.append(2 * float((ours & theirs).sum()) / float(ours.sum() + theirs.sum()))
    return differ, " ".join(f"{d:.4f}" for d in dice)


def segmented(run: list[object], limit: str | None) -> Done:
    """Segment in a process of its own, and watch the kernel's account of its peak."""
    given = [] if limit is None else ["--max-memory", limit]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        words = [*map(str, run), "-o", folder, *given]
        command = [sys.executable, "-c", _PROGRAM, "predict", *words]
        process = subprocess.Popen(command, stdout=said, stderr=said)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak_of(process.pid))
            time.sleep(0.01)
        said.seek(0)
        text, path = said.read(), Path(folder) / "predictions.json"
        if not path.exists() or "Traceback" in text:
            raise SystemExit(text)
        (record,) = json.loads(path.read_text(encoding="utf-8"))["cases"].values()
        file = record["file"] and path.with_name(record["file"])
        return Done(peak, record, open_volume(file).labels()[0] if file else None)


def _peak_of(pid: int) -> float:
    """Return the highest resident memory of a process so far, since it last reset it [MB]."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.limits", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", type=Path, default=_ROOT.parent / "shared/data/brats")
    parser.add_argument("--only", action="append", help="a case, or ct; may be given again")
    parser.add_argument("--runtime", action="append", choices=_WORDS, help="may be given again")
    parser.add_argument("--limit", action="append", help="may be given again")
    main(parser.parse_args())
