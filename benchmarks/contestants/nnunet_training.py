"""nnU-Net's training loop: `nnUNetTrainer.train_step`, on a batch that is there already.

Network, loss, deep supervision and optimizer are those of its trainer; plans ask for a
PlainConvUNet of our widths. The trainer leaves autocast to GPUs; here it is put round its step.
"""

import os
import tempfile
from typing import Any

import torch
from torch.nn import functional

from benchmarks.contestants.nnunet_folder import CONFIGURATION, dataset, plans
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
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), folder)
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        *patch, channels = settings["shape"][1:]
        chosen = plans(channels, patch, settings["widths"])
        configuration = chosen["configurations"][CONFIGURATION]
        configuration |= {"architecture": _architecture(settings), "batch_dice": True}
        configuration["batch_size"] = settings["shape"][0]
        names = [f"modality {n}" for n in range(channels)]
        facts = dataset(names, settings["classes"])
        chosen["continue_training"] = False
        trainer = nnUNetTrainer(chosen, CONFIGURATION, 0, facts, device=torch.device("cpu"))
        managers = trainer.plans_manager, trainer.configuration_manager
        network = trainer.build_network_architecture(*managers, channels, settings["classes"], True)
        trainer.network = network.to(memory_format=layout(settings))
        trainer.optimizer, _ = trainer.configure_optimizers()
        trainer.loss = trainer._build_loss()
    return trainer


def _architecture(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what its planner says of a network, at our size."""
    levels = len(settings["widths"])
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": settings["widths"],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": settings["kernels"],
            "strides": settings["strides"],
            "n_conv_per_stage": [2] * levels,
            "n_conv_per_stage_decoder": [2] * (levels - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


if __name__ == "__main__":
    serve(make, PACKAGES)
