"""MONAI's training loop: DynUNet, DiceCELoss and AdamW, on a batch that is there already."""

from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet

from benchmarks.contestants.protocol import Call, serve
from benchmarks.contestants.steps import noise
from benchmarks.contestants.torch_steps import PACKAGES, autocast, layout, training_calls


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Build the network.

    Parameters
    ----------
    settings : dict
        shape, classes; widths : of each level; kernels, strides : of each level, the first 1;
        precision; channels_last; threads; steps.
    """
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    network = DynUNet(
        spatial_dims=3,
        in_channels=settings["shape"][-1],
        out_channels=settings["classes"],
        kernel_size=settings["kernels"],
        strides=settings["strides"],
        upsample_kernel_size=settings["strides"][1:],
        filters=settings["widths"],
        norm_name=("INSTANCE", {"affine": True}),
    ).to(memory_format=layout(settings))
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    array, classes = noise(settings)
    image = (
        torch.from_numpy(array).permute(0, 4, 1, 2, 3).contiguous(memory_format=layout(settings))
    )
    label = torch.from_numpy(classes)[:, None]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(settings):
            found = loss(network(image), label)
        found.backward()
        optimizer.step()

    return training_calls(step, settings)


if __name__ == "__main__":
    serve(make, PACKAGES)
