"""Folders of nnU-Net's results for tests: small networks of random weights, all files there."""

import json

import numpy as np

from tests.nnunet_networks import configuration, state_of
from tests.torch_files import Tensor, nnunet_checkpoint, torch_file
from vol3dseg.export.nnunet.architecture import architecture_of
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.space.geometry import Geometry

RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
FULLRES = {
    "preprocessor_name": "DefaultPreprocessor",
    "patch_size": [8, 24, 24],
    "spacing": [4.0, 1.0, 1.5],
    "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
    "use_mask_for_norm": [False, True],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": RESAMPLING,
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {**RESAMPLING, "order": 1},
    "batch_size": 2,
}
CT = {"mean": 80.5, "std": 21.5, "percentile_00_5": 27.0, "percentile_99_5": 134.0, "max": 159.0}
PLANS = {
    "dataset_name": "Dataset502_Aniso",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [2, 0, 1],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {"0": CT, "1": CT},
}
DATASET = {
    "channel_names": {"0": "CT", "1": "T2"},
    "labels": {"background": 0, "tumour": 1, "core": 2},
    "file_ending": ".nii.gz",
}
SHAPE = (14, 40, 36)
GRID = Geometry(SHAPE, np.diag([-4.0, -1.5, 1.0, 1.0]))


def make_cases(folder):
    """Write two scans of two channels, as nnU-Net's predictor takes them; returns the folder."""
    for name in ("a", "b"):
        rng = np.random.default_rng(ord(name))
        for channel in range(2):
            image = rng.integers(20, 140, SHAPE).astype(np.int16)
            nifti.write(folder / f"{name}_000{channel}.nii.gz", image, GRID)
    return folder


def make_model(place, folds=("0",), dataset=None, plans=None, fullres=None, **checkpoint):
    """Write a model into a folder Dataset502_Aniso/TRAINER__PLANS__CONFIGURATION; returns it."""
    folder = place / "Dataset502_Aniso" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir(parents=True)
    described = {**DATASET, **(dataset or {})}
    chosen = {**configuration(), **FULLRES, **(fullres or {})}
    content = {**PLANS, "configurations": {"3d_fullres": chosen}, **(plans or {})}
    (folder / "dataset.json").write_text(json.dumps(described))
    (folder / "plans.json").write_text(json.dumps(content))
    heads = len(described["labels"]) - ("regions_class_order" in described)
    architecture = architecture_of(configuration(), "test")
    for number, fold in enumerate(folds):
        rng = np.random.default_rng(number)
        state = state_of(architecture, len(described["channel_names"]), heads, rng)
        weights = {name: Tensor(values) for name, values in state.items()}
        file = folder / f"fold_{fold}" / "checkpoint_final.pth"
        file.parent.mkdir()
        file.write_bytes(torch_file(nnunet_checkpoint(weights, **checkpoint)))
    return folder
