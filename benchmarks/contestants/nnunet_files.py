"""nnU-Net's predictor, files in to file out: mirroring off, step 0.5, all in this process."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from benchmarks.contestants.nnunet_folder import write_folder
from benchmarks.contestants.protocol import Call, serve

PACKAGES = ("nnunetv2", "torch", "numpy", "nibabel", "simpleitk")


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Write the model folder and load it.

    Parameters
    ----------
    settings : dict
        weights : path of the .npz; images : files by modality; patch_size; threads; output.
    """
    torch.set_num_threads(settings["threads"])
    output = Path(settings["output"])
    images = settings["images"]
    write_folder(output / "model", Path(settings["weights"]), list(images), settings["patch_size"])
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(output / "model"), (0,))

    def run() -> dict[str, Any]:
        # The other entrance starts two processes for each call, which takes seconds.
        cases, targets = [list(images.values())], [str(output / "case")]
        predictor.predict_from_files_sequential(cases, targets)
        return {"file": f"{targets[0]}.nii.gz"}

    def patch(image: str, file: str) -> dict[str, Any]:
        with torch.inference_mode():
            logits = predictor.network.eval()(torch.from_numpy(np.load(image)))
            np.save(file, torch.softmax(logits, dim=1).numpy())
        return {}

    return {"run": run, "patch": patch}


if __name__ == "__main__":
    serve(make, PACKAGES)
