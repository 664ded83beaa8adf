"""nnU-Net's predictor with a model folder, files in to file out, all in this process."""

import resource
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from benchmarks.contestants.protocol import Call, serve

PACKAGES = ("nnunetv2", "torch", "numpy", "scipy", "scikit-image", "simpleitk")


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load the model.

    Parameters
    ----------
    settings : dict
        folder : of the model; images : files by modality; output : folder; threads; mirror;
        channels_last; precision : "float32", or "bfloat16" by autocast; by_class : bring logits
        home one class at a time; most_mb : what may be allocated, so that asking for more is an
        error of this process and does not end another [MB].
    """
    most = int(settings["most_mb"] * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    torch.set_num_threads(settings["threads"])
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=settings["mirror"],
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(settings["folder"], (0,))
    _make_quick(predictor.network, settings)
    images, target = list(settings["images"].values()), str(Path(settings["output"]) / "case")

    def run(*, idle: bool = False) -> dict[str, Any]:
        if idle:
            return {}
        if settings["by_class"]:
            _predict_by_class(predictor, images, f"{target}.nii.gz")
        else:  # the other entrance starts processes for each call, which takes seconds
            predictor.predict_from_files_sequential([images], [target])
        return {"file": f"{target}.nii.gz"}

    return {"run": run}


def _make_quick(network: Any, settings: dict[str, Any]) -> None:
    """Let the network run in the layout and precision of the settings, at torch's best."""
    low, layout = settings["precision"] == "bfloat16", torch.contiguous_format
    if settings["channels_last"]:
        layout = torch.channels_last_3d
        network.to(memory_format=layout)
    plain = network.forward

    def forward(image: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            logits: torch.Tensor = plain(image.contiguous(memory_format=layout))
        return logits.float()

    network.forward = forward


def _predict_by_class(predictor: Any, images: list[str], target: str) -> None:
    """Do what nnU-Net does, by its own functions, but keep the best class of each voxel alone.

    It is not what nnU-Net does by itself: a loop round its resampling, for what needs more memory
    than there is. Labels are the same, since classes are resampled one by one in any case.
    """
    managers = predictor.plans_manager, predictor.configuration_manager
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, _, facts = preprocessor.run_case(images, None, *managers, predictor.dataset_json)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    del data
    shape, order = (
        facts["shape_after_cropping_and_before_resampling"],
        managers[0].transpose_forward,
    )
    spacing = [facts["spacing"][axis] for axis in order]
    labels = np.zeros(shape, dtype=np.uint8)
    best = np.full(shape, -np.inf, dtype=np.float16)
    for number in range(len(logits)):
        each = logits[number : number + 1]
        home = managers[1].resampling_fn_probabilities(each, shape, managers[1].spacing, spacing)
        score = np.asarray(home)[0]
        better = score > best
        labels[better], best[better] = number, score[better]
    whole = np.zeros(facts["shape_before_cropping"], dtype=np.uint8)
    whole = insert_crop_into_image(whole, labels, facts["bbox_used_for_cropping"])
    turned = np.asarray(whole).transpose(managers[0].transpose_backward)
    managers[0].image_reader_writer_class().write_seg(turned, target, facts)


if __name__ == "__main__":
    serve(make, PACKAGES)
