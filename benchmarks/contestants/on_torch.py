"""What the contestants on torch share: the twin, and how it is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contestants.protocol import Call
from benchmarks.torch_unet import load_twin

Network = Callable[[torch.Tensor], torch.Tensor]


def open_twin(settings: dict[str, Any]) -> Network:
    """Load the twin.

    Parameters
    ----------
    settings : dict
        weights : path of the .npz; threads; channels_last : layout that oneDNN is quicker in;
        precision : "float32", or "bfloat16" by autocast.
    """
    torch.set_num_threads(settings["threads"])
    twin = load_twin(Path(settings["weights"]))
    layout = torch.contiguous_format
    if settings.get("channels_last"):
        layout = torch.channels_last_3d
        twin = twin.to(memory_format=layout)
    low = settings.get("precision") == "bfloat16"

    def network(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            logits: torch.Tensor = twin(image.contiguous(memory_format=layout))
        return logits.float()

    return network


def network_calls(network: Network, window: Network, prepared: str) -> dict[str, Call]:
    """Return the calls of a contestant for the network part.

    Parameters
    ----------
    network : callable
        One patch, (n, c, i, j, k) to logits.
    window : callable
        The whole image, (1, c, i, j, k) to logits.
    prepared : str
        Path of the (i, j, k, c) array.
    """
    array = np.ascontiguousarray(np.moveaxis(np.load(prepared), -1, 0))[None]
    image = torch.from_numpy(array)
    found: dict[str, torch.Tensor] = {}

    def run() -> dict[str, Any]:
        found.clear()
        with torch.inference_mode():
            found["logits"] = window(image)
        return {}

    def answer(file: str) -> dict[str, Any]:
        np.save(file, found["logits"][0].argmax(dim=0).numpy().astype(np.uint8))
        return {}

    def patch(image: str, file: str) -> dict[str, Any]:
        with torch.inference_mode():
            logits = network(torch.from_numpy(np.load(image)))
            np.save(file, torch.softmax(logits, dim=1).numpy())
        return {}

    return {"run": run, "answer": answer, "patch": patch}
