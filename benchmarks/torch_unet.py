"""The twin of `vol3dseg.training.networks.unet` in torch, for contestants that run on torch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_EPSILON = 1e-5
_SLOPE = 0.01
_CONVOLUTIONS = (1, 2)


class TorchUnet(nn.Module):  # type: ignore[misc]
    """A 3-D U-Net with batch norm; its layers are named as those of the Keras model.

    Parameters
    ----------
    input_channels, num_classes : int
    widths : list of int
        Filters of each level, from the full grid down to the bottom.
    deep_supervision : bool
        There is none; nnU-Net passes the argument to every network.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        widths: list[int],
        deep_supervision: bool = False,
    ) -> None:
        if deep_supervision:
            raise ValueError("the network has one output; expected deep_supervision=False")
        super().__init__()
        self.depth = len(widths) - 1
        layers: dict[str, nn.Module] = {}
        channels = input_channels
        for level, width in enumerate(widths):
            part = "encoder" if level < self.depth else "bottom"
            layers |= _block(f"{part}_{level}", channels, width)
            channels = width
        for level in reversed(range(self.depth)):
            width = widths[level]
            up = nn.ConvTranspose3d(widths[level + 1], width, 2, stride=2, bias=False)
            layers |= {f"up_{level}": up, **_block(f"decoder_{level}", 2 * width, width)}
        layers["head"] = nn.Conv3d(widths[0], num_classes, 1)
        self.layers = nn.ModuleDict(layers)
        self.pool = nn.MaxPool3d(2)
        self.leaky = nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (n, c, i, j, k) to (n, class, i, j, k) logits; sides are multiples of 2**depth."""
        x, skips = image, []
        for level in range(self.depth):
            x = self._run_block(f"encoder_{level}", x)
            skips.append(x)
            x = self.pool(x)
        x = self._run_block(f"bottom_{self.depth}", x)
        for level in reversed(range(self.depth)):
            x = torch.cat([skips.pop(), self.layers[f"up_{level}"](x)], dim=1)
            x = self._run_block(f"decoder_{level}", x)
        return self.layers["head"](x)

    def _run_block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        for number in _CONVOLUTIONS:
            x = self.layers[f"{name}_{number}_conv"](x)
            x = self.leaky(self.layers[f"{name}_{number}_norm"](x))
        return x


def load_twin(weights: Path) -> TorchUnet:
    """Return the network of `benchmarks.weights`, ready for inference.

    Parameters
    ----------
    weights : Path
        The .npz with the weights of the Keras model.
    """
    with np.load(weights) as file:
        arrays = {name: file[name] for name in file.files}
    kernels = {name.removesuffix("_1_conv/kernel"): array for name, array in arrays.items()}
    levels = [n for n in kernels if n.startswith(("encoder_", "bottom_")) and "/" not in n]
    widths = [kernels[n].shape[4] for n in sorted(levels, key=lambda n: int(n.split("_")[1]))]
    channels, classes = kernels["encoder_0"].shape[3], arrays["head/bias"].shape[0]
    twin = TorchUnet(channels, classes, widths)
    twin.load_state_dict(_state(arrays))
    twin.eval()
    return twin


def _block(name: str, channels: int, width: int) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    for number in _CONVOLUTIONS:
        convolution = nn.Conv3d(channels, width, 3, padding=1, bias=False)
        layers[f"{name}_{number}_conv"] = convolution
        layers[f"{name}_{number}_norm"] = nn.BatchNorm3d(width, eps=_EPSILON)
        channels = width
    return layers


_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _state(arrays: dict[str, NDArray[np.float32]]) -> dict[str, Any]:
    """Rename and turn weights: kernels of Keras are (i, j, k, in, out), of transposed ones out, in.

    Both turn into what torch expects, (out, in, i, j, k) and (in, out, i, j, k), by reversing the
    last two axes and putting them first.
    """
    state: dict[str, Any] = {}
    for path, array in arrays.items():
        layer, kind = path.split("/")
        turned = array.transpose(4, 3, 0, 1, 2) if kind == "kernel" else array
        state[f"layers.{layer}.{_NAMES[kind]}"] = torch.from_numpy(np.ascontiguousarray(turned))
        if kind == "gamma":
            state[f"layers.{layer}.num_batches_tracked"] = torch.tensor(0)
    return state
