"""nnU-Net's training loop: `nnUNetTrainer.train_step`, on a batch that is there already.

Network, loss, deep supervision and optimizer are those of its trainer; plans ask for a
PlainConvUNet of our widths. The trainer leaves autocast to GPUs; here it is put round its step.
"""

from typing import Any

import torch
from torch.nn import functional

from benchmarks.contestants.nnunet_folder import (
    CONFIGURATION,
    dataset,
    make_trainer,
    plain_unet,
    plans,
)
from benchmarks.contestants.protocol import Call, serve
from benchmarks.contestants.steps import noise
from benchmarks.contestants.torch_steps import PACKAGES, autocast, layout, training_calls


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Build the trainer; settings as in `monai_training`."""
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    trainer = _trainer(settings)
    array, classes = noise(settings)
    data = torch.from_numpy(array).permute(0, 4, 1, 2, 3).contiguous(memory_format=layout(settings))
    label = torch.from_numpy(classes)[:, None].float()
    scales = trainer._get_deep_supervision_scales()
    targets = [functional.interpolate(label, scale_factor=scale) for scale in scales]
    batch = {"data": data, "target": targets}

    def step() -> None:
        with autocast(settings):
            trainer.train_step(batch)

    return training_calls(step, settings)


def _trainer(settings: dict[str, Any]) -> Any:
    *patch, channels = settings["shape"][1:]
    chosen = plans(channels, patch, settings["widths"])
    sizes = settings["widths"], settings["kernels"], settings["strides"]
    configuration = chosen["configurations"][CONFIGURATION]
    configuration |= {"architecture": plain_unet(*sizes), "batch_dice": True}
    configuration["batch_size"] = settings["shape"][0]
    names = [f"modality {n}" for n in range(channels)]
    trainer = make_trainer(chosen, dataset(names, settings["classes"]), deep_supervision=True)
    trainer.network = trainer.network.to(memory_format=layout(settings))
    trainer.loss = trainer._build_loss()
    return trainer


if __name__ == "__main__":
    serve(make, PACKAGES)
