"""A training patch: read where it was drawn, and changed at random so that its meaning stays."""

import numpy as np

from vol3dseg.config import AugmentConfig
from vol3dseg.training.intensities import change_intensities
from vol3dseg.training.off_grid import interpolated
from vol3dseg.training.sampling import CaseReader, Draw, Patch
from vol3dseg.training.warping import draw_warp


def augmented(reader: CaseReader, draw: Draw, config: AugmentConfig) -> Patch:
    """Return the patch of a draw, turned, resized, bent, mirrored, and with other intensities.

    What is around its box is read as far as a turned patch reaches; zeros come in where the scan
    ends, as they do at inference. The voxel that a draw was made for is in the patch, whatever is
    done to it.
    """
    box, rng = draw.box, draw.rng
    spacing = reader.cases[draw.case].geometry.spacing_mm
    warp = draw_warp(box.shape, spacing, config, rng)
    if warp is None:
        image, label = reader.patch(draw)
        channels = np.array(np.moveaxis(image, -1, 0), order="C")
    else:
        offset = warp.offset(box, draw.held)
        part = reader.around(draw.case, warp.reach(box.shape, offset))
        channels, label = interpolated(part, warp, offset, box.shape)
    mirrored = tuple(
        axis
        for axis, name in enumerate("ijk")
        if name in config.flip_axes and rng.random() < config.flip
    )
    for modality in channels:
        change_intensities(modality, spacing, config, rng)
    image = np.flip(np.moveaxis(channels, 0, -1), mirrored)
    return image, np.flip(label, mirrored)
