"""A model folder as nnU-Net expects it, round the twin and its weights."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.torch_unet import TorchUnet, load_twin

CONFIGURATION = "3d_fullres"
# Reads axes into RAS as our recipe does; nnU-Net holds them as (k, j, i), hence the transposition.
_READER = "NibabelIOWithReorient"
_REVERSED = [2, 1, 0]
_RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def plans(modalities: int, patch_size: list[int], widths: list[int]) -> dict[str, Any]:
    """Return plans with the steps of our recipe: crop, z-score inside the brain, no resampling."""
    resampling = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "prepared",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch_size,
        "median_image_size_in_voxels": [float(n) for n in patch_size],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * modalities,
        "use_mask_for_norm": [True] * modalities,
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": _RESAMPLING,
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": {**_RESAMPLING, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": {**_RESAMPLING, "order": 1},
        "architecture": {
            "network_class_name": f"{TorchUnet.__module__}.{TorchUnet.__qualname__}",
            "arch_kwargs": {"widths": widths},
            "_kw_requires_import": [],
        },
        "batch_dice": False,
    }
    properties = {"mean": 0.0, "std": 1.0, "percentile_00_5": 0.0, "percentile_99_5": 1.0}
    return {
        "dataset_name": "Dataset001_Benchmark",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": patch_size,
        "image_reader_writer": _READER,
        "transpose_forward": _REVERSED,
        "transpose_backward": _REVERSED,
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): properties for n in range(modalities)
        },
    }


def dataset(modalities: list[str], classes: int) -> dict[str, Any]:
    """Return what dataset.json says."""
    labels = {"background": 0, **{f"class {n}": n for n in range(1, classes)}}
    return {
        "channel_names": {str(n): name for n, name in enumerate(modalities)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": _READER,
    }


def plain_unet(
    widths: list[int], kernels: list[list[int]], strides: list[list[int]]
) -> dict[str, Any]:
    """Return what nnU-Net's planner says of a network, at our size."""
    levels = len(widths)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": widths,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels,
            "strides": strides,
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


def make_trainer(
    chosen: dict[str, Any], described: dict[str, Any], *, deep_supervision: bool
) -> Any:
    """Return nnU-Net's trainer of plans and dataset.json, with its network and optimizer."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), folder)
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        given = {**chosen, "continue_training": False}
        trainer = nnUNetTrainer(given, CONFIGURATION, 0, described, device=torch.device("cpu"))
        trainer.network = trainer.build_network_architecture(
            trainer.plans_manager,
            trainer.configuration_manager,
            len(described["channel_names"]),
            len(described["labels"]),
            deep_supervision,
        )
        trainer.optimizer, _ = trainer.configure_optimizers()
    return trainer


def write_folder(
    folder: Path, weights: Path, modalities: list[str], patch_size: list[int]
) -> dict[str, Any]:
    """Write plans.json, dataset.json and the checkpoint of one fold; return the plans."""
    twin = load_twin(weights)
    widths = [twin.layers[name].out_channels for name in _first_convolutions(twin)]
    chosen = plans(len(modalities), patch_size, widths)
    classes = twin.layers["head"].out_channels
    fold = folder / "fold_0"
    fold.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(chosen), encoding="utf-8")
    text = json.dumps(dataset(modalities, classes))
    (folder / "dataset.json").write_text(text, encoding="utf-8")
    checkpoint = {
        "network_weights": twin.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION, "fold": 0},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    return chosen


def _first_convolutions(twin: TorchUnet) -> list[str]:
    levels = [f"encoder_{level}" for level in range(twin.depth)]
    return [f"{name}_1_conv" for name in [*levels, f"bottom_{twin.depth}"]]
