"""MONAI, files in to file out: a pipeline with the steps of our recipe."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    AsDiscreted,
    Compose,
    CropForegroundd,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    SaveImaged,
)

from benchmarks.contestants.monai_network import PACKAGES, inferer
from benchmarks.contestants.on_torch import open_twin
from benchmarks.contestants.protocol import Call, serve


def not_zero(image: Any) -> Any:
    """Return where an image is not zero."""
    return image != 0


def preparation() -> Compose:
    """Return reading, orientation, crop and normalisation, as `brats2020` has them."""
    return Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            CropForegroundd("image", source_key="image", select_fn=not_zero, allow_smaller=True),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )


def make(settings: dict[str, Any]) -> dict[str, Call]:
    """Load the network; see `inferer`, and images : files by modality; output : folder."""
    window = inferer(settings, open_twin(settings))
    before, output = preparation(), Path(settings["output"])
    # Labels are fewer numbers than logits, so they are what goes the way back.
    after = Compose(
        [
            AsDiscreted("pred", argmax=True),
            Invertd("pred", before, orig_keys="image", nearest_interp=True, to_tensor=True),
            SaveImaged(
                "pred",
                output_dir=output,
                output_postfix="seg",
                output_ext=".nii.gz",
                output_dtype=np.uint8,
                resample=False,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    files = list(settings["images"].values())
    target = output / f"{Path(files[0]).name.removesuffix('.gz').removesuffix('.nii')}_seg.nii.gz"

    def run() -> dict[str, Any]:
        with torch.inference_mode():
            case = before({"image": files})
            case["pred"] = window(case["image"][None])[0]
            after(case)
        return {"file": str(target)}

    return {"run": run}


if __name__ == "__main__":
    serve(make, PACKAGES)
