"""MONAI, the network part: `sliding_window_inference` over the prepared array."""

from typing import Any

import torch
from monai.inferers import SlidingWindowInferer

from benchmarks.contestants.on_torch import Network, network_calls, open_twin
from benchmarks.contestants.protocol import Call, serve

PACKAGES = ("monai", "torch", "numpy", "nibabel")


def inferer(settings: dict[str, Any], network: Network) -> Network:
    """Return MONAI's sliding window: Gaussian weights, tiles that overlap by half.

    Parameters
    ----------
    settings : dict
        patch_size : of the tiles; at_once : tiles that go through the network together.
    network : callable
    """
    window = SlidingWindowInferer(
        tuple(settings["patch_size"]), settings.get("at_once", 1), overlap=0.5, mode="gaussian"
    )

    def run(image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = window(image, network)
        return found

    return run


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load network and image; see `on_torch` and `inferer`."""
    network = open_twin(settings)
    return network_calls(network, inferer(settings, network), settings["prepared"])


if __name__ == "__main__":
    serve(make, PACKAGES)
