"""What int8 and bfloat16 cost in Dice and labels, and how much faster than float32 they are.

python -m benchmarks.quantisation RUN [SIDE SIDE SIDE]

The run is exported in float32 and in int8. Whole prepared volumes of its validation and test parts
go through all of them in OpenVINO, in one plan. Then all take turns at one pass over noise of these
sides (144 176 144 if none are given); the shortest time of each counts.
"""

import json
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from vol3dseg.config import load_config
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import DeviceError
from vol3dseg.export.quantise import measure_cost
from vol3dseg.export.to_onnx import export_onnx
from vol3dseg.inference.loading import make_predictor, open_session
from vol3dseg.inference.runtimes.session import Session
from vol3dseg.model.model_file import ModelFile, read_model
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.store import StoredCase, open_cases

_SIDES = (144, 176, 144)
_ROUNDS = 10


def main(run: Path, sides: tuple[int, ...]) -> None:
    """Print a Markdown table for each part, then one of times."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("float32.onnx", "int8.onnx")]
        for path in paths:
            export_onnx(run, path, int8=path == paths[1])
        exact, quantised = (read_model(path) for path in paths)
    sessions: dict[str, Session] = {"float32": open_session(exact.content, "openvino")}
    with suppress(DeviceError):  # not every processor has it
        sessions["bfloat16"] = open_session(exact.content, "openvino", precision="bfloat16")
    sessions["int8"] = open_session(quantised.content, "openvino")
    for part in ("validation", "test"):
        if cases := _cases(run, part):
            _judge(part, exact, sessions, cases)
    _race(sessions, (1, len(exact.manifest.recipe.modalities), *sides))


def _cases(run: Path, part: str) -> dict[str, StoredCase]:
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    prepared, split = Path(environment["prepared"]), read_split(run / "split.json")
    index, recipe = load_index(prepared), load_config(run / "config.yaml").model_recipe
    return dict(open_cases(prepared, index, split.part(part), recipe.modalities))


def _judge(
    part: str, file: ModelFile, sessions: dict[str, Session], cases: dict[str, StoredCase]
) -> None:
    predictors = {name: make_predictor(file, session) for name, session in sessions.items()}
    sys.stdout.write(f"\n| {part}, {len(cases)} cases | mean Dice | drop | labels that agree |\n")
    sys.stdout.write("|---|---:|---:|---:|\n")
    for name, predictor in predictors.items():
        cost = measure_cost(predictors["float32"], predictor, cases)
        agree = f"{cost.label_agreement:.2%}"
        sys.stdout.write(f"| {name} | {cost.mean_dice:.4f} | {cost.dice_drop:+.4f} | {agree} |\n")
        sys.stdout.flush()


def _race(sessions: dict[str, Session], shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for session in sessions.values():
        session(image)  # the first run makes code for this size
    seconds = dict.fromkeys(sessions, float("inf"))
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            started = time.perf_counter()
            session(image)
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    sys.stdout.write(
        f"\n| one pass over {'x'.join(map(str, shape[2:]))} | seconds | times as fast |\n"
    )
    sys.stdout.write("|---|---:|---:|\n")
    for name, taken in seconds.items():
        sys.stdout.write(f"| {name} | {taken:.3f} | {seconds['float32'] / taken:.2f} |\n")


if __name__ == "__main__":
    _, folder, *given = sys.argv
    main(Path(folder), tuple(map(int, given)) or _SIDES)
