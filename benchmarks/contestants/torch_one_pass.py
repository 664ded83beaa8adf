"""torch alone: one pass over the whole volume, padded with zeros behind. The reference, too."""

from typing import Any

import torch
from torch.nn import functional

from benchmarks.contestants.on_torch import network_calls, open_twin
from benchmarks.contestants.protocol import Call, serve

_PACKAGES = ("torch", "numpy")


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load network and image; see `on_torch`, and divisor : (3,) of the sides of an input."""
    network, divisor = open_twin(settings), settings["divisor"]

    def one_pass(image: torch.Tensor) -> torch.Tensor:
        i, j, k = image.shape[2:]
        sides = zip((k, j, i), reversed(divisor), strict=True)
        behind = [n for extent, multiple in sides for n in (0, -extent % multiple)]
        return network(functional.pad(image, behind))[..., :i, :j, :k]

    return network_calls(network, one_pass, settings["prepared"])


if __name__ == "__main__":
    serve(make, _PACKAGES)
