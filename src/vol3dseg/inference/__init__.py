"""Whole-volume inference: sessions, tiling, predictor. No TensorFlow.

Here are the names that a user chooses from; the command line lists them without loading anything.
"""

from typing import Literal, get_args

Device = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
Precision = Literal["float32", "bfloat16"]
# Of a network whose outputs depend on their receptive field alone, where one pass does not fit:
# those that equal one pass; also those with too narrow a halo; also blended and smaller ones.
Tiles = Literal["exact", "close", "any"]
DEVICES: tuple[Device, ...] = get_args(Device)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
TILES: tuple[Tiles, ...] = get_args(Tiles)
LAYOUTS = ("flat", "bids")  # of what predict writes
SEG = "dicom-seg"  # a format of label maps alone
FORMAT_NAMES = ("nifti", "nrrd", "mha", SEG)
