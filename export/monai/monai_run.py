"""MONAI itself, on some cases, in a process of its own.

Its transforms, network and inferer are made from the closed list that the bundle was read by, not
by its ConfigParser, which evaluates; the weights are those that were read without torch.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.export.monai.arguments import Component
from vol3dseg.export.monai.transforms import IMAGE, Transform
from vol3dseg.export.own_process import run_apart
from vol3dseg.extras import load_extra

EXTRA, FRAMEWORK = "monai", "MONAI"
_MODULE = "vol3dseg.export.monai.monai_run"
_PRED, _WEIGHTS = "pred", "weights.npz"
_LEAST = 1e-6  # of the largest output of a voxel, at least


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What MONAI runs, with the weights; `order` is that of our channels, as it counts them."""

    before: Sequence[Transform]
    after: Sequence[Transform]
    network: Component
    inferer: Mapping[str, Any]
    state: Mapping[str, NDArray[Any]]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OwnResults:
    """What MONAI has written of each case."""

    folder: Path

    def array(self, case: str, stage: str) -> NDArray[Any]:
        """Return a stage, (channel, i, j, k).

        That is "image", "patch", "patch_logits" and "logits", all on the prepared grid; "values",
        as they are before they are made discrete; or "result".
        """
        found: NDArray[Any] = np.load(self.folder / f"{case}.{stage}.npy")
        return found


def require_monai() -> None:
    """Raise MissingExtraError where MONAI or torch is not installed."""
    load_extra("torch", EXTRA)
    load_extra("monai", EXTRA)


@contextmanager
def monai_says(own: OwnModel, cases: Mapping[str, Sequence[Path]]) -> Iterator[OwnResults]:
    """Run MONAI's transforms, network and inferer on the CPU, and give what comes of each case.

    ModelError: it failed, with the last that it said.
    """
    with tempfile.TemporaryDirectory(prefix="vol3dseg-") as output:
        arrays: dict[str, Any] = dict(own.state)
        np.savez(Path(output) / _WEIGHTS, **arrays)
        job = {
            "before": list(own.before),
            "after": list(own.after),
            "network": own.network,
            "inferer": own.inferer,
            "cases": {name: [str(file.resolve()) for file in of] for name, of in cases.items()},
            "output": output,
        }
        run_apart(_MODULE, job, FRAMEWORK, "see that the bundle runs on these cases with MONAI")
        yield OwnResults(Path(output))


def _run(job: Mapping[str, Any]) -> None:
    """Do what a bundle's evaluator does, case after case."""
    torch, transforms = load_extra("torch", EXTRA), load_extra("monai.transforms", EXTRA)
    inferers, data = load_extra("monai.inferers", EXTRA), load_extra("monai.data", EXTRA)
    nets = load_extra("monai.networks.nets", EXTRA)
    output = Path(job["output"])
    before = transforms.Compose([_made(transforms, each, IMAGE) for each in job["before"]])
    after = [_made(transforms, each, _PRED, before) for each in job["after"]]
    name, arguments = job["network"]
    network = getattr(nets, name)(**{k: _spelled(v) for k, v in arguments.items()}).eval()
    with np.load(output / _WEIGHTS) as weights:
        network.load_state_dict({key: torch.from_numpy(weights[key]) for key in weights.files})
    infer = inferers.SlidingWindowInferer(sw_batch_size=1, **job["inferer"])
    sides = job["inferer"]["roi_size"]
    for case, files in job["cases"].items():
        found = before({IMAGE: files if len(files) > 1 else files[0]})
        image = found[IMAGE]
        part = image.as_tensor()[:, : sides[0], : sides[1], : sides[2]].numpy()
        missing = [(0, side - have) for side, have in zip(sides, part.shape[1:], strict=True)]
        patch = np.pad(part, [(0, 0), *missing])
        with torch.inference_mode():
            patch_logits = network(torch.from_numpy(patch)[None])[0]
            logits = infer(image.as_tensor()[None], network)[0]
        stages = {"image": image, "patch": patch, "patch_logits": patch_logits, "logits": logits}
        found[_PRED] = data.MetaTensor(logits.clone(), meta=image.meta)
        for (short, _), transform in zip(job["after"], after, strict=True):
            if short == "AsDiscrete":
                found[_PRED] *= torch.from_numpy(has_values(np.asarray(found[_PRED])))
                stages["values"] = found[_PRED]
            found = transform(found)
        for stage, array in {**stages, "result": found[_PRED]}.items():
            np.save(output / f"{case}.{stage}.npy", np.asarray(array))


def has_values(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (1, i, j, k): whether the network has said anything in (channel, i, j, k) values.

    A voxel that falls exactly beside what was cropped gets some 1e-16 of its neighbours' values, by
    the rounding of its place, and argmax would choose by that.
    """
    found: NDArray[np.bool_] = np.abs(values).max(axis=0, keepdims=True) >= _LEAST
    return found


def _made(transforms: Any, said: Sequence[Any], key: str, before: Any = None) -> Any:
    """Return a transform of MONAI that works on one key of a dictionary."""
    name, arguments = said[0], dict(said[1])
    if name == "Invert":
        arguments |= {"transform": before, "orig_keys": IMAGE}
    if name == "CropForeground":
        arguments["source_key"] = IMAGE
    if name == "AddChannel":  # which newer versions call so
        name, arguments = "EnsureChannelFirst", {"channel_dim": "no_channel"}
    return getattr(transforms, f"{name}d")(keys=key, **arguments)


def _spelled(value: Any) -> Any:
    """Return an argument as MONAI takes it: names with options are pairs of both."""
    if isinstance(value, dict) and "name" in value:
        options = {key: each for key, each in value.items() if key != "name"}
        return (value["name"], options) if options else value["name"]
    return value


if __name__ == "__main__":
    _run(json.load(sys.stdin))
