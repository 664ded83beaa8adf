"""Whole-volume inference: sessions, tiling, predictor. No TensorFlow.

Here are the names that a user chooses from; the command line lists them without loading anything.
"""

from typing import Literal, get_args

Device = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
Precision = Literal["float32", "bfloat16"]
DEVICES: tuple[Device, ...] = get_args(Device)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SEG = "dicom-seg"  # a format of label maps alone
FORMAT_NAMES = ("nifti", "nrrd", "mha", SEG)
